"""What is kept in Redis stays bounded, and a Redis whose memory is short goes on to take what must not be lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from libskylark.errors import StoreUnavailable, StreamFull
from libskylark.event import Event, to_http
from libskylark.eventing.adopting import Unreadable, read_entries
from libskylark.eventing.entry import Content, Entry, NewEntry, Once
from libskylark.eventing.keys import DEAD_LETTERS, EVENTS, SIZES, Caps
from libskylark.eventing.letters import count_dropped, list_letters, remove_letter
from libskylark.eventing.resident import Resident
from libskylark.eventing.stream import Stream
from libskylark.eventing.writes import Letter, Settlement
from libskylark.store import Store
from tests.eventing.conftest import ACCEPT, Delivery, Journal, Lab, RedisServer, Reply, eventually, trigger

TRIGGER = "default/t"
KIB = 1024


class Served:
    """A stream, and what it has adopted."""

    def __init__(self, store: RedisServer, caps: Caps = Caps()) -> None:
        self.entries: asyncio.Queue[Entry] = asyncio.Queue()
        self.stream = Stream(store.host, store.port, None, self.entries.put_nowait, lambda: None, caps=caps)
        self.stream.start()

    async def add(
        self, name: str, size_bytes: int = 10, partition: str | None = None, once: Once | None = None
    ) -> bool:
        await self.stream.last_tick_ms("none")  # waits until it is open
        attributes = {"partitionkey": partition} if partition else {}
        event = Event.new("t", "/s", b"x" * size_bytes, id=name, **attributes)
        return await self.stream.add(
            NewEntry(Content(event, 255, 1.0, {}, "chain"), (TRIGGER, "default/u"), b"{}", once)
        )

    async def end(self, entry: Entry, letter_bytes: int | None = None) -> None:
        """Settles it for both of its Triggers, for the first one by a dead letter."""
        letters = []
        if letter_bytes is not None:
            content = Content(Event.new("t", "/s", b"x" * letter_bytes, id="letter"), 255, 1.0, {}, "chain")
            letters.append(Letter(content, (TRIGGER,), TRIGGER, "refused", 400, 1, "2026-01-01T00:00:00Z"))
        await self.stream.settle(Settlement(entry, TRIGGER, b"{}", letters=letters))
        await self.stream.settle(Settlement(entry, "default/u", b"{}"))


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_the_bytes_that_wait_are_bounded_and_counted_until_they_are_gone(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one = Served(store, Caps(events_bytes=300 * KIB))
        await one.add("1", 200 * KIB)
        assert not one.stream.is_full
        await one.add("2", 200 * KIB)
        assert int(store.client.hget(SIZES, "events") or 0) > 400 * KIB
        with pytest.raises(StreamFull, match=f"expected less than 100000 events and {300 * KIB} bytes"):
            await one.add("3")
        await one.end(await one.entries.get())
        await one.add("3")
        again = Served(store, Caps(events_bytes=200 * KIB))  # another process knows at once
        with pytest.raises(StreamFull):
            await again.add("4")
        await again.stream.stop()
        for _ in range(2):
            await one.end(await one.entries.get())
        assert not store.client.hexists(SIZES, "events"), "an empty stream has no bytes"
        await one.stream.stop()

    run(check)


def test_the_limit_is_that_of_the_stream_and_not_of_each_dispatcher(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one, two = Served(store, Caps(events=5)), Served(store, Caps(events=5))
        await one.add("first", partition="p")
        for number in range(4):  # handed to the one that has the partition
            await two.add(str(number), partition="p")
        for each in (one, two):
            await each.stream._writer.put([], [], 0, lasting=True)  # a batch, which tells how many there are
            with pytest.raises(StreamFull):
                await each.add("too many", partition="p")
        assert store.client.xlen(EVENTS) == 5
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)


def test_the_oldest_dead_letters_are_dropped_with_a_word(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    server = lab.redis()
    store = Store(server.host, server.port)

    async def check(caps: Caps, sizes: list[int]) -> None:
        one = Served(server, caps)
        for number, size_bytes in enumerate(sizes):
            await one.add(str(number))
            await one.end(await one.entries.get(), letter_bytes=size_bytes)
        await one.stream.stop()

    run(lambda: check(Caps(letters=3), [10, 20, 30, 40]))
    assert [letter.size_bytes for letter in list_letters(store)] == [20, 30, 40]
    assert "1 dead letters were dropped" in caplog.text
    run(lambda: check(Caps(letters_bytes=20 * KIB), [10 * KIB, 11 * KIB]))
    assert [letter.size_bytes for letter in list_letters(store)] == [11 * KIB], "the latest one stays"
    assert count_dropped(store) == 5
    run(lambda: check(Caps(letters_bytes=1), [50 * KIB]))
    assert [letter.size_bytes for letter in list_letters(store)] == [50 * KIB], "whatever its size"
    remove_letter(store, list_letters(store)[0].position)
    assert server.client.hget(SIZES, "letters") == "0"
    assert server.client.xlen(DEAD_LETTERS) == 0


def test_the_memory_of_duplicates_is_bounded(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one = Served(store, Caps(digests=2))
        seen = [Once(f"digest {number}".encode(), 60_000 + number, b"{}") for number in range(3)]
        for number, once in enumerate(seen):
            assert await one.add(str(number), once=once)
        assert store.client.zcard("broker:seen") == 2
        assert not await one.add("again", once=seen[2])
        assert await one.add("forgotten", once=seen[0]), "the one whose window ended first made room"
        await one.stream.stop()

    run(check)


def test_entries_are_read_a_few_at_a_time_and_without_data_where_there_is_no_room(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one = Served(store)
        for number in range(5):
            await one.add(str(number), 3 * 1024 * KIB)
        stored = [await one.entries.get() for _ in range(5)]
        await one.stream.settle(Settlement(stored[1], TRIGGER, b"{}"))
        ids = ["1-1", *(entry.id for entry in stored)]
        found = await read_entries(one.stream._redis, ids, with_data=True)
        assert [*found.values()] == [Unreadable("1-1", ""), *stored[:2]], "two of 3 MiB at once"
        assert [entry.remaining for entry in stored[:2]] == [{TRIGGER, "default/u"}, {"default/u"}]
        found = await read_entries(one.stream._redis, ids, with_data=False)
        assert [*found] == ids
        for entry in stored:
            entry.content = None
        assert [*found.values()][1:] == stored
        await one.stream.stop()

    run(check)


def test_what_has_no_memory_left_drains(lab: Lab) -> None:
    store, up = lab.redis(), threading.Event()
    subscriber = lab.subscriber(lambda _: ACCEPT if up.is_set() else (503, {}, b""))
    spec = "delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.1S}"
    broker = lab.broker(store, trigger("t", subscriber.url, spec))
    used_bytes = int(store.client.info("memory")["used_memory"])
    store.client.config_set("maxmemory", used_bytes + 4 * 1024 * KIB)
    sent = 0
    while (status := broker.send(Event.new("t", "/s", b"x" * 100 * KIB, id=f"e{sent}"))[0]) == 202:
        sent += 1
        assert sent < 1000, "memory ends at some time"
    assert status == 429
    up.set()
    eventually(lambda: store.client.xlen(EVENTS) == 0, "it drains")
    assert {outcome.outcome for outcome in Journal(store).outcomes(f"e{sent - 1}")} == {"delivered"}
    store.client.config_set("maxmemory", 0)
    assert broker.send(Event.new("t", "/s", id="after"))[0] == 202


def test_a_count_of_dead_letters_that_was_wrong_ends_with_the_last_one(lab: Lab) -> None:
    server = lab.redis()
    server.client.hset(SIZES, "letters", 10**9)  # as after `DEL broker:dead-letters`

    async def check() -> None:
        one = Served(server, Caps(letters_bytes=200 * KIB))
        for number in range(5):
            await one.add(str(number))
            await one.end(await one.entries.get(), letter_bytes=10 * KIB)
        await one.stream.stop()

    run(check)
    assert server.client.xlen(DEAD_LETTERS) == 5


def test_a_redis_that_has_lost_everything_takes_no_dispatchers_events_away(lab: Lab) -> None:
    """The second one to notice finds the first one's registration, and its script."""
    store = lab.redis()

    async def check() -> None:
        one, two = Served(store), Served(store)
        for number in range(3):
            await one.add(str(number))
        await two.add("other")
        entries = [await one.entries.get() for _ in range(3)]
        store.client.flushall()
        store.client.client_kill_filter(_type="normal")
        await two.end(await two.entries.get())  # joins anew
        await one.stream._writer.put([], [], 0, lasting=True)
        assert one.stream.waiting == 3
        for entry in entries:
            await one.end(entry)
        assert one.stream.waiting == 0
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)


def test_many_reads_of_bodies_leave_the_writer_its_connection(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one = Served(store)
        for number in range(150):
            await one.add(str(number))
        entries = [await one.entries.get() for _ in range(150)]
        for entry in entries:
            entry.content = None
        reading = [asyncio.create_task(one.stream.content(entry)) for entry in entries]
        await one.add("meanwhile")
        assert all(await asyncio.gather(*reading))
        assert one.stream.is_open
        await one.stream.stop()

    run(check)


def test_a_stream_larger_than_memory_is_adopted_without_its_bodies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resident.__init__, "__defaults__", (6 * 1024 * KIB,))
    store = lab.redis()

    async def check() -> None:
        one = Served(store)
        for number in range(10):
            await one.add(str(number), 1024 * KIB)
        await one.stream.stop()
        two = Served(store)
        entries = [await two.entries.get() for _ in range(10)]
        assert [entry.content is not None for entry in entries] == [True] * 4 + [False] * 6
        for entry in entries:
            assert len((await two.stream.content(entry)).event.data) == 1024 * KIB  # type: ignore[union-attr]
            await two.end(entry)
        assert store.client.xlen(EVENTS) == 0
        await two.stream.stop()

    run(check)


def test_two_dispatchers_of_a_redis_that_has_lost_everything_go_on(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one, two = Served(store), Served(store)
        await one.add("1")
        await two.add("2")
        names = [each.stream._membership.name for each in (one, two)]
        store.client.flushall()
        store.client.client_kill_filter(_type="normal")
        await one.end(await one.entries.get())
        await two.end(await two.entries.get())
        assert [each.stream._membership.name for each in (one, two)] == names, "nobody has taken over"
        assert sorted(store.client.hkeys("broker:dispatchers")) == sorted(names)
        await two.add("3")
        assert (await two.entries.get()).content is not None
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)


def test_a_fault_of_the_writer_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lab.redis()

    async def check() -> None:
        failed = asyncio.Event()
        stream = Stream(store.host, store.port, None, lambda _: None, lambda: None, on_failed=failed.set)
        stream.start()
        await stream.last_tick_ms("none")
        monkeypatch.setattr(stream._writer.committer, "commit", None)
        adding = asyncio.create_task(
            stream.add(NewEntry(Content(Event.new("t", "/s"), 1, 1.0, {}, "c"), (TRIGGER,), b"{}"))
        )
        await failed.wait()
        assert not stream.is_open
        with pytest.raises(StoreUnavailable, match="the writer failed"):  # its sender waits for an answer
            await adding
        await stream.stop()

    run(check)


def test_a_dispatcher_that_was_replaced_has_only_connections_of_its_new_name(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one = Served(store)
        await one.add("1")
        before = one.stream._membership.name
        store.client.hdel("broker:dispatchers", before)
        store.client.xgroup_delconsumer(EVENTS, "dispatchers", before)
        entry = await one.entries.get()
        await one.stream.settle(Settlement(entry, TRIGGER, b"{}"))
        await one.add("2")
        assert one.stream._membership.name != before

        def old_ones() -> list[str]:
            return [client["name"] for client in store.client.client_list() if client["name"] == before]

        await asyncio.to_thread(eventually, lambda: not old_ones(), "the old name is gone")
        await one.stream.stop()

    run(check)


def test_two_triggers_that_answer_each_other_cannot_fill_the_stream(lab: Lab) -> None:
    """Each event of the one type is answered with two of the other: without a bound, they double for 255 rounds."""

    def answer(delivery: Delivery) -> Reply:
        headers, body = to_http(Event.new("t", "/loop", b"again"))
        return 200, headers, body

    store = lab.redis()
    subscribers = [lab.subscriber(answer) for _ in range(2)]
    objects = "".join(trigger(f"t{n}", each.url, type="t") for n, each in enumerate(subscribers))
    broker = lab.broker(store, objects, SKYLARK_BROKER_STREAM_MAX="20", SKYLARK_BROKER_DEAD_LETTERS_MAX="50")
    assert broker.send(Event.new("t", "/s", id="first"))[0] == 202
    eventually(lambda: store.client.xlen(DEAD_LETTERS) == 50, "answers go to the dead letters")
    assert store.client.xlen(EVENTS) <= 40 + 64, "each Trigger may have 32 answers under way when it is noticed"
    letter = store.last_dead_letter()
    assert (letter["status"], letter["reason"]) == ("507", "the stream has no room for the reply")
    assert set(letter["to"].split(",")) == {"default/t0", "default/t1"}
