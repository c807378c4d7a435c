"""The queue of one Trigger: limits, order within a partition, and pauses that give way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from libskylark.eventing.entry import Entry
from libskylark.eventing.lane import Lane

WAIT_S = 5.0


class Deliveries:
    """A `deliver` whose ends, and whose storing, the test decides."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.ends: dict[str, asyncio.Future[None]] = {}
        self.stored: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, entry: Entry, lane: Lane) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        self.ends[entry.id], self.stored[entry.id] = loop.create_future(), loop.create_future()
        self.started.put_nowait(entry.id)
        await self.ends[entry.id]
        return self.stored[entry.id]

    async def next(self) -> str:
        return await asyncio.wait_for(self.started.get(), WAIT_S)

    def end(self, entry: str, stored: bool = True) -> None:
        self.ends[entry].set_result(None)
        if stored:
            self.stored[entry].set_result(None)


def entry(name: str, partition: str | None = None) -> Entry:
    return Entry(name, partition, {"t"}, None, 0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), WAIT_S)

    asyncio.run(limited())


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_no_more_than_the_limit_are_under_way() -> None:
    async def check() -> None:
        deliveries = Deliveries()
        lane = Lane(2, deliveries)
        for name in "abc":
            lane.offer(entry(name))
        assert {await deliveries.next(), await deliveries.next()} == {"a", "b"}
        await settle()
        assert deliveries.started.empty()
        deliveries.end("a", stored=False)
        assert await deliveries.next() == "c"

    run(check)


def test_a_partition_waits_until_the_end_of_its_first_is_stored_and_others_pass() -> None:
    async def check() -> None:
        deliveries = Deliveries()
        lane = Lane(4, deliveries)
        for name, partition in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("n", None), ("a3", "a")):
            lane.offer(entry(name, partition))
        assert [await deliveries.next() for _ in range(3)] == ["a1", "b1", "n"]
        deliveries.end("a1", stored=False)
        await settle()
        assert deliveries.started.empty()
        deliveries.stored["a1"].set_result(None)
        assert await deliveries.next() == "a2"
        deliveries.end("a2")
        assert await deliveries.next() == "a3"
        deliveries.end("a3")
        await settle()
        lane.offer(entry("a4", "a"))
        assert await deliveries.next() == "a4"

    run(check)


def test_a_pause_lets_others_go_and_comes_back_first() -> None:
    async def check() -> None:
        order: list[str] = []
        gate = asyncio.Event()

        async def deliver(entry: Entry, lane: Lane) -> Awaitable[Any]:
            order.append(f"{entry.id}>")
            if entry.id == "slow":
                await lane.pause(0)
            elif entry.id == "first":
                await gate.wait()
            order.append(f"<{entry.id}")
            return asyncio.get_running_loop().create_future()

        lane = Lane(1, deliver)
        for name in ("slow", "first", "second"):
            lane.offer(entry(name))
        await settle()
        assert order == ["slow>", "first>"]
        gate.set()
        await settle()
        assert order == ["slow>", "first>", "<first", "<slow", "second>", "<second"]

    run(check)


def test_a_delivery_that_fails_or_is_cancelled_gives_its_place_and_its_partition_back() -> None:
    async def check() -> None:
        delivered: list[str] = []

        async def deliver(entry: Entry, lane: Lane) -> Awaitable[Any]:
            if entry.id.startswith("paused"):
                asyncio.get_running_loop().call_soon(cast("asyncio.Task[Any]", asyncio.current_task()).cancel)
                await lane.pause(3600)
            if entry.id.startswith("cancelled"):
                raise asyncio.CancelledError
            if entry.id.startswith("faulty"):
                raise TypeError(entry.id)
            delivered.append(entry.id)
            return asyncio.get_running_loop().create_future()

        lane = Lane(1, deliver)
        names = [f"{kind}{number}" for number in range(2) for kind in ("paused", "cancelled", "faulty")]
        for name in names:
            lane.offer(entry(name, "p"))
        for name in [*names, "last"]:
            lane.offer(entry(name))
        lane.offer(entry("last of p", "p"))
        for _ in range(20):
            await settle()
        assert sorted(delivered) == ["last", "last of p"]

    run(check)


def test_pauses_end_early_when_their_lane_is_woken() -> None:
    async def check() -> None:
        deliveries = Deliveries()

        async def deliver(entry: Entry, lane: Lane) -> Awaitable[Any]:
            await lane.pause(3600)
            return await deliveries(entry, lane)

        lane = Lane(1, deliver)
        for name in "ab":
            lane.offer(entry(name))
        await settle()
        assert deliveries.started.empty()
        lane.wake()
        assert await deliveries.next() == "a"
        await settle()
        assert deliveries.started.empty(), "a place is still needed"
        deliveries.end("a")
        assert await deliveries.next() == "b"

    run(check)


def test_a_pause_that_is_not_wakeable_lasts_until_the_lane_halts() -> None:
    async def check() -> None:
        deliveries = Deliveries()

        async def deliver(entry: Entry, lane: Lane) -> Awaitable[Any]:
            await lane.pause(3600, wakeable=entry.id == "a")
            return await deliveries(entry, lane)

        lane = Lane(1, deliver)
        for name in "ba":
            lane.offer(entry(name))
        await settle()
        lane.wake()
        assert await deliveries.next() == "a"
        deliveries.end("a")
        await settle()
        assert (deliveries.started.empty(), lane.queue.waiting) == (True, 1)
        await lane.close(WAIT_S)
        assert (deliveries.started.empty(), lane.queue.waiting) == (True, 0)

    run(check)


def test_a_held_lane_starts_nothing_until_it_is_released_and_so_does_the_one_in_its_place() -> None:
    async def check() -> None:
        deliveries = Deliveries()
        lane = Lane(2, deliveries)
        lane.hold()
        lane.offer(entry("a"))
        other = lane.replaced()
        other.offer(entry("b"))
        await settle()
        assert deliveries.started.empty()
        lane.release()
        other.release()
        assert await deliveries.next() == "b"
        await settle()
        assert deliveries.started.empty()

    run(check)


def test_closing_gives_up_pauses_and_waits_for_the_rest() -> None:
    async def check() -> None:
        deliveries = Deliveries()

        async def deliver(entry: Entry, lane: Lane) -> Awaitable[Any]:
            if entry.id == "paused":
                deliveries.started.put_nowait("paused")
                await lane.pause(3600)
            return await deliveries(entry, lane)

        lane = Lane(2, deliver)
        for name in ("paused", "a", "b"):
            lane.offer(entry(name))
        assert {await deliveries.next() for _ in range(3)} == {"paused", "a", "b"}
        closing = asyncio.create_task(lane.close(WAIT_S))
        lane.offer(entry("late"))
        await settle()
        assert not closing.done()
        deliveries.end("a")
        deliveries.end("b")
        await closing
        assert deliveries.started.empty()

    run(check)
