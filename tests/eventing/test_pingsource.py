"""PingSources: planned times on a fast clock, one event per planned time, and none for what was missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from yarl import URL

from libskylark.clock import SystemClock, Ticks
from libskylark.errors import StoreUnavailable
from libskylark.eventing.delivery import Courier
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import load_objects
from libskylark.eventing.pinging import Pings
from libskylark.eventing.pingsource import Ping, PingRunner, Schedule
from libskylark.eventing.resolve import Target
from libskylark.eventing.sources import CloudEventOverrides, PingSource
from libskylark.eventing.stream import Stream
from tests.eventing.conftest import Broker as BrokerProcess
from tests.eventing.conftest import Journal, Lab, Reply, free_port, trigger

NOON_S = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
PING = """---
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  contentType: application/json
  data: '{"a": 1}'
  ceOverrides: {extensions: {skylarkpolicy: random}}
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
"""


@pytest.mark.parametrize(
    ("cron", "zone", "after_s", "next_s"),
    [
        ("* * * * *", None, NOON_S, NOON_S + 60),
        ("* * * * *", None, NOON_S - 0.5, NOON_S),
        ("*/10 * * * * *", None, NOON_S + 1, NOON_S + 10),
        ("30 14 * * *", "Europe/Berlin", NOON_S, NOON_S + 5400),
        ("0 0 * * 3", None, NOON_S, NOON_S + 43200),  # 24 November 2026 is a Tuesday
    ],
)
def test_planned_times_in_real_time(cron: str, zone: str | None, after_s: float, next_s: float) -> None:
    assert Schedule(cron, zone).next_s(after_s) == next_s


@pytest.mark.parametrize("tick_s", [0.5, 1.0, 5.0, 7.3, 60.0])
def test_every_minute_is_every_tick_on_any_clock(tick_s: float) -> None:
    schedule, ticks = Schedule("* * * * *", None, tick_s), Ticks(tick_s)
    planned_s = schedule.next_s(NOON_S)
    for _ in range(200):
        following_s = schedule.next_s(planned_s)
        assert following_s - planned_s == pytest.approx(tick_s, abs=0.0011)
        assert ticks.epoch_at(following_s) == ticks.epoch_at(planned_s) + 1
        assert ticks.starts_s(ticks.epoch_at(planned_s)) == pytest.approx(planned_s, abs=0.0011)
        planned_s = following_s


class FakeTime:
    """A clock that moves when somebody sleeps."""

    def __init__(self, now_s: float) -> None:
        self.time_s = now_s
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return self.time_s

    async def sleep(self, delay_s: float) -> None:
        self.time_s += delay_s
        self.slept_s.append(delay_s)
        await asyncio.sleep(0)


class FakeStream:
    """Takes ticks, unless Redis is `away` at that time."""

    def __init__(self, time: FakeTime, last_ms: int | None = None) -> None:
        self.ticks: list[int] = []
        self.events: list[Any] = []
        self.away: tuple[float, float] = (0, 0)
        self.full = asyncio.Event()
        self.on_add: Callable[[], None] = lambda: None
        self._time, self._last_ms = time, last_ms

    async def last_tick_ms(self, source: str) -> int | None:
        return self._last_ms

    async def add(self, new: Any, tick: tuple[str, int]) -> bool:
        self.on_add()
        if self.away[0] <= self._time.now_s() < self.away[1]:
            raise StoreUnavailable("here", "away")
        self.ticks.append(tick[1])
        self.events.append(new.content.event)
        if len(self.ticks) == 4:
            self.full.set()
        return True

    async def send_once(
        self, tick: tuple[str, int], send: Callable[[], Awaitable[bool]], send_s: float, known_s: float
    ) -> bool:
        """As the only dispatcher."""
        if sent := await send():
            self.ticks.append(tick[1])
            if len(self.ticks) == 4:
                self.full.set()
        return sent


def source() -> PingSource:
    metadata = {"name": "tick"}
    spec = {
        "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
        "data": "x",
        "contentType": "text/plain",
    }
    kind = {"apiVersion": "sources.knative.dev/v1", "kind": "PingSource"}
    return PingSource.model_validate({**kind, "metadata": metadata, "spec": spec})


def intake(time: FakeTime) -> Intake:
    """That of Broker default/default, without Triggers."""
    return Intake(load_objects([]), time)


def ticks_of(stream: FakeStream, time: FakeTime, target: str | Target = "default/default") -> list[float]:
    """Offsets from noon, in seconds, of the first four ticks."""

    async def first_four() -> None:
        redis = cast(Stream, stream)
        async with Courier() as courier:
            runner = PingRunner(Ping(source(), target), intake(time), redis, courier, time, sleep=time.sleep)
            task = asyncio.create_task(runner.run())
            await asyncio.wait_for(stream.full.wait(), 5)
            task.cancel()

    asyncio.run(first_four())
    return [tick / 1000 - NOON_S for tick in stream.ticks[:4]]


def test_a_tick_bears_its_planned_time_and_an_id_that_depends_on_nothing_else() -> None:
    streams = []
    for start_s in (NOON_S + 1, NOON_S + 59):
        time = FakeTime(start_s)
        streams.append(FakeStream(time))
        assert ticks_of(streams[-1], time) == [60, 120, 180, 240]
    event, same = (stream.events[0] for stream in streams)
    assert event.id == same.id
    assert event.attributes["time"] == "2026-11-24T12:01:00.000Z"
    assert event.source == "/apis/v1/namespaces/default/pingsources/tick"
    assert event.type == "dev.knative.sources.ping"
    assert event.attributes["skylarkepoch"] == str(int(NOON_S / 60) + 1)
    assert (event.data, event.content_type) == (b"x", "text/plain")


def test_ticks_that_redis_missed_are_not_made_up(caplog: pytest.LogCaptureFixture) -> None:
    time = FakeTime(NOON_S + 1)
    stream = FakeStream(time)
    stream.away = (NOON_S + 100, NOON_S + 190)
    assert ticks_of(stream, time) == [60, 180, 240, 300]
    assert "missed the tick of 2026-11-24T12:02:00.000Z" in caplog.text


def test_ticks_of_a_time_when_no_broker_ran_are_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    time = FakeTime(NOON_S + 1)
    assert ticks_of(FakeStream(time, last_ms=round((NOON_S - 600) * 1000)), time) == [60, 120, 180, 240]
    assert [record.message for record in caplog.records] == [
        "PingSource default/tick: nothing was sent from 2026-11-24T11:51:00.000Z on"
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"content-type": "text/plain"}, b"ok"), []),
        ((200, {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/s", "ce-type": "t"}, b""), []),
        ((400, {}, b""), ["PingSource default/tick: the tick of {} is lost: {} answered 400"]),
        ((301, {"location": "/"}, b""), ["PingSource default/tick: the tick of {} is lost: {} answered 301"]),
    ],
)
def test_a_tick_that_an_address_has_answered_for_good_is_sent_once(
    lab: Lab, caplog: pytest.LogCaptureFixture, answer: Reply, said: list[str]
) -> None:
    sink, time = lab.subscriber(lambda delivery: answer), FakeTime(NOON_S + 1)
    assert ticks_of(FakeStream(time), time, Target(URL(sink.url))) == [60, 120, 180, 240]
    times = [f"2026-11-24T12:0{minute}:00.000Z" for minute in (1, 2, 3, 4)]
    assert [sink.next().event.attributes["time"] for _ in times] == times
    assert sink.received.empty()
    assert [record.message for record in caplog.records] == [line.format(at, sink.url) for at in times for line in said]


def test_an_address_that_is_away_is_asked_ever_less_often_until_the_next_tick(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    time = FakeTime(NOON_S + 1)
    sink = lab.subscriber(lambda delivery: (503 if time.now_s() < NOON_S + 120 else 202, {}, b""))
    assert ticks_of(FakeStream(time), time, Target(URL(sink.url))) == [120, 180, 240, 300]
    assert time.slept_s[1:7] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    assert sum(time.slept_s[1:17]) == pytest.approx(60)
    assert max(time.slept_s[1:17]) == 5
    assert [sink.next().event.attributes["time"] for _ in range(17)][15:] == [
        "2026-11-24T12:01:00.000Z",
        "2026-11-24T12:02:00.000Z",
    ]
    assert [record.message for record in caplog.records] == [
        "PingSource default/tick: missed the tick of 2026-11-24T12:01:00.000Z"
    ]


def changed_at(offset_s: float, change: Callable[[Pings], None], stream: FakeStream, time: FakeTime) -> None:
    """Runs a PingSource for four ticks, with a change once the clock has come so far while a tick is sent."""

    async def first_four() -> None:
        redis = cast(Stream, stream)
        pings = Pings(lambda ping: PingRunner(ping, intake(time), redis, Courier(), time, sleep=time.sleep))

        def on_add() -> None:
            if time.now_s() >= NOON_S + offset_s:
                stream.on_add = lambda: None
                change(pings)

        stream.on_add = on_add
        pings.exchange({"default/tick": Ping(source(), "default/default")})
        await asyncio.wait_for(stream.full.wait(), 5)
        await pings.close()

    asyncio.run(first_four())


def to_new_data(pings: Pings) -> None:
    changed = source().model_copy(update={"spec": source().spec.model_copy(update={"data": "new"})})
    pings.exchange({"default/tick": Ping(changed, "default/default")})


def test_a_changed_source_goes_on_after_the_tick_that_is_being_sent() -> None:
    time = FakeTime(NOON_S + 1)
    stream = FakeStream(time)
    changed_at(120, to_new_data, stream, time)
    assert [tick / 1000 - NOON_S for tick in stream.ticks[:4]] == [60, 120, 180, 240]
    assert [event.data for event in stream.events[:4]] == [b"x", b"x", b"new", b"new"]


def test_a_changed_source_sends_the_tick_that_could_not_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    time = FakeTime(NOON_S + 1)
    stream = FakeStream(time)
    stream.away = (NOON_S + 100, NOON_S + 130)
    changed_at(125, to_new_data, stream, time)
    assert [tick / 1000 - NOON_S for tick in stream.ticks[:4]] == [60, 120, 180, 240]
    assert [event.data for event in stream.events[:4]] == [b"x", b"new", b"new", b"new"]
    assert caplog.records == []


def test_a_changed_source_does_not_wait_for_the_pause_of_the_former() -> None:
    time = FakeTime(NOON_S + 1)
    stream = FakeStream(time)
    stream.away = (NOON_S + 60, NOON_S + 61)

    async def run() -> None:
        async def sleep(delay_s: float) -> None:
            if delay_s < 1:  # a pause after a failure
                paused.set()
                await asyncio.Event().wait()
            await time.sleep(delay_s)

        paused, redis = asyncio.Event(), cast(Stream, stream)
        pings = Pings(lambda ping: PingRunner(ping, intake(time), redis, Courier(), time, sleep=sleep))
        pings.exchange({"default/tick": Ping(source(), "default/default")})
        await paused.wait()
        time.time_s += 1
        to_new_data(pings)
        await stream.full.wait()
        await pings.close()

    asyncio.run(asyncio.wait_for(run(), 5))
    assert [tick / 1000 - NOON_S for tick in stream.ticks[:4]] == [60, 120, 180, 240]
    assert {event.data for event in stream.events} == {b"new"}


def test_a_source_that_failed_begins_anew_once_it_is_changed(caplog: pytest.LogCaptureFixture) -> None:
    time = FakeTime(NOON_S + 1)
    stream = FakeStream(time)

    async def run() -> None:
        redis = cast(Stream, stream)
        pings = Pings(lambda ping: PingRunner(ping, intake(time), redis, Courier(), time, sleep=time.sleep))

        def fail() -> None:
            stream.on_add = lambda: None
            asyncio.get_running_loop().call_later(0, to_new_data, pings)
            raise TypeError("a fault of ours")

        stream.on_add = fail
        pings.exchange({"default/tick": Ping(source(), "default/default")})
        await stream.full.wait()
        await pings.close()

    asyncio.run(asyncio.wait_for(run(), 5))
    assert [tick / 1000 - NOON_S for tick in stream.ticks[:4]] == [120, 180, 240, 300]
    assert [record.message for record in caplog.records] == [
        "a PingSource failed within the broker, and sends nothing any more"
    ]


@pytest.mark.parametrize("to", ["default/default", "http://127.0.0.1:9/"])
def test_an_event_that_nobody_would_take_is_given_up_and_the_next_one_tried(
    to: str, caplog: pytest.LogCaptureFixture
) -> None:
    time = FakeTime(NOON_S + 1)
    overrides = CloudEventOverrides(extensions={"expirytime": "soon"})
    spec = source().spec.model_copy(update={"content_type": "té", "ce_overrides": overrides})
    target = to if "://" not in to else Target(URL(to))
    faulty = source().model_copy(update={"spec": spec})

    async def run() -> None:
        stream = cast(Stream, FakeStream(time))
        async with Courier() as courier:
            runner = PingRunner(Ping(faulty, target), intake(time), stream, courier, time, sleep=time.sleep)
            task = asyncio.create_task(runner.run())
            while len(caplog.records) < 2:
                await asyncio.sleep(0)
            task.cancel()

    asyncio.run(asyncio.wait_for(run(), 5))
    reason = "expirytime: found 'soon'" if target == to else "datacontenttype: found 'té', expected ASCII"
    first, second = [record.message for record in caplog.records][:2]
    assert first.startswith(f"PingSource default/tick: the tick of 2026-11-24T12:01:00.000Z is lost: {reason}")
    assert second.startswith(f"PingSource default/tick: the tick of 2026-11-24T12:02:00.000Z is lost: {reason}")


def test_a_source_that_is_the_same_again_runs_on_and_one_that_is_gone_stops() -> None:
    time = FakeTime(NOON_S + 1)
    stream = cast(Stream, FakeStream(time))

    async def run() -> None:
        pings = Pings(lambda ping: PingRunner(ping, intake(time), stream, Courier(), time, sleep=time.sleep))
        pings.exchange({"default/tick": Ping(source(), "default/default")})
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        relabelled = source().model_copy(update={"status": {"a": "b"}})
        pings.exchange({"default/tick": Ping(relabelled, "default/default")})
        assert asyncio.all_tasks() - {asyncio.current_task()} == {task}
        pings.exchange({})
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(run())


def ping_broker(lab: Lab, tick: str) -> tuple[BrokerProcess, Any, Any]:
    store, subscriber = lab.redis(), lab.subscriber()
    objects = PING + trigger("tick", subscriber.url, type="dev.knative.sources.ping")
    broker = lab.broker(store, objects, SKYLARK_PING_SOURCES="on", SKYLARK_TICK=tick)
    return broker, store, subscriber


class Elsewhere:
    """Where ticks are sent to: it has what `send_once` has sent, by whom."""

    def __init__(self) -> None:
        self.got: list[str] = []

    def by(self, who: str, gets_through: bool = True) -> Callable[[], Awaitable[bool]]:
        async def send() -> bool:
            self.got.append(who)
            return gets_through

        return send


def streams(lab: Lab, count: int) -> list[Stream]:
    """Dispatchers of one Redis, which have not begun to serve it."""
    store = lab.redis()
    return [Stream(store.host, store.port, None, lambda entry: None, lambda: None) for _ in range(count)]


def test_a_tick_that_goes_elsewhere_is_sent_by_one_dispatcher(lab: Lab) -> None:
    first, second = streams(lab, 2)
    elsewhere, tick = Elsewhere(), ("default/tick", 60_000)

    async def run() -> None:
        assert not await first.send_once(tick, elsewhere.by("failed", gets_through=False), 60, 60)

        async def meanwhile() -> bool:
            assert not await second.send_once(tick, elsewhere.by("both"), 60, 60)
            return await elsewhere.by("first")()

        assert await first.send_once(tick, meanwhile, 60, 60)
        assert await second.send_once(tick, elsewhere.by("again"), 60, 60)
        assert await second.send_once(("default/tick", 120_000), elsewhere.by("next"), 60, 60)
        assert await second.send_once(("default/tock", 60_000), elsewhere.by("other"), 60, 60)
        await asyncio.gather(first.stop(), second.stop())

    asyncio.run(run())
    assert elsewhere.got == ["failed", "first", "next", "other"]


def test_the_tick_of_a_dispatcher_that_ends_while_it_sends_is_anothers(lab: Lab) -> None:
    first, second = streams(lab, 2)
    elsewhere, tick = Elsewhere(), ("default/tick", 60_000)

    async def run() -> None:
        begun = asyncio.Event()

        async def never() -> bool:
            begun.set()
            await asyncio.Event().wait()
            return True

        task = asyncio.create_task(first.send_once(tick, never, 0.3, 60))
        await begun.wait()
        task.cancel()
        while not await second.send_once(tick, elsewhere.by("second"), 60, 60):
            await asyncio.sleep(0.02)
        await asyncio.gather(first.stop(), second.stop())

    asyncio.run(asyncio.wait_for(run(), 10))
    assert elsewhere.got == ["second"]


def test_nothing_is_sent_elsewhere_while_redis_is_away(lab: Lab) -> None:
    stream = Stream("127.0.0.1", free_port(), None, lambda entry: None, lambda: None)
    elsewhere = Elsewhere()

    async def run() -> None:
        assert not await stream.send_once(("default/tick", 1), elsewhere.by("any"), 60, 60)
        await stream.stop()

    asyncio.run(run())
    assert elsewhere.got == []


def test_of_two_brokers_each_tick_comes_elsewhere_once_though_one_is_killed(lab: Lab) -> None:
    store, sink = lab.redis(), lab.subscriber()
    objects = PING[: PING.index("  sink:")] + f"  sink: {{uri: '{sink.url}'}}\n"
    brokers = [lab.broker(store, objects, SKYLARK_PING_SOURCES="on", SKYLARK_TICK="500ms") for _ in range(2)]
    epochs = [sink.next().event.epoch for _ in range(4)]
    brokers[0].kill_worker()
    epochs += [sink.next().event.epoch for _ in range(4)]
    brokers[0].until_ready()  # as a dispatcher with another name
    epochs += [sink.next().event.epoch for _ in range(4)]
    assert len(epochs) == len(set(epochs))


def test_an_epoch_has_one_tick_though_the_broker_is_killed(lab: Lab) -> None:
    broker, store, subscriber = ping_broker(lab, "500ms")
    first = subscriber.next()
    assert json.loads(first.body) == {"a": 1}
    assert first.event.attributes["skylarkpolicy"] == "random"
    broker.kill_worker()
    ticks = {first.event.id: first.event}
    while len(ticks) < 4:  # a tick may be delivered again, as the event that it was: it is not another tick
        event = subscriber.next().event
        ticks.setdefault(event.id, event)
    epochs = [event.epoch for event in ticks.values()]
    assert epochs == sorted(set(epochs)), "no epoch has two ticks"
    planned_s = event.time.timestamp()
    assert 0 <= SystemClock().now_s() - planned_s < 2
    assert Journal(store).outcomes(first.event.id)[0].outcome == "delivered"
