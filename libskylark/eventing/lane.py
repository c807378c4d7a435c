"""The queue of one Trigger: so many deliveries at a time, and the events of one partition in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from libskylark.eventing.entry import Entry

# Deliveries that wait for their next attempt give their place to others, up to so many.
_PAUSED_LIMIT: Final = 64

Deliver = Callable[[Entry], Awaitable[Awaitable[Any]]]
"""Brings an entry to its end, and returns what to await until that end is stored."""


class Lane:
    """Hands entries to `deliver`, at most `limit` at once; one lane never waits for another.

    An entry with a partition is delivered after the end of every earlier entry of that partition was stored,
    so that the order holds across a crash as well.
    """

    def __init__(self, limit: int, deliver: Deliver) -> None:
        self._limit = limit
        self._deliver = deliver
        self._ready: deque[Entry] = deque()
        self._partitions: dict[str, deque[Entry]] = {}  # those with an entry under way, and what waits behind it
        self._returning: deque[asyncio.Future[None]] = deque()
        self._paused = 0
        self._in_flight = 0
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asleep: set[asyncio.Task[Any]] = set()

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

    async def pause(self, delay_s: float) -> None:
        """Called within `deliver`, before another attempt: sleeps, and lets another entry go meanwhile."""
        task = asyncio.current_task()
        assert task is not None, "deliver runs in a task of its lane"
        if self._closed:
            raise asyncio.CancelledError
        gives_way = self._paused < _PAUSED_LIMIT
        if gives_way:
            self._paused += 1
            self._in_flight -= 1
            self._fill()
        self._asleep.add(task)
        try:
            await asyncio.sleep(delay_s)
            if gives_way:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._returning.append(turn)
                self._fill()
                await turn
        finally:
            self._asleep.discard(task)
            self._paused -= gives_way

    def halt(self) -> None:
        """Starts nothing more, and gives up pauses."""
        self._closed = True
        for task in [*self._asleep]:
            task.cancel()

    def replaced(self) -> Lane:
        """Halts, for good; gives a lane in its place that has nothing to do yet."""
        lane = Lane(self._limit, self._deliver)
        lane._closed = self._closed
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
        while not self._closed and self._in_flight < self._limit:
            if self._returning:
                self._in_flight += 1
                self._returning.popleft().set_result(None)
            elif self._ready:
                self._in_flight += 1
                task = asyncio.create_task(self._run(self._ready.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                break

    async def _run(self, entry: Entry) -> None:
        stored = await self._deliver(entry)
        self._in_flight -= 1
        self._fill()
        if entry.partition is not None:
            await stored
            waiting = self._partitions[entry.partition]
            if waiting:
                self._ready.append(waiting.popleft())
                self._fill()
            else:
                del self._partitions[entry.partition]
