"""A load on a broker, by bare asyncio protocols: many senders, each with one event under way, and their times."""

from __future__ import annotations

import asyncio
import math
import random
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from libskylark.bench.statistics import quantile
from libskylark.errors import LabError

TYPE: Final = "dev.skylark.bench"
BODY_BYTES: Final = 1024
HOST: Final = "127.0.0.1"
HEAD_END: Final = b"\r\n\r\n"

_MOST_EVENTS: Final = 500_000  # of one load
_ACCEPTED: Final = b"HTTP/1.1 202 "


@dataclass(frozen=True, slots=True)
class Load:
    """`concurrency` events under way at all times or, with a rate, so many sent a second, whatever is under way.

    After so many `seconds`, events that were accepted are waited for, `stragglers_s` at most.
    """

    seconds: float
    concurrency: int = 1
    rate_per_s: float = 0.0
    stragglers_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of a load; `ms` has the sorted times from a request's first byte to the subscriber, of each event."""

    accepted: int
    delivered: int
    duplicates: int
    seconds: float  # from the first event sent to the last one delivered
    ms: array[float]

    @property
    def events_per_s(self) -> float:
        return self.delivered / self.seconds

    def percentile_ms(self, share: float) -> float:
        return quantile(self.ms, share)


class Ledger:
    """When each event of a load was sent and first delivered, by its number; 0 for not yet."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.sent_s, self.delivered_s = array("d"), array("d")
        self.accepted = self.delivered = self.duplicates = 0
        self.waiting: dict[int, _Sender] = {}  # whose event was not delivered yet
        self.changed = asyncio.Event()

    def send(self, sender: _Sender) -> int:
        """The number of an event that is sent now; its delivery will be told to the sender."""
        self.waiting[len(self.sent_s)] = sender
        self.sent_s.append(time.perf_counter())
        self.delivered_s.append(0.0)
        return len(self.sent_s) - 1

    def deliver(self, number: int) -> None:
        if self.delivered_s[number]:
            self.duplicates += 1
            return
        self.delivered_s[number] = time.perf_counter()
        self.delivered += 1
        if (sender := self.waiting.pop(number, None)) is not None:
            sender.half_ended()

    def passage(self) -> Passage:
        times = [(sent, got) for sent, got in zip(self.sent_s, self.delivered_s, strict=True) if got]
        took_s = max(got for _, got in times) - self.sent_s[0]
        ms = array("d", sorted((got - sent) * 1000 for sent, got in times))
        return Passage(self.accepted, self.delivered, self.duplicates, took_s, ms)


class Senders:
    """A load on the way: connections that each have one event under way."""

    def __init__(self, ledger: Ledger, load: Load, port: int) -> None:
        self.ledger = ledger
        self.connected: list[_Sender] = []
        self.idle: list[_Sender] = []
        self.failure = ""
        self._load = load
        self._port = port
        self._until_s = math.inf
        body = random.Random(1).randbytes(BODY_BYTES)
        attributes = f"ce-specversion: 1.0\r\nce-source: /skylark/bench\r\nce-type: {TYPE}\r\n"
        attributes += "ce-time: 2026-11-24T00:00:00.000Z\r\nContent-Type: application/octet-stream\r\n"
        head = f"POST /default/default HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: {len(body)}\r\n"
        self._before = f"{head}{attributes}ce-id: ".encode()
        self._after = HEAD_END + body

    @property
    def going_on(self) -> bool:
        return time.perf_counter() < self._until_s and len(self.ledger.sent_s) < _MOST_EVENTS and not self.failure

    async def run(self) -> Passage:
        self.ledger.begin()
        try:
            for _ in range(self._load.concurrency):
                await self._connect()
            self._until_s = time.perf_counter() + self._load.seconds
            await (self._paced() if self._load.rate_per_s else self._closed_loop())
            await self._settled(self._load.stragglers_s)
        finally:
            for sender in self.connected:
                sender.close()
        if self.failure:
            raise LabError(f"the broker did not take an event: {self.failure}")
        if not self.ledger.delivered:
            raise LabError(f"none of {self.ledger.accepted} accepted events was delivered")
        return self.ledger.passage()

    def send(self, sender: _Sender) -> bytes:
        """The request of the next event, which is now under way."""
        number = self.ledger.send(sender)
        return b"%b%09d%b" % (self._before, number, self._after)

    def ended(self, sender: _Sender) -> None:
        """The sender's event was accepted and delivered."""
        if self.going_on and not self._load.rate_per_s:
            sender.send()
            return
        self.idle.append(sender)
        self.ledger.changed.set()

    def failed(self, what: str) -> None:
        self.failure = self.failure or what
        self.ledger.changed.set()

    async def _connect(self) -> None:
        _, sender = await asyncio.get_running_loop().create_connection(lambda: _Sender(self), HOST, self._port)
        self.connected.append(sender)
        self.idle.append(sender)

    async def _closed_loop(self) -> None:
        senders, self.idle = self.idle, []
        for sender in senders:
            sender.send()
        await self._settled(self._load.seconds)

    async def _paced(self) -> None:
        due_s = time.perf_counter()
        while self.going_on:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            due_s += 1 / self._load.rate_per_s
            if not self.idle:
                await self._connect()
            self.idle.pop().send()

    async def _settled(self, within_s: float) -> None:
        """Returns when nothing is under way, something failed, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while len(self.idle) < len(self.connected) and not self.failure:
                    self.ledger.changed.clear()
                    await self.ledger.changed.wait()


class _Sender(asyncio.Protocol):
    """One connection, with one event under way until it is both accepted and delivered: as a sender has it whom the
    broker holds until then.
    """

    def __init__(self, senders: Senders) -> None:
        self._senders = senders
        self._buffer = b""
        self._half = False
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def send(self) -> None:
        self._transport.write(self._senders.send(self))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.startswith(_ACCEPTED):
            self._senders.failed(self._buffer[:500].decode(errors="replace"))
        elif self._buffer.endswith(HEAD_END):
            self._buffer = b""
            self._senders.ledger.accepted += 1
            self.half_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._senders.failed(f"a connection was lost: {exc or 'closed'}")

    def half_ended(self) -> None:
        """The event was accepted, or delivered."""
        self._half = not self._half
        if not self._half:
            self._senders.ended(self)

    def close(self) -> None:
        self._closing = True
        self._transport.close()
