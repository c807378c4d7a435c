"""One kept HTTP/1.1 connection: requests over it, one at a time, and the reading of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, cast

import httptools

from libskylark.eventing.alarm import Alarm
from libskylark.eventing.answer_room import SMALL_BYTES, AnswerRoom

_KEEPALIVE_S: Final = 15.0
_HEAD_BYTES: Final = 64 * 1024  # of an answer, and all else in it that is no body
_JOINED_BYTES: Final = 64 * 1024  # a body up to here goes out with its head in one piece
_CUT_BYTES: Final = 64 * 1024  # more of a refusal, or of what nobody takes, is of no use
_BODYLESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; headers in lower case, `body` None where it is longer than the limit.

    Of the body of an answer that is not 2xx, or that nobody takes, it may be the beginning only.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


class Unanswered(ConnectionResetError):
    """The connection ended before the first byte of an answer."""


class Connection(asyncio.Protocol):
    """One connection; it goes back to `idle`, its place's, with every answer after which it can be used again.

    Its alarm is for the answer while one is waited for, and for the end of an idle time else.

    An answer that is not small is read once `room` has room for it; the alarm stands still while it waits.
    """

    def __init__(self, idle: list[Connection], body_limit_bytes: int, room: AnswerRoom, place: Hashable) -> None:
        self._idle = idle
        self._body_limit_bytes = body_limit_bytes
        self._room = room
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Response] | None = None
        self._alarm = Alarm(self._loop, self._end_wait)
        self._heard = False  # anything, since the request
        self._head_bytes = 0  # since the request: interim answers, head, and what stands around the body's chunks
        self._takes_reply = True
        self._waits = False  # for room
        self._left_s = 0.0  # for the answer, when its wait began
        self._begin()
        self._parser = httptools.HttpResponseParser(self)

    def _begin(self) -> None:
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()  # a list of its chunks would take forty times their size, where they have a byte each
        self._in_body = self._ends_with_connection = self._is_cut = self._has_asked = False
        self._most_bytes = self._body_limit_bytes

    async def post(self, head: bytes, body: bytes, due_s: float, takes_reply: bool) -> Response:
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._answer = answer
        self._heard = False
        self._head_bytes = 0
        self._takes_reply = takes_reply
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        self._alarm.set_at(due_s)
        try:
            return await answer
        except asyncio.CancelledError:
            self._transport.abort()
            raise

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self._transport.abort()  # nothing was asked
            return
        self._heard = True
        body_bytes = len(self._body)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionError(f"the answer is no HTTP/1.1: {error!r}"))
        if self._answer is not None and len(self._body) == body_bytes:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self._fail(ConnectionError(f"the answer's head is longer than {_HEAD_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and self._ends_with_connection and exc is None:
            self._finish(bytes(self._body))
        kind = ConnectionResetError if self._heard else Unanswered
        self._fail(kind(f"the connection was closed before the answer's end: {exc or 'end of stream'}"))
        self._waits = False  # there is nothing to go on with
        self._alarm.close()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # what comes after it are trailers, which are no part of an event
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._is_cut = not self._takes_reply or not 200 <= self._parser.get_status_code() < 300
        self._most_bytes = min(self._body_limit_bytes, _CUT_BYTES) if self._is_cut else self._body_limit_bytes
        named = dict(self._headers)
        length = named.get("content-length", "")
        length_bytes = int(length) if length.isdecimal() and not self._is_cut else 0
        if length_bytes > self._body_limit_bytes:
            self._finish(None)
        elif length_bytes > SMALL_BYTES:
            self._ask_room(length_bytes)
        bounded = "content-length" in named or "transfer-encoding" in named
        self._ends_with_connection = not bounded and self._parser.get_status_code() not in _BODYLESS

    def on_body(self, chunk: bytes) -> None:
        if self._answer is None:  # what was wanted is there; the rest of these bytes cannot be left unparsed
            return
        self._body += chunk
        if len(self._body) > self._most_bytes:
            self._finish(bytes(self._body[: self._most_bytes]) if self._is_cut else None)
        elif len(self._body) > SMALL_BYTES and not self._has_asked:  # nobody has said how long it is
            self._ask_room(self._most_bytes)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # else the final answer is still to come
            self._finish(bytes(self._body), reusable=self._parser.should_keep_alive())
        self._begin()

    # Room.

    def _ask_room(self, size_bytes: int) -> None:
        if self._answer is None or self._answer.done():
            return
        self._has_asked = self._waits = True
        self._transport.pause_reading()
        self._left_s = self._alarm.left_s
        self._alarm.stop()
        self._room.ask(self._answer, self._place, size_bytes, self._go_on)

    def _go_on(self) -> None:
        if self._waits:
            self._waits = False
            self._transport.resume_reading()
            self._alarm.set(self._left_s)

    # Ends.

    def _finish(self, body: bytes | None, reusable: bool = False) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():  # more than was asked for, or nobody waits any more
            self._transport.abort()
            return
        answer.set_result(Response(self._parser.get_status_code(), self._headers, body))
        if reusable and not self.is_closing and not self._transport.get_write_buffer_size():
            self._go_on()  # all of it may have come before its turn
            self._idle.append(self)
            self._alarm.set(_KEEPALIVE_S)
        else:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self._transport.abort()

    def _end_wait(self) -> None:
        if self._answer is not None:
            self._fail(TimeoutError())
        else:
            self.close()
