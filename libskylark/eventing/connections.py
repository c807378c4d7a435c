"""HTTP/1.1 POSTs over connections that are kept: one request at a time on each, and as many as it takes."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache

from yarl import URL

from libskylark.eventing.answer_room import AnswerRoom
from libskylark.eventing.http_connection import Connection, Response, Unanswered
from libskylark.eventing.lookups import Lookups
from libskylark.eventing.outbound import Outbound


class Connections:
    """Kept connections by the place that they lead to. Their answers share the room."""

    def __init__(self, body_limit_bytes: int, outbound: Outbound | None = None, room: AnswerRoom | None = None) -> None:
        self._body_limit_bytes = body_limit_bytes
        self._outbound = outbound or Outbound()
        self._room = room or AnswerRoom()
        self._lookups = Lookups()
        self._idle: dict[_Place, list[Connection]] = defaultdict(list)

    async def post(
        self, url: URL, headers: Mapping[str, str], body: bytes, timeout_s: float, takes_reply: bool = True
    ) -> Response:
        """One request, redirects not followed. Raises TimeoutError, OSError (ssl's errors among them), and ValueError
        for a header that cannot be written. While a long answer waits for room, `timeout_s` stands still. Where
        nobody `takes_reply`, only the beginning of any answer is read, which needs no room.

        The other side may close a kept connection just when it is used. Where one ends before the first byte of the
        answer, the request is sent once more, over a new one. It may have been carried out all the same, which is
        no more than a subscriber must expect: it gets every event at least once, and knows it again by its id.
        """
        place, start = _route(url)
        texts = "".join([*headers, *headers.values()])
        if "\n" in texts or "\r" in texts or "\0" in texts:
            raise ValueError("a header has a line break or a NUL in it")
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if (authorization := self._outbound.authorization(place.host, place.port)) is not None:
            lines.append(f"Authorization: {authorization}")
        head = "\r\n".join([start, *lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1")
        due_s = asyncio.get_running_loop().time() + timeout_s
        if (kept := self._kept(place)) is not None:
            try:
                return await kept.post(head, body, due_s, takes_reply)
            except Unanswered as error:
                error.__traceback__ = None  # it leads back to itself by frames that hold the body
        connection = await self._connect(place, due_s)
        return await connection.post(head, body, due_s, takes_reply)

    def close(self) -> None:
        """Ends the connections on which nothing is under way, and lookups; none is opened any more."""
        self._lookups.close()
        for idle in self._idle.values():
            for connection in [*idle]:
                connection.close()

    def _kept(self, place: _Place) -> Connection | None:
        idle = self._idle[place]
        while idle:
            if not (connection := idle.pop()).is_closing:
                return connection
        return None

    async def _connect(self, place: _Place, due_s: float) -> Connection:
        async with asyncio.timeout_at(due_s):
            *others, last = await self._addresses(place)
            for address in others:
                with suppress(OSError):
                    return await self._open(place, address)
            return await self._open(place, last)

    async def _open(self, place: _Place, address: str) -> Connection:
        tls, idle = self._tls if place.secure else None, self._idle[place]
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(idle, self._body_limit_bytes, self._room, place),
            address,
            place.port,
            ssl=tls,
            server_hostname=place.host if tls else None,
        )
        return connection

    async def _addresses(self, place: _Place) -> list[str]:
        """What a host leads to now; raises PermissionError where that is not allowed, as a name may be turned."""
        found = await self._lookups.addresses(place.host)
        if not self._outbound.looks_up(place.host):
            return found
        allow = self._outbound.allow
        assert allow is not None, "else nothing has to be looked up"
        if allowed := [address for address in found if allow.allows(place.host, address, place.port)]:
            return allowed
        where = ", ".join(found)
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
