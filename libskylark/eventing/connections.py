"""HTTP/1.1 POSTs over connections that are kept: one request at a time on each, and as many as it takes."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, cast

import httptools
from yarl import URL

from libskylark.eventing.outbound import Outbound

_KEEPALIVE_S: Final = 15.0
_HEAD_BYTES: Final = 64 * 1024  # of an answer
_JOINED_BYTES: Final = 64 * 1024  # a body up to here goes out with its head in one piece
_BODYLESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; headers in lower case, `body` None where it is longer than the limit."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


class Connections:
    """Kept connections by the place that they lead to."""

    def __init__(self, body_limit_bytes: int, outbound: Outbound | None = None) -> None:
        self._body_limit_bytes = body_limit_bytes
        self._outbound = outbound or Outbound()
        self._idle: dict[_Place, list[_Connection]] = defaultdict(list)

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Response:
        """One request, redirects not followed. Raises TimeoutError, OSError (ssl's errors among them), and ValueError
        for a header that cannot be written.
        """
        place, start = _route(url)
        texts = "".join([*headers, *headers.values()])
        if any(forbidden in texts for forbidden in "\r\n\0"):
            raise ValueError("a header has a line break or a NUL in it")
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if (authorization := self._outbound.authorization(place.host, place.port)) is not None:
            lines.append(f"Authorization: {authorization}")
        head = "\r\n".join([start, *lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1")
        due_s = asyncio.get_running_loop().time() + timeout_s
        connection = self._kept(place) or await self._connect(place, due_s)
        return await connection.post(head, body, due_s)

    def close(self) -> None:
        """Ends the connections on which nothing is under way."""
        for idle in self._idle.values():
            for connection in [*idle]:
                connection.close()

    def _kept(self, place: _Place) -> _Connection | None:
        idle = self._idle[place]
        while idle:
            if not (connection := idle.pop()).is_closing:
                return connection
        return None

    async def _connect(self, place: _Place, due_s: float) -> _Connection:
        loop, idle = asyncio.get_running_loop(), self._idle[place]
        tls = self._tls if place.secure else None
        async with asyncio.timeout_at(due_s):
            host = await self._allowed_address(place) if self._outbound.looks_up(place.host) else place.host
            _, connection = await loop.create_connection(
                lambda: _Connection(idle, self._body_limit_bytes),
                host,
                place.port,
                ssl=tls,
                server_hostname=place.host if tls else None,
            )
        return connection

    async def _allowed_address(self, place: _Place) -> str:
        """What a name leads to now; raises PermissionError where that is not allowed, as a name may be turned."""
        found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        addresses = [str(info[4][0]) for info in found]
        allow = self._outbound.allow
        assert allow is not None, "else nothing has to be looked up"
        for address in addresses:
            if allow.allows(place.host, address, place.port):
                return address
        where = ", ".join(addresses)
        raise PermissionError(f"{place.host} leads to {where}, which SKYLARK_SUBSCRIBER_ALLOW does not allow")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    secure: bool


@lru_cache(maxsize=4096)
def _route(url: URL) -> tuple[_Place, str]:
    """Where a request for this address goes, and how it starts."""
    if url.scheme not in ("http", "https") or not url.raw_host or url.port is None:
        raise ValueError(f"found {str(url)!r}, expected an absolute http or https address")
    host = f"[{url.raw_host}]" if ":" in url.raw_host else url.raw_host
    port = "" if url.is_default_port() else f":{url.port}"
    start = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: skylark"
    if url.user is not None:
        credentials = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
        start = start.replace("\r\nUser-Agent", f"\r\nAuthorization: Basic {credentials}\r\nUser-Agent")
    return _Place(url.raw_host, url.port, url.scheme == "https"), start


class _Connection(asyncio.Protocol):
    """One connection; it goes back to `idle`, its place's, with every answer after which it can be used again.

    Its one timer is for the answer while one is waited for, and for the end of an idle time else. It is set anew when
    it fires too early, not with every request.
    """

    def __init__(self, idle: list[_Connection], body_limit_bytes: int) -> None:
        self._idle = idle
        self._body_limit_bytes = body_limit_bytes
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._begin()
        self._parser = httptools.HttpResponseParser(self)

    def _begin(self) -> None:
        self._headers: list[tuple[str, str]] = []
        self._chunks: list[bytes] = []
        self._head_bytes = self._body_bytes = 0
        self._in_body = self._ends_with_connection = False

    async def post(self, head: bytes, body: bytes, due_s: float) -> Response:
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._answer = answer
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        self._wake_at(due_s)
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
        self._head_bytes += 0 if self._in_body else len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionError(f"the answer is no HTTP/1.1: {error!r}"))
        if self._head_bytes > _HEAD_BYTES and not self._in_body:
            self._fail(ConnectionError(f"the answer's head is longer than {_HEAD_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and self._ends_with_connection and exc is None:
            self._finish(b"".join(self._chunks))
        self._fail(ConnectionResetError(f"the connection was closed before the answer's end: {exc or 'end of stream'}"))
        if self._timer is not None:
            self._timer.cancel()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._in_body = True
        named = dict(self._headers)
        length = named.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_limit_bytes:
            self._finish(None)
        bounded = "content-length" in named or "transfer-encoding" in named
        self._ends_with_connection = not bounded and self._parser.get_status_code() not in _BODYLESS

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._body_bytes > self._body_limit_bytes:
            self._finish(None)
        else:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # else the final answer is still to come
            self._finish(b"".join(self._chunks), reusable=self._parser.should_keep_alive())
        self._begin()

    # Ends.

    def _finish(self, body: bytes | None, reusable: bool = False) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():  # more than was asked for, or nobody waits any more
            self._transport.abort()
            return
        answer.set_result(Response(self._parser.get_status_code(), self._headers, body))
        if reusable and not self.is_closing and not self._transport.get_write_buffer_size():
            self._idle.append(self)
            self._wake_at(self._loop.time() + _KEEPALIVE_S)
        else:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self._transport.abort()

    def _wake_at(self, due_s: float) -> None:
        self._due_s = due_s
        if self._timer is not None and self._timer.when() > due_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._loop.time() < self._due_s:
            self._wake_at(self._due_s)
        elif self._answer is not None:
            self._fail(TimeoutError())
        else:
            self.close()
