"""Requests and answers as the broker's server and the broker's routes pass them to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import unquote

from libskylark import problem

_MOST_PARTS: Final = 8  # of a path that are told apart: none that leads anywhere has as many
RETRY_AFTER: Final = ("Retry-After", "1")
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Head:
    """A request before its body: headers in lower case, of those given more than once the last one."""

    method: str
    target: bytes
    headers: dict[str, str]
    repeated: Mapping[str, int]

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's, decoded."""
        return _parts(self.target)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; its length and the date are the server's to add."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self, date: str, connection: str | None, with_body: bool = True) -> bytes:
        """As it goes over the wire; `connection` is the header of this name, None where it says nothing new."""
        lines = f"HTTP/1.1 {self.status} {_PHRASES[self.status]}\r\nDate: {date}\r\n"
        for name, value in self.headers:
            lines += f"{name}: {value}\r\n"
        if connection is not None:
            lines += f"Connection: {connection}\r\n"
        head = f"{lines}Content-Length: {len(self.body)}\r\n\r\n".encode("latin-1")
        return head + self.body if with_body else head


class Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        faults: Mapping[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        body = problem.problem(status, detail, faults)
        self.response = Response(status, (*headers, ("Content-Type", problem.CONTENT_TYPE)), body)


Reply = Callable[[Response], None]
#: Takes the body of a request, and replies once, now or later; raises Refused.
Take = Callable[[bytes, Reply], None]


class Application(Protocol):
    """What is served: it says of each request by its head who takes the body."""

    def admit(self, head: Head) -> Take:
        """Raises Refused for a request whose body need not be read."""
        ...

    def count_refusal(self, status: int) -> None:
        """A request was answered with a problem, be it by the server itself."""
        ...


@lru_cache(maxsize=256)
def _parts(target: bytes) -> tuple[str, ...]:
    path = unquote(target.partition(b"?")[0].decode("latin-1"))
    parts = tuple(path.strip("/").split("/", _MOST_PARTS))
    if parts[0].lower() in ("http:", "https:"):  # the absolute form of a request's target
        return parts[3:] or ("",)
    return parts
