"""Several processes serve one stream: what one has when it dies becomes the others', in order, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libskylark.event import Event
from libskylark.eventing import adopting, writer
from libskylark.eventing.entry import Content, Entry, NewEntry, pack
from libskylark.eventing.membership import Membership
from libskylark.eventing.stream import Stream
from libskylark.eventing.writes import Settlement
from tests.eventing.conftest import ACCEPT, Broker, Journal, Lab, RedisServer, Reply, Subscriber, eventually, trigger
from tests.eventing.test_crash import FAST, Senders, assert_in_order, finished

TRIGGER = "default/t"


class Dispatcher:
    """A Stream with the entries that it has, and has not settled."""

    def __init__(self, store: RedisServer, lease_s: float = 10.0) -> None:
        self.entries: dict[str, Entry] = {}
        self.replaced = 0
        self.taken = 0
        self.changed = asyncio.Event()
        self.stream = Stream(store.host, store.port, None, self._take, self._drop, lease_s=lease_s)

    async def start(self) -> None:
        self.stream.start()
        await self.stream.last_tick_ms("none")  # waits until it is open

    async def add(self, name: str, partition: str | None = None) -> None:
        await self.stream.add(new_entry(name, partition))

    async def settle(self, entry: Entry) -> None:
        del self.entries[entry.id]
        await self.stream.settle(Settlement(entry, TRIGGER, b"{}"))

    async def has(self, names: set[str]) -> None:
        """Waits until these are the events that it has."""
        while names != {name(entry) for entry in self.entries.values()}:
            self.changed.clear()
            await self.changed.wait()

    async def has_some(self) -> None:
        while not self.entries:
            self.changed.clear()
            await self.changed.wait()

    async def die(self) -> None:
        """As a process that is killed: its connections end, and nothing is said."""
        await self.stream._writer.abort()
        await self.stream._redis.connection_pool.disconnect()

    def _take(self, entry: Entry) -> None:
        assert entry.id not in self.entries, "an entry is given once"
        self.entries[entry.id] = entry
        self.taken += 1
        self.changed.set()

    def _drop(self) -> None:
        self.replaced += 1
        self.entries.clear()
        self.changed.set()


def new_entry(name: str, partition: str | None = None) -> NewEntry:
    attributes = {"partitionkey": partition} if partition else {}
    event = Event.new("t", "/s", b"x", id=name, **attributes)
    return NewEntry(Content(event, 255, 1.0, {}, "chain"), (TRIGGER,), b"{}")


def flat_entry(name: str, partition: str | None = None) -> dict[Any, Any]:
    """What Redis keeps of an event."""
    flat = pack(new_entry(name, partition))
    return dict(zip(flat[::2], flat[1::2], strict=True))


def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting, "_LISTED_ENTRIES", 3)
    monkeypatch.setattr(adopting, "_PAGE_ENTRIES", 2)


def name(entry: Entry) -> str:
    assert entry.content is not None
    return entry.content.event.id


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def test_an_event_is_whose_it_was_sent_to(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one, two = Dispatcher(store), Dispatcher(store)
        await asyncio.gather(one.start(), two.start())
        await asyncio.gather(one.add("1"), two.add("2"))
        await asyncio.gather(one.has({"1"}), two.has({"2"}))
        assert {row["name"] for row in store.client.xinfo_consumers("broker:events", "dispatchers")} == {
            one.stream._membership.name,
            two.stream._membership.name,
        }
        for dispatcher in (one, two):
            await dispatcher.settle(*dispatcher.entries.values())
        assert store.client.xlen("broker:events") == 0
        assert store.client.xpending("broker:events", "dispatchers")["pending"] == 0
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)


def test_an_event_goes_behind_the_earlier_ones_of_its_partition(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one, two = Dispatcher(store), Dispatcher(store)
        await asyncio.gather(one.start(), two.start())
        await one.add("1", "p")
        await two.add("2", "p")
        await two.add("other", "q")
        await one.add("3", "p")
        await asyncio.gather(one.has({"1", "2", "3"}), two.has({"other"}))
        assert [name(entry) for entry in one.entries.values()] == ["1", "2", "3"]
        for entry in [*one.entries.values()]:
            await one.settle(entry)
        assert store.client.hkeys("broker:partitions") == ["q"]
        await two.add("4", "p")
        await two.has({"other", "4"})
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)


def test_the_events_of_one_that_is_gone_are_taken_over(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one, two = Dispatcher(store), Dispatcher(store)
        await asyncio.gather(one.start(), two.start())
        await two.add("0", "p")
        await one.add("1", "p")
        await one.add("2")
        await one.add("3", "q")
        await one.die()
        await two.add("4", "q")
        await two.has({"0", "1", "2", "3", "4"})
        assert [name(entry) for entry in two.entries.values()] == ["0", "1", "2", "3", "4"]
        assert store.client.hlen("broker:dispatchers") == 1
        await two.stream.stop()
        three = Dispatcher(store)  # a process that starts does not wait to see whether the other one comes back
        await three.start()
        await three.has({"0", "1", "2", "3", "4"})
        await three.stream.stop()

    run(check)


def test_senders_do_not_wait_for_the_end_of_a_take_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lab.redis()
    small_pages(monkeypatch)
    dead = [f"{number:02}" for number in range(40)]

    async def check() -> None:
        one, two = Dispatcher(store), Dispatcher(store)
        await asyncio.gather(one.start(), two.start())
        for event in dead:
            await one.add(event, "p")
        await one.die()
        await two.has_some()
        assert len(two.entries) < len(dead)
        await asyncio.gather(two.add("later", "p"), two.add("other"))
        assert len(two.entries) < len(dead), "it is stored before the take-over ends"
        await two.has({*dead, "later", "other"})
        assert [name(entry) for entry in two.entries.values()] == [*dead, "later", "other"]
        await two.stream.stop()

    run(check)


def test_one_that_is_replaced_within_a_take_over_gives_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lab.redis()
    small_pages(monkeypatch)

    async def check() -> None:
        one, two = Dispatcher(store), Dispatcher(store)
        await asyncio.gather(one.start(), two.start())
        for number in range(40):
            await one.add(f"{number}")
        await one.die()
        await two.has_some()
        two.changed.clear()
        held = asyncio.create_task(two.add("held"))
        store.client.hdel("broker:dispatchers", two.stream._membership.name)  # as a take-over does
        while not two.replaced:
            await two.changed.wait()
            two.changed.clear()
        assert two.taken < 40
        await asyncio.gather(held, return_exceptions=True)
        await two.stream.last_tick_ms("none")  # waits until it is open
        await two.add("new")
        assert {name(entry) for entry in two.entries.values()} <= {"held", "new"}
        await two.stream.stop()

    run(check)


def test_an_entry_that_cannot_be_read_leaves_its_partition(lab: Lab) -> None:
    store = lab.redis()

    store.client.xgroup_create("broker:events", "dispatchers", mkstream=True)
    store.client.hset("broker:dispatchers", "gone", "1 1")
    store.client.hset("broker:partitions", mapping={"p": "2 gone", "q": "1 gone", "r": "1 gone"})
    whole = flat_entry("whole", "p")
    damaged = {"attributes": whole["attributes"]}
    stored: list[dict[Any, Any]] = [damaged, whole, {"attributes": "[]"}, {"attributes": "{}"}]
    for fields in stored:
        entry_id = store.client.xadd("broker:events", fields)
        store.client.xclaim("broker:events", "dispatchers", "gone", 0, [entry_id], force=True)
    store.client.xdel("broker:events", entry_id)

    async def check() -> None:
        one = Dispatcher(store)
        await one.start()
        await one.has({"whole"})
        await one.add("later", "p")
        me = one.stream._membership.name
        kept = {"q": f"1 {me}", "r": f"1 {me}"}  # nothing tells that these were the other two entries'
        assert store.client.hgetall("broker:partitions") == {"p": f"2 {me}", **kept}
        for entry in [*one.entries.values()]:
            await one.settle(entry)
        assert store.client.hgetall("broker:partitions") == kept
        assert store.client.xpending("broker:events", "dispatchers")["pending"] == 0
        store.client.xtrim("broker:events", maxlen=0)
        await one.add("last", "q")
        await one.settle(*one.entries.values())
        assert not store.client.exists("broker:partitions"), "an empty stream has none"
        await one.stream.stop()

    run(check)


def test_one_whose_connections_are_cut_comes_back_as_itself(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one, two = Dispatcher(store), Dispatcher(store)
        await asyncio.gather(one.start(), two.start())
        await one.add("1")
        store.client.client_kill_filter(_type="normal")
        store.client.client_kill_filter(_type="pubsub")
        await one.settle(*one.entries.values())
        assert (one.replaced, two.entries) == (0, {})
        await one.add("2", "p")
        await two.add("3", "p")
        await one.has({"2", "3"})  # it listens again
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)


def test_an_older_stream_without_a_group_is_adopted(lab: Lab) -> None:
    store = lab.redis()
    store.client.xadd("broker:events", flat_entry("old"))
    store.client.xadd("broker:events", {"foreign": "entry"})

    async def check() -> None:
        one = Dispatcher(store)
        await one.start()
        await one.has({"old"})
        await one.settle(*one.entries.values())
        await one.add("later")
        await one.settle(*one.entries.values())
        assert store.client.xlen("broker:events") == 1, "what is not the broker's is left alone"
        assert store.client.xpending("broker:events", "dispatchers")["pending"] == 0
        await one.stream.stop()

    run(check)


def test_a_redis_that_has_lost_everything_gets_new_events(lab: Lab) -> None:
    store = lab.redis()

    async def check() -> None:
        one = Dispatcher(store)
        await one.start()
        await one.add("1")
        store.client.flushall()
        store.client.client_kill_filter(_type="normal")
        await one.settle(*one.entries.values())
        await one.add("2")
        await one.has({"2"})
        assert one.replaced == 0
        await one.stream.stop()

    run(check)


Step = tuple[str, int, int]
STEPS = st.sampled_from(["add", "add", "add", "settle", "settle", "die", "start", "start"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            STEPS,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        min_size=12,
        max_size=40,
    )
)
def test_every_event_is_one_dispatchers_and_a_partition_too(store: RedisServer, steps: list[Step]) -> None:
    """However dispatchers come and go: nothing is lost, and the events of a partition are with one, in order."""
    store.client.flushall()
    numbers = count()
    settled: set[str] = set()
    sent: set[str] = set()

    async def check() -> None:
        alive = [Dispatcher(store)]
        await alive[0].start()
        for step, which, partition in steps:
            one = alive[which % len(alive)]
            if step == "add":
                event = f"{next(numbers):03}"
                await one.add(event, f"p{partition}" if partition else None)
                sent.add(event)
            elif step == "settle" and one.entries:
                entry = next(iter(one.entries.values()))
                settled.add(name(entry))
                await one.settle(entry)
            elif step == "die" and len(alive) > 1:
                alive.remove(one)
                await one.die()
            elif step == "start" and len(alive) < 3:
                alive.append(Dispatcher(store))
                await alive[-1].start()
        await asyncio.wait_for(everything_is_somewhere(alive), 10)
        homes: dict[str, int] = {}
        for number, one in enumerate(alive):
            partitions = defaultdict(list)
            for entry in one.entries.values():
                if entry.partition:
                    partitions[entry.partition].append(name(entry))
            for key, events in partitions.items():
                assert homes.setdefault(key, number) == number
                assert events == sorted(events)
        for one in alive:
            for entry in [*one.entries.values()]:
                await one.settle(entry)
            await one.stream.stop()
        assert store.client.xlen("broker:events") == store.client.hlen("broker:partitions") == 0

    async def everything_is_somewhere(alive: list[Dispatcher]) -> None:
        while sorted(sent - settled) != sorted(name(entry) for one in alive for entry in one.entries.values()):
            await asyncio.sleep(0.02)

    run(check)


@pytest.fixture
def store(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A Redis whose dispatchers look after one another often, and take over a few entries at a time."""
    monkeypatch.setattr(writer, "_LOOK_S", 0.02)
    small_pages(monkeypatch)
    return lab.redis()


class Alternating(Broker):
    """Sends to several brokers in turn."""

    def __init__(self, brokers: list[Broker]) -> None:
        self._brokers = brokers
        self._turns = count()

    def send(self, event: Event, path: str = "/default/default", **headers: str) -> Reply:
        return self._brokers[next(self._turns) % len(self._brokers)].send(event, path, **headers)


def assert_nothing_lost(store: RedisServer, subscriber: Subscriber, acknowledged: set[str]) -> None:
    outcomes = finished(Journal(store), acknowledged)
    received = [subscriber.received.get_nowait().event.id for _ in range(subscriber.received.qsize())]
    assert {outcome.outcome for outcome in outcomes} == {"delivered"}
    assert len({outcome.event for outcome in outcomes}) == len(outcomes), "an event has one outcome"
    assert acknowledged <= set(received)
    assert_in_order([event for event in received if event in acknowledged])
    eventually(lambda: store.client.xlen("broker:events") == 0, "the stream is empty")


def test_killing_one_of_two_brokers_under_load_loses_nothing(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    objects = trigger("load", subscriber.url, FAST)
    first, second = lab.broker(store, objects), lab.broker(store, objects)
    with Senders(Alternating([first, second])) as senders:
        senders.until(200)
        first.kill_worker()
        senders.until(500)
        second.kill_worker()
        senders.until(800)
    assert_nothing_lost(store, subscriber, senders.acknowledged)


def test_killing_the_redis_of_two_brokers_under_load_loses_nothing(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    objects = trigger("load", subscriber.url, FAST)
    brokers = [lab.broker(store, objects), lab.broker(store, objects)]
    with Senders(Alternating(brokers)) as senders:
        senders.until(200)
        store.kill()
        eventually(lambda: brokers[0].send(Event.new("load", "/x"))[0] == 503, "refused while Redis is away")
        store.start()
        senders.until(500)
    assert_nothing_lost(store, subscriber, senders.acknowledged)


def test_a_broker_that_hangs_is_taken_over_from_and_begins_anew(lab: Lab) -> None:
    store = lab.redis()
    subscriber = lab.subscriber()
    held = trigger("held", f"http://127.0.0.1:{subscriber.port}/", "delivery: {retry: 100, backoffDelay: PT30S}")
    taking = threading.Event()
    subscriber.answer = lambda delivery: ACCEPT if taking.is_set() else (503, {}, b"")
    first = lab.broker(store, held, SKYLARK_BROKER_LEASE="3s")
    second = lab.broker(store, held, SKYLARK_BROKER_LEASE="3s")
    assert first.send(Event.new("held", "/x", id="1"))[0] == 202
    subscriber.next()
    worker = first.worker()
    os.kill(worker, signal.SIGSTOP)
    taking.set()
    assert subscriber.next().event.id == "1"
    os.kill(worker, signal.SIGCONT)
    eventually(lambda: "another dispatcher has taken over" in first.log.read_text(), "it notices")
    first.until_ready()
    assert first.send(Event.new("held", "/x", id="2"))[0] == 202
    assert subscriber.next().event.id == "2"
    journal = Journal(store)
    assert [outcome.outcome for outcome in journal.outcomes("1") + journal.outcomes("2")] == ["delivered"] * 2
    assert subscriber.received.empty()
    assert second.worker() != worker


def test_gunicorn_may_run_several_workers(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, trigger("load", subscriber.url, FAST), workers="2")

    def both_answer() -> bool:
        return len({broker.worker() for _ in range(8)}) == 2

    eventually(both_answer, "two workers answer")
    with Senders(broker) as senders:
        senders.until(200)
        broker.kill_worker()
        senders.until(400)
    eventually(both_answer, "two workers answer again")
    assert_nothing_lost(store, subscriber, senders.acknowledged)


def test_one_whose_first_try_to_join_breaks_off_joins_and_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lab.redis()
    take_over, breaks = Membership.take_over, iter([True])

    async def breaking(membership: Membership, at_once: bool) -> int:
        if next(breaks, False):
            raise ConnectionError("cut")
        return await take_over(membership, at_once)

    async def check() -> None:
        one = Dispatcher(store)
        await one.start()
        monkeypatch.setattr(Membership, "take_over", breaking)
        two = Dispatcher(store)
        await two.start()
        assert two.replaced == 0
        await two.add("1", "p")
        await one.add("2", "p")
        await two.has({"1", "2"})

        def channels() -> int:
            return len(store.client.pubsub_channels("broker:handed:*"))

        await asyncio.to_thread(eventually, lambda: channels() == 2, "both listen")
        await asyncio.gather(one.stream.stop(), two.stream.stop())

    run(check)
