"""One relayed connection: two pumps that read, send the bytes down a flow, and deliver them when they are due."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from libskylark.lab.links.effects import Gate
from libskylark.lab.links.pair import Pair
from libskylark.lab.links.route import Flow

#: How far ahead of the present a pump sends: a late wake-up of this process then leaves no gap on the link.
_LEAD_S: Final = 0.01
#: Bytes that take no longer than this to read were there before they were asked for.
_AT_ONCE_S: Final = 0.001
#: What the kernel keeps for each socket of a relay, beside the pump's window.
SOCKET_BUFFER_BYTES: Final = 1 << 18
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s

#: In a queue of bytes: the sender has ended with FIN, or with RST.
_END: Final = b""
_RESET: Final = None


async def sleep_until(time_s: float) -> None:
    """Until a time of the running event loop's clock; returns at once where it has passed."""
    if (left_s := time_s - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(left_s)


@dataclass
class Pump:
    """One direction of a connection, from `source` to `target`.

    What was read and is not delivered yet stays within `window_bytes` and a chunk. `source_broken` says that
    `source` failed when it was written to: its end is no orderly one.
    """

    gate: Gate
    flow: Flow
    source: socket.socket
    target: socket.socket
    window_bytes: int
    other: Pump = field(init=False, repr=False)
    source_broken: bool = False
    waiting_bytes: int = 0

    def __post_init__(self) -> None:
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """Until the sender has ended and the receiver has got everything; raises ConnectionResetError for an RST."""
        taking = asyncio.create_task(self._take())
        try:
            await self._give()
        finally:
            taking.cancel()
            await asyncio.wait([taking])

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        data: bytes | None = b"-"
        behind_s = 0.0
        while data:
            while self.waiting_bytes >= self.window_bytes:
                behind_s = 0.0
                self._drained.clear()
                await self._drained.wait()
            asked_s = loop.time()
            try:
                data = await loop.sock_recv(self.source, self.flow.chunk_bytes)
            except OSError:
                data = _RESET
            if self.source_broken and not data:
                data = _RESET
            await self.gate.passed()
            if (ready_s := loop.time()) - asked_s > _AT_ONCE_S:
                behind_s = 0.0
            sent_s, due_s = self.flow.send(len(data or b""), ready_s - behind_s)
            self.waiting_bytes += len(data or b"")
            self._queue.append((due_s, data))
            self._filled.set()
            behind_s = await self._pace(sent_s - _LEAD_S, behind_s)

    async def _pace(self, time_s: float, behind_s: float) -> float:
        """Wait until then; by how much what comes next is to be sent as if it were earlier.

        A process that is woken late has bytes waiting that would have been sent meanwhile.
        """
        loop = asyncio.get_running_loop()
        waits = time_s > loop.time()
        await sleep_until(time_s)
        late_s = loop.time() - time_s
        return late_s if waits else min(behind_s, late_s)

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            due_s, data = self._queue[0]
            await sleep_until(due_s)
            await self.gate.passed()
            if data is _RESET:
                raise ConnectionResetError
            try:
                if data == _END:
                    self.target.shutdown(socket.SHUT_WR)
                    return
                await loop.sock_sendall(self.target, data)
            except OSError:
                # Not the end yet: what the target sent before it broke may be on its way to the source.
                self.other.source_broken = True
                return
            self._queue.popleft()
            self.waiting_bytes -= len(data)
            self._drained.set()


class Connection:
    """A connection that `source` made to the other node of a pair; `client` is its accepted end, `address` where it
    leads. Whoever runs it closes it, in whatever way `run` ended. Equal seeds draw equal jitter."""

    def __init__(
        self, pair: Pair, source: str, client: socket.socket, address: tuple[str, int], window_bytes: int, seed: str
    ) -> None:
        self.pair = pair
        self._address = address
        self._client = prepared(client)
        self._server = prepared(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        there, back = (
            Flow(partial(pair.routes.__getitem__, sender), Random(f"{seed} {sender}"))
            for sender in (source, pair.other(source))
        )
        self._there = Pump(pair.gate, there, self._client, self._server, window_bytes)
        self._back = Pump(pair.gate, back, self._server, self._client, window_bytes)
        self._there.other, self._back.other = self._back, self._there
        self._ended_well = False

    @property
    def waiting_bytes(self) -> int:
        return self._there.waiting_bytes + self._back.waiting_bytes

    async def run(self) -> None:
        """Until both directions have ended, or one end has refused or reset the connection."""
        with contextlib.suppress(OSError):
            await self._connect()
            await self._pump()
            self._ended_well = True

    def close(self) -> None:
        """Close both sockets; by RST, unless both directions ended well."""
        for end in (self._client, self._server):
            if not self._ended_well:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()

    async def _connect(self) -> None:
        """The way of a SYN to the server and, as the client may not send before, that of the answer back."""
        loop = asyncio.get_running_loop()
        _, arrives_s = self._there.flow.send(0, loop.time())
        await sleep_until(arrives_s)
        await self.pair.gate.passed()
        refused: OSError | None = None
        try:
            await loop.sock_connect(self._server, self._address)
        except OSError as error:
            refused = error
        _, answered_s = self._back.flow.send(0, loop.time())
        await sleep_until(answered_s)
        if refused is not None:
            raise refused

    async def _pump(self) -> None:
        tasks = [asyncio.create_task(pump.run()) for pump in (self._there, self._back)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            # A socket must not be closed while the loop still watches it: its number may be given out again.
            await asyncio.wait(tasks)


def prepared(end: socket.socket) -> socket.socket:
    """One end of a relayed connection: it never blocks, holds nothing back, and keeps its buffers small."""
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    return end
