"""One sender's HTTP/1.1 connection: when requests are read, how long they may take, and their answers."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from libskylark.clock import http_date
from libskylark.eventing.alarm import Alarm
from libskylark.eventing.http_messages import RETRY_AFTER, Refused, Response
from libskylark.eventing.http_requests import PIECE_BYTES, Exchange, RequestReader, fault

if TYPE_CHECKING:
    from libskylark.eventing.http_server import HttpServer

_LINGER_S: Final = 0.5
_AT_ONCE: Final = 8  # requests of a connection that are answered at a time; of more, each waits for those before it


class ServerConnection(asyncio.Protocol):
    """One sender's connection; while a request is answered, what comes next is read no more than one piece ahead.

    Of a long piece, that part is parsed which a request or two take, and the rest when they are answered: as objects,
    tiny requests would take many times their size, and their answers even more.
    """

    def __init__(self, server: HttpServer, worker: Any) -> None:
        """`worker` is gunicorn's, which counts connections and says when it ends."""
        self._server = server
        self._settings = server.settings
        self._application = server.application
        self._clock = server.clock
        self._worker = worker
        self._loop: asyncio.AbstractEventLoop = worker.loop
        self._keep_alive_s = float(worker.cfg.keepalive)
        self._reader = RequestReader(server.settings, server.room, server.application.admit, self._begin)
        self._exchanges: deque[Exchange] = deque()
        self._alarm = Alarm(self._loop, self._end_wait)
        self._rest = b""  # of what has come, not parsed yet
        self._is_reading_paused = self._is_writing_paused = self._is_ended = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self._worker.nr_conns += 1
        self._server.note_open(self, self._worker)
        limit = self._settings.max_connections
        if self._worker.nr_conns > limit:
            self._reader.refuse(Refused(503, f"{limit} connections are open", headers=(RETRY_AFTER,)))
        else:
            self._alarm.set(self._settings.head_timeout_s)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader.is_done:
            return
        if self._exchanges and not self._is_reading_paused:
            self._pause_reading()
        if len(data) > PIECE_BYTES:
            self._rest = data
            self._read_rest()
            return
        reader.feed(data)
        if reader.reading is not None and not reader.is_timed and not reader.is_done:
            self._await_reading()

    def eof_received(self) -> bool:
        """Whether the connection stays open: for what the sender, who says no more, may still want to hear."""
        self._reader.end()
        if self._exchanges:
            self._exchanges[-1].closes = True
        return bool(self._exchanges)

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._alarm.set(self._settings.body_timeout_s)

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if not self._is_ended:
            self._write_answers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.nr_conns -= 1
        self._server.note_closed(self)
        self._end()
        self._reader.close()
        self._alarm.close()

    # Requests, and their answers in the same order.

    def _begin(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)
        if len(self._exchanges) <= _AT_ONCE and not self._is_writing_paused:
            self._start(exchange)
            if exchange.response is not None:
                self._write_answers()

    def _start(self, exchange: Exchange) -> None:
        """Gives it to whoever takes it; an answer at once is there after this, a later one is written when it comes."""
        if exchange.response is not None:
            self._answered(exchange, exchange.response)
        else:
            assert exchange.take is not None, "what has no answer yet was admitted"
            body = exchange.body.take() if exchange.body is not None else b""
            try:
                exchange.take(body, partial(self._answered, exchange))
            except Refused as refused:
                self._answered(exchange, refused.response)
            except Exception:
                self._answered(exchange, fault().response)
        exchange.is_begun = True

    def _answered(self, exchange: Exchange, response: Response) -> None:
        if exchange.body is not None:
            exchange.body.release()
        exchange.response = response
        if response.status >= 400:
            self._application.count_refusal(response.status)
        if exchange.is_begun and not self._is_ended:
            self._write_answers()

    def _write_answers(self) -> None:
        while self._exchanges and not self._is_writing_paused:
            exchange = self._exchanges[0]
            if not exchange.is_begun:
                self._start(exchange)
            if (response := exchange.response) is None:
                return
            self._exchanges.popleft()
            closes = exchange.closes or not self._keep_alive_s or not self._worker.alive
            connection = "close" if closes else "keep-alive" if exchange.is_old else None
            date = http_date(self._clock.now_s())
            self._transport.write(response.encode(date, connection, exchange.with_body))
            if closes:
                self._close()
                return
        if not self._exchanges and not self._is_writing_paused:
            if self._reader.reading is None:
                self._alarm.set(self._keep_alive_s)
            else:
                self._await_reading()
            if self._is_reading_paused:
                self._read_on()

    # What is read while, and after.

    def _pause_reading(self) -> None:
        self._is_reading_paused = True
        self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._rest:
            self._loop.call_soon(self._read_rest)
        else:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def _read_rest(self) -> None:
        """A body goes on at once; before further requests, others have their turn."""
        rest, self._rest = self._rest, b""
        while rest and not self._exchanges:
            piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
            self.data_received(piece)
            if self._reader.reading != "body":
                break
        if self._is_ended:
            return
        self._rest = rest
        if rest and not self._is_reading_paused:
            self._pause_reading()
        if self._is_reading_paused and not self._exchanges:
            self._read_on()

    def _await_reading(self) -> None:
        """From now on, what is being read has its time; whoever waits to be asked for a body is asked."""
        self._reader.is_timed = True
        if not self._is_writing_paused:  # else it is for the sender to read, first
            self._alarm.set(self._reading_s)
        if not self._exchanges and self._reader.wants_to_continue():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # The end.

    def close_idle(self) -> None:
        """Closes, unless a request is read or answered."""
        if not self._exchanges and self._reader.reading is None and not self._is_ended:
            self._close()

    def _close(self) -> None:
        """Closes; where the sender may still be sending, what comes is dropped for a moment first.

        A close with unread bytes resets the connection, and the answer would be lost with it.
        """
        is_amid = self._reader.is_refused or self._reader.reading is not None or self._is_reading_paused
        self._end()
        is_written = not self._transport.get_write_buffer_size()
        if is_amid and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
            if is_written:
                return
        self._alarm.set(_LINGER_S if is_written else self._settings.body_timeout_s)

    def _end(self) -> None:
        self._is_ended = True
        self._reader.end()
        for exchange in self._exchanges:
            if not exchange.is_begun and exchange.body is not None:
                exchange.body.release()
        self._exchanges.clear()
        self._rest = b""

    # Time.

    @property
    def _reading_s(self) -> float:
        """How long what is read now may take."""
        return self._settings.head_timeout_s if self._reader.reading == "head" else self._settings.body_timeout_s

    def _end_wait(self) -> None:
        if self._is_ended or self._is_writing_paused:
            self._transport.abort()  # nobody reads the answers, or will
        elif self._exchanges:
            self._alarm.set(self._reading_s)  # it is for us to answer
        elif (reading := self._reader.reading) is None:
            self._close()
        else:
            self._reader.refuse(Refused(408, f"the request's {reading} did not arrive within {self._reading_s:g} s"))
