"""The queue of one Trigger: so many deliveries at a time, and the events of one partition in turn."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from libskylark.eventing.entry import Entry
from libskylark.eventing.metrics import Queue

# Deliveries that wait for their next attempt give their place to others, up to so many.
_PAUSED_LIMIT: Final = 64

log = logging.getLogger("skylark.broker")

Deliver = Callable[[Entry, "Lane"], Awaitable[Awaitable[Any]]]
"""Brings an entry to its end, and returns what to await until that end is stored."""


class Lane:
    """Hands entries to `deliver`, at most `limit` at once; one lane never waits for another.

    An entry with a partition is delivered after the end of every earlier entry of that partition was stored,
    so that the order holds across a crash as well. A `deliver` that raises is done with its entry, too.
    """

    def __init__(self, limit: int, deliver: Deliver) -> None:
        self._limit = limit
        self._deliver = deliver
        self._ready: deque[Entry] = deque()
        self._partitions: dict[str, deque[Entry]] = {}  # those with an entry under way, and what waits behind it
        self._returning: deque[asyncio.Future[None]] = deque()
        self._paused = 0
        self._in_flight = 0
        self._held = False
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asleep: set[asyncio.Task[Any]] = set()
        self._naps: dict[asyncio.Future[None], None] = {}  # in their order

    @property
    def queue(self) -> Queue:
        """How long it is now."""
        behind = sum(len(waiting) for waiting in self._partitions.values())
        return Queue(len(self._ready) + self._paused + behind, self._in_flight)

    def offer(self, entry: Entry) -> None:
        """Queues an entry; it is delivered when its turn comes."""
        if entry.partition is not None:
            waiting = self._partitions.get(entry.partition)
            if waiting is not None:
                waiting.append(entry)
                return
            self._partitions[entry.partition] = deque()
        self._ready.append(entry)
        self._fill()

    async def pause(self, delay_s: float, wakeable: bool = True) -> None:
        """Called within `deliver`, before another attempt: sleeps, and lets another entry go meanwhile."""
        sleep = self._sleep if wakeable else asyncio.sleep
        with self.interruptible():
            if self._paused >= _PAUSED_LIMIT:
                await sleep(delay_s)
            else:
                await self._pause_aside(sleep, delay_s)

    async def _pause_aside(self, sleep: Callable[[float], Awaitable[None]], delay_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paused += 1
        self._in_flight -= 1
        self._fill()
        try:
            await sleep(delay_s)
            self._returning.append(turn)
            self._fill()
            await turn
        except BaseException:
            if turn.cancelled() or not turn.done():  # else it has its place back
                turn.cancel()
                self._in_flight += 1  # which `_run` gives back
            raise
        finally:
            self._paused -= 1

    async def _sleep(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        nap: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(delay_s, _end, nap)
        self._naps[nap] = None
        try:
            await nap
        finally:
            timer.cancel()
            del self._naps[nap]

    def wake(self) -> None:
        """Ends all pauses that are wakeable: the next attempts are others than those that they were made for."""
        for nap in [*self._naps]:
            _end(nap)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What `deliver` waits for within it is given up when the lane halts."""
        task = asyncio.current_task()
        assert task is not None, "deliver runs in a task of its lane"
        if self._closed:
            raise asyncio.CancelledError
        self._asleep.add(task)
        try:
            yield
        finally:
            self._asleep.discard(task)

    def hold(self) -> None:
        """Starts nothing until it is released."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self._fill()

    def halt(self) -> None:
        """Starts nothing more, and gives up pauses."""
        self._closed = True
        for task in [*self._asleep]:
            task.cancel()

    def replaced(self) -> Lane:
        """Halts, for good; gives a lane in its place that has nothing to do yet."""
        lane = Lane(self._limit, self._deliver)
        lane._closed, lane._held = self._closed, self._held
        self.halt()
        return lane

    async def close(self, grace_s: float) -> None:
        """Starts nothing more, gives up pauses, and lets deliveries under way end within the grace."""
        self.halt()
        tasks = [*self._tasks]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        while not self._closed and not self._held and self._in_flight < self._limit:
            if self._returning:
                turn = self._returning.popleft()
                if not turn.done():
                    self._in_flight += 1
                    turn.set_result(None)
            elif self._ready:
                self._in_flight += 1
                task = asyncio.create_task(self._run(self._ready.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                break

    async def _run(self, entry: Entry) -> None:
        stored: Awaitable[Any] | None = None
        try:
            try:
                stored = await self._deliver(entry, self)
            except Exception:
                log.exception("entry %s: its end cannot be stored; it stays in the stream", entry.id)
            finally:
                self._in_flight -= 1
                self._fill()
            if entry.partition is not None and stored is not None:
                await stored
        finally:
            if entry.partition is not None:
                self._pass_on(entry.partition)

    def _pass_on(self, partition: str) -> None:
        """Lets the next entry of a partition go."""
        waiting = self._partitions[partition]
        if waiting:
            self._ready.append(waiting.popleft())
            self._fill()
        else:
            del self._partitions[partition]


def _end(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
