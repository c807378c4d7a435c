"""PingSources: planned times on a fast clock, one event per planned time, and none for what was missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from libskylark.clock import SystemClock, Ticks
from libskylark.errors import StoreUnavailable
from libskylark.eventing.delivery import Courier
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import load_objects
from libskylark.eventing.objects import PingSource
from libskylark.eventing.pinging import Pings
from libskylark.eventing.pingsource import Ping, PingRunner, Schedule
from libskylark.eventing.stream import Stream
from tests.eventing.conftest import Broker as BrokerProcess
from tests.eventing.conftest import Journal, Lab, trigger

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

    def now_s(self) -> float:
        return self.time_s

    async def sleep(self, delay_s: float) -> None:
        self.time_s += delay_s
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


def ticks_of(stream: FakeStream, time: FakeTime) -> list[float]:
    """Offsets from noon, in seconds, of the first four ticks."""

    async def first_four() -> None:
        redis = cast(Stream, stream)
        ping = Ping(source(), "default/default")
        runner = PingRunner(ping, intake(time), redis, Courier(), time, sleep=time.sleep)
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
