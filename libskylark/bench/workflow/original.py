"""How the original of 2024 handed state on, re-created from its public code: its election, its store, its stages.

Its elect walked the cheapest path to the workflow's destination backwards, and took the first node to which a move
should take at most the objective: there and back once, and the bytes at one constant for all links, without the
factor 8 between bytes and bits. Who runs the next function was no input. A function wrote its state to the elected
node before its event left, over a connection of its own, as it read over one; nothing was compressed, and nothing
expired. The third function was always told to be Stateless, which stores at the destination.

What we give it beyond that: its events travel through our brokers, its election costs no request, and its connections
need no round trip but TCP's own.
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libskylark.errors import StoreUnavailable
from libskylark.topology import Topology

#: AVG_SAT_BANDWIDTH of its deployment, in what it took for Mbit/s.
BANDWIDTH: Final = 80
#: The function that every experiment ran with policy=Stateless, counted from 1.
STATELESS_STAGE: Final = 3

_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Elected:
    """A node, and how long the original expected a move there to take."""

    node: str
    predicted_ms: float


def estimate_ms(latency_ms: float, size_bytes: int) -> float:
    """Its T_mig: latency, "transmission", latency."""
    return latency_ms + size_bytes / (1000 * BANDWIDTH) + latency_ms


def elect(topology: Topology, local: str, destination: str, size_bytes: int, max_latency_ms: float) -> Elected:
    """Its policy Skylark; where no node of the path will do, the state stays. Raises NoRoute without a path."""
    routes = topology.routes(local)
    for node in reversed(routes.path(destination).nodes):
        predicted_ms = estimate_ms(routes.path(node).latency_ms, size_bytes)
        if predicted_ms <= max_latency_ms:
            return Elected(node, predicted_ms)
    return Elected(local, estimate_ms(0.0, size_bytes))


def elect_stateless(topology: Topology, local: str, destination: str, size_bytes: int) -> Elected:
    """Its policy Stateless. Raises NoRoute without a path."""
    return Elected(destination, estimate_ms(topology.routes(local).path(destination).latency_ms, size_bytes))


@dataclass(frozen=True, slots=True)
class FreshStore:
    """The Redis at `host`:`port`, by a connection for each operation; raises StoreUnavailable where one fails."""

    host: str
    port: int
    password: str | None = None

    def set(self, key: str, value: bytes) -> None:
        """Returns once Redis has the value."""
        with self._connection() as (connection, answer):
            connection.sendall(_command(b"SET", key.encode(), value))
            self._line(answer)

    def get(self, key: str) -> bytes:
        """The value under a key."""
        with self._connection() as (connection, answer):
            connection.sendall(_command(b"GET", key.encode()))
            length = int(self._line(answer)[1:])
            value = answer.read(length) if length > 0 else b""
            if len(value) != length:
                raise StoreUnavailable(self._address, f"sent {len(value)} of {length} bytes under {key}")
            return value

    @property
    def _address(self) -> str:
        return f"{self.host}:{self.port}"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[tuple[socket.socket, io.BufferedReader]]:
        try:
            with socket.create_connection((self.host, self.port), timeout=_TIMEOUT_S) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with connection.makefile("rb") as answer:
                    if self.password is not None:
                        connection.sendall(_command(b"AUTH", self.password.encode()))
                        self._line(answer)
                    yield connection, answer
        except OSError as error:
            raise StoreUnavailable(self._address, str(error) or type(error).__name__) from None

    def _line(self, answer: io.BufferedReader) -> bytes:
        line = answer.readline()
        if not line.endswith(b"\r\n") or line.startswith(b"-"):
            raise StoreUnavailable(self._address, f"answered {line[:80]!r}")
        return line


def _command(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts += [b"$%d\r\n" % len(word), word, b"\r\n"]
    return b"".join(parts)
