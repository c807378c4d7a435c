"""Reads the requests of one HTTP/1.1 connection within the limits of the settings; parsing itself is httptools'."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import httptools

from libskylark.eventing.bodies import SMALL_BYTES, Body, BodyRoom
from libskylark.eventing.http_messages import Head, Refused, Response, Take
from libskylark.eventing.http_upgrades import PastHead, head_again
from libskylark.eventing.settings import BrokerSettings

PIECE_BYTES: Final = 16 * 1024  # of what has come, that is parsed at once
_TARGET_BYTES: Final = 4096
_VERSIONS: Final = ("1.0", "1.1")

log = logging.getLogger("skylark.broker")


@dataclass(slots=True, eq=False)
class Exchange:
    """A request that was read to its end, until its answer is written: `take` gives it, where it is not there yet."""

    closes: bool  # the connection, with the answer
    is_begun: bool = False  # given to whoever takes it
    is_old: bool = False  # HTTP/1.0, where a connection is not kept unless the answer says so
    with_body: bool = True
    take: Take | None = None
    body: Body | None = None
    response: Response | None = None


class RequestReader:
    """Gives every request to `on_request`, in their order; of one that may end the connection nothing is read on."""

    def __init__(
        self,
        settings: BrokerSettings,
        room: BodyRoom,
        admit: Callable[[Head], Take],
        on_request: Callable[[Exchange], None],
    ) -> None:
        """`admit` says of a head who takes its body; raises Refused."""
        self._settings = settings
        self._room = room
        self._admit = admit
        self._on_request = on_request
        self.reading: Literal["head", "body"] | None = None
        self.is_timed = False  # what is being read, by whoever feeds this
        self.is_done = False  # nothing more is read
        self.is_refused = False  # what was read last, for what it is as HTTP
        self._head_again = b""  # what the next parser is given first, to read on behind the head of an upgrade
        self._begin()
        self._parser = httptools.HttpRequestParser(self)

    def _begin(self) -> None:
        self._target = b""
        self._fields: list[bytes] = []  # names and values, in turn
        self._headers: dict[str, str] = {}
        self._repeated: dict[str, int] = {}
        self._dropped_bytes = 0
        self._body_bytes = self._bare_bytes = 0  # of the body until now, and what has come since without any of it
        self._expects = False
        self._take: Take | None = None
        self._body: Body | None = None
        self._refused: Refused | None = None

    def feed(self, data: bytes) -> None:
        """Takes what has come, PIECE_BYTES at most."""
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError:
            self.refuse(fault())
        except httptools.HttpParserError as error:
            if not self.is_done:
                self.refuse(Refused(400, f"the request is no HTTP/1.1: {error}"))
        if self.reading is not None and not self.is_done:
            self._bound(len(data))

    def wants_to_continue(self) -> bool:
        """Whether the sender waits to hear that it may send its body; says so once."""
        expects, self._expects = self._expects, False
        return expects and self.reading == "body" and not self.is_done

    def refuse(self, refused: Refused) -> None:
        """The last answer; it was refused already, where the rest of the body was only waited for."""
        self.end()
        self.is_refused = True
        self._on_request(Exchange(True, response=(self._refused or refused).response))

    def end(self) -> None:
        """Nothing more is read, and nothing held."""
        self.is_done = True
        if self._body is not None:
            self._body.release()
            self._body = None

    def close(self) -> None:
        """The connection is gone."""
        self.end()
        # These refer to us: together we would stay until a full collection, which is rare.
        del self._parser, self._admit, self._on_request

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # It may be ignored: what follows is the body, if there is one, and further requests.
                data = self._head_again + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(PastHead(self) if self._head_again else self)
                self._head_again = b""

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.reading, self.is_timed = "head", False

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > _TARGET_BYTES and not self.is_done:
            self.refuse(Refused(414, f"the request's target is longer than {_TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reading == "head":  # trailers are no part of an event
            self._fields += (name, value)

    def on_headers_complete(self) -> None:
        self.reading, self.is_timed = "body", False
        if self.is_done:
            return
        try:
            self._read_fields()
            announced_bytes = self._check_framing()
            self._body = Body(self._room, announced_bytes)
        except Refused as refused:
            self.refuse(refused)
            return
        method = self._parser.get_method().decode("latin-1")
        try:
            self._take = self._admit(Head(method, self._target, self._headers, self._repeated))
        except Refused as refused:
            self._refused = refused.with_traceback(None)  # which refers to us
            if self._expects or announced_bytes > SMALL_BYTES or method == "CONNECT":
                self.refuse(refused)  # else the body is waited for, and the connection can be kept
        except Exception:
            self.refuse(fault())
        if "upgrade" in self._headers and not self.is_done:
            self._head_again = head_again(self._parser, announced_bytes, "transfer-encoding" in self._headers)

    def on_body(self, chunk: bytes) -> None:
        if self.is_done:
            return
        if self._refused is not None:
            self._dropped_bytes += len(chunk)
            if self._dropped_bytes > SMALL_BYTES:
                self.refuse(self._refused)
            return
        assert self._body is not None, "made with the head"
        try:
            self._body.add(chunk)
        except Refused as refused:
            self.refuse(refused)

    def on_message_complete(self) -> None:
        if self._head_again:
            return  # the body is yet to come
        self.reading = None
        if self.is_done:
            return
        self.is_done = not self._parser.should_keep_alive()
        exchange = Exchange(
            closes=self.is_done,
            is_old=self._parser.get_http_version() == "1.0",
            with_body=self._parser.get_method() != b"HEAD",
            take=self._take,
            body=self._body,
            response=self._refused.response if self._refused is not None else None,
        )
        self._begin()
        self._on_request(exchange)

    # Limits.

    def _read_fields(self) -> None:
        if not self._fields:
            return
        limits, count = self._settings, len(self._fields) // 2
        if count > limits.max_headers:
            raise Refused(431, f"found {count} headers, expected at most {limits.max_headers}")
        # All at once takes a third of the time: the parser lets no line break through.
        text = b"\n".join(self._fields).decode("latin-1")
        if (size_bytes := len(text) - 2 * count + 1) > limits.max_header_bytes:
            raise Refused(431, f"found {size_bytes} bytes of headers, expected at most {limits.max_header_bytes}")
        parts = text.split("\n")
        names, values = [*map(str.lower, parts[::2])], parts[1::2]
        if " \n" in text or "\t\n" in text or text[-1] in " \t":  # which the parser leaves at the end of a value
            values = [value.rstrip(" \t") for value in values]
        self._headers = dict(zip(names, values, strict=True))
        if len(self._headers) != count:
            self._repeated = {name: times for name, times in Counter(names).items() if times > 1}

    def _check_framing(self) -> int:
        """The length of the body that was announced, 0 for none; raises Refused."""
        version, headers = self._parser.get_http_version(), self._headers
        if version not in _VERSIONS:
            raise Refused(400, f"found HTTP/{version}, expected HTTP/1.1")
        if "host" in self._repeated or ("host" not in headers and version == "1.1"):
            raise Refused(400, f"found {self._repeated.get('host', 0)} Host headers, expected one")
        coding = headers.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or "transfer-encoding" in self._repeated):
            raise Refused(400, f"found transfer coding {coding!r}, expected chunked or none")
        if coding is not None and version == "1.0":
            raise Refused(400, "found a transfer coding in HTTP/1.0, expected Content-Length")
        self._expects = headers.get("expect", "").lower() == "100-continue" and version == "1.1"
        return int(headers.get("content-length", 0))  # the parser takes nothing but a number

    def _bound(self, fed_bytes: int) -> None:
        """Of a request that goes on; the parser keeps a header, or a trailer, until it has the whole of it."""
        body_bytes = self._dropped_bytes + (self._body.size_bytes if self._body is not None else 0)
        if body_bytes != self._body_bytes:
            self._body_bytes, self._bare_bytes = body_bytes, 0
            return
        self._bare_bytes += fed_bytes
        if self._bare_bytes > self._settings.max_header_bytes + PIECE_BYTES:
            what = "head is" if self.reading == "head" else "body's extensions or trailers are"
            self.refuse(Refused(431, f"the {what} longer than {self._settings.max_header_bytes} bytes"))


def fault() -> Refused:
    """The answer to a request that meets a fault of ours, which is logged."""
    log.exception("a request met a fault of the broker")
    return Refused(500, "the broker failed; its log says how")
