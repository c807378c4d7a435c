"""The stream by itself: what memory does not hold is read again, and batches are whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from libskylark.errors import StoreUnavailable, StreamFull
from libskylark.event import Event
from libskylark.eventing.entry import Content, Entry, NewEntry, pack, unpack
from libskylark.eventing.keys import Caps
from libskylark.eventing.resident import Resident
from libskylark.eventing.stream import Stream
from libskylark.eventing.writes import Settlement
from tests.eventing.conftest import Lab, RedisServer


def new(name: str, triggers: tuple[str, ...] = ("default/a", "default/b"), hop: bool = False) -> NewEntry:
    event = Event.new("t", "/s", b"\x00\xff" * 10, id=name, partitionkey="p")
    return NewEntry(Content(event, 255, 1000.5, {"traceparent": "x"}, "chain", hop), triggers, b"{}")


def run(store: RedisServer, test: Callable[[Stream, asyncio.Queue[Entry]], Awaitable[None]], limit: int = 100) -> None:
    async def with_stream() -> None:
        entries: asyncio.Queue[Entry] = asyncio.Queue()
        stream = Stream(store.host, store.port, None, entries.put_nowait, lambda: None, caps=Caps(events=limit))
        stream.start()
        try:
            await stream.last_tick_ms("none")  # waits until it is open
            await test(stream, entries)
        finally:
            await stream.stop()

    asyncio.run(asyncio.wait_for(with_stream(), 15))


@pytest.mark.parametrize("hop", [True, False])
def test_an_entry_is_read_as_it_was_packed(hop: bool) -> None:
    entry = new("1", hop=hop)
    flat = [part if isinstance(part, bytes) else str(part).encode() for part in pack(entry)]
    content, triggers = unpack(dict(zip(flat[::2], flat[1::2], strict=True)))
    assert (content, triggers) == (entry.content, set(entry.triggers))


def test_a_body_that_memory_does_not_hold_is_read_from_redis(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resident.__init__, "__defaults__", (0,))

    async def check(stream: Stream, entries: asyncio.Queue[Entry]) -> None:
        await stream.add(new("1"))
        entry = await entries.get()
        assert entry.content is None
        assert await stream.content(entry) == new("1").content
        await asyncio.gather(
            *(stream.settle(Settlement(entry, trigger, b"{}")) for trigger in ("default/a", "default/b"))
        )
        assert await stream.content(entry) is None
        assert stream.waiting == 0

    run(lab.redis(), check)


def test_an_entry_leaves_the_stream_with_its_last_trigger(lab: Lab) -> None:
    store = lab.redis()

    async def check(stream: Stream, entries: asyncio.Queue[Entry]) -> None:
        await stream.add(new("1"))
        entry = await entries.get()
        await stream.settle(Settlement(entry, "default/b", b"{}"))
        assert store.client.hkeys("broker:done") == [f"{entry.id} default/b"]
        await stream.settle(Settlement(entry, "default/a", b"{}", reply=new("2", ("default/a",))))
        assert not store.client.exists("broker:done")
        reply = await entries.get()
        assert stream.waiting == 1
        assert reply.content is not None
        assert reply.content.event.id == "2"
        assert store.client.xlen("broker:events") == 1

    run(store, check)


def test_a_tick_is_stored_once(lab: Lab) -> None:
    store = lab.redis()

    async def check(stream: Stream, entries: asyncio.Queue[Entry]) -> None:
        assert await stream.add(new("1"), tick=("default/tick", 1000))
        assert not await stream.add(new("1"), tick=("default/tick", 1000))
        assert not await stream.add(new("1"), tick=("default/tick", 999))
        assert await stream.add(new("2"), tick=("default/tick", 1001))
        assert await stream.last_tick_ms("default/tick") == 1001
        assert entries.qsize() == store.client.xlen("broker:events") == 2

    run(store, check)


def test_limits_and_a_store_that_goes_away(lab: Lab) -> None:
    store = lab.redis()

    async def check(stream: Stream, entries: asyncio.Queue[Entry]) -> None:
        await asyncio.gather(stream.add(new("1")), stream.add(new("2")))
        with pytest.raises(StreamFull):
            await stream.add(new("3"))
        entry = await entries.get()
        store.kill()
        settled = stream.settle(Settlement(entry, "default/a", b"{}"))
        await asyncio.sleep(0)
        while stream.is_open:
            await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailable):
            await stream.add(new("4"))
        assert not settled.done()
        await asyncio.to_thread(store.start)
        await settled
        assert store.client.hlen("broker:done") == 1

    run(store, check, limit=2)
