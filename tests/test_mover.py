from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from libskylark.codec import encode as encode_value
from libskylark.codec import is_compressed
from libskylark.errors import BrokerUnavailable, ElectionError, SendError, UnknownNode
from libskylark.event import Event
from libskylark.fields import Frames
from libskylark.jobs import JOBS, Emit, Job, Push, Retire, decode, encode, read_moves
from libskylark.key import StateKey
from libskylark.lab.redis_server import find_redis_server, redis_command
from libskylark.mover import Mover
from libskylark.state import RedisStates, arrived_key, redis_key, retired_key, stored_frames
from libskylark.store import Store, Stores
from libskylark.testing import FakeClock

from .conftest import ROOT, RedisNode

FRAMES = {"image": encode_value(b"\x00\x01" * 150_000), "boxes": encode_value([1, 2])}
KEY = StateKey("chain", "there", "task")
PUSH = Push(str(KEY), "there", "skylark", 21.5, 2, None, 200.0, 300_000, (("far", "too slow"),), 1_799_999_999.9)
EMIT = Emit({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}, "data")

MOVER = """
import sys, time
from libskylark.clock import SystemClock
from libskylark.config import NodeSettings
from libskylark.mover import Mover
from libskylark.store import Stores
host, port, other = sys.argv[1:]
stores = Stores(NodeSettings(node="here", host=host, redis_port=int(port)), lambda node: other)
Mover(stores, SystemClock(), print).start()
print("started", flush=True)
time.sleep(60)
"""


class Broker:
    """Takes events, or raises what it is told to raise first."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.errors: list[Exception] = []

    def post(self, event: Event) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(event)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def mover(stores: Stores, clock: FakeClock, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mover]:
    monkeypatch.setattr("libskylark.mover._BLOCK_S", 0.05)  # so it stops sooner
    mover = Mover(stores, clock, broker.post)
    yield mover
    mover.stop()


def queue(store: Store, *jobs: Job) -> None:
    for job in jobs:
        store.client.xadd(JOBS, {"job": encode(job)})


def queued(store: Store) -> int:
    length: Any = store.run(lambda client: client.xlen(JOBS))
    return int(length)


def capture(
    store: Store, key: StateKey = KEY, frames: Frames = FRAMES, readers: str = "f", ttl_ms: int = 60_000
) -> None:
    mapping: Any = stored_frames(frames, readers.split(","))
    store.run(lambda client: client.hset(redis_key(key), mapping=mapping))
    store.run(lambda client: client.pexpire(redis_key(key), ttl_ms))


def exists(store: Store, name: str) -> bool:
    return bool(store.run(lambda client: client.exists(name)))


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 20
    pace = threading.Event()
    while not holds():
        assert time.monotonic() < deadline_s, f"not within 20 s: {what}"
        pace.wait(0.01)


def done(store: Store) -> None:
    eventually(lambda: queued(store) == 0, "the queue is empty")


def test_state_is_pushed_with_its_readers_and_what_is_left_of_its_time_to_live(mover: Mover, stores: Stores) -> None:
    capture(stores.local, readers="f,g", ttl_ms=30_000)
    mover.start()
    queue(stores.local, PUSH)
    done(stores.local)
    there = stores.of("there")
    stored = there.run(lambda client: client.hgetall(redis_key(KEY)))
    assert stored == {name.encode(): frame for name, frame in stored_frames(FRAMES, ["f", "g"]).items()}
    assert 0 < there.run(lambda client: client.pttl(redis_key(KEY))) <= 30_000
    assert exists(stores.local, redis_key(KEY))
    assert mover.pending() == {}


def test_what_was_queued_before_the_start_is_done_in_order(mover: Mover, stores: Stores, broker: Broker) -> None:
    emits = [replace(EMIT, data=str(number)) for number in range(250)]
    queue(stores.local, *emits)
    mover.start()
    done(stores.local)
    assert [event.data for event in broker.taken] == [job.data.encode() for job in emits]


def test_a_push_is_recorded_with_what_was_measured(mover: Mover, stores: Stores) -> None:
    capture(stores.local)
    queue(stores.local, PUSH)
    mover.start()
    eventually(lambda: bool(read_moves(stores.local, 1)), "the move is recorded")
    (move,) = read_moves(stores.local, 10)
    assert (move.kind, move.what, move.source, move.target) == ("state", str(KEY), "here", "there")
    assert move.measured_ms == pytest.approx(100)
    assert move.met is True
    assert move.sent_bytes == sum(len(name) + len(frame) for name, frame in FRAMES.items())
    assert (move.size_bytes, move.predicted_ms, move.hops, move.refused) == (300_000, 21.5, 2, (("far", "too slow"),))
    assert move.finished_s == 1_800_000_000.0


def test_a_push_is_announced_before_it_comes_and_leaves_one_entry(
    mover: Mover, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    there = stores.of("there")
    exchange = there.exchange

    def in_two(commands: Any, sending: Any) -> Any:
        there.run(lambda client: client.xadd(arrived_key(KEY), {"earlier": 1}))  # of a push that broke off
        for part in (commands[:-1], commands[-1:]):
            answers = exchange(part, sending)
            entries: Any = there.client.xrange(arrived_key(KEY))
            told.append([fields for _, fields in entries])
        return answers

    monkeypatch.setattr(there, "exchange", in_two)
    capture(stores.local)
    queue(stores.local, PUSH)
    mover.start()
    done(stores.local)
    coming_ms = 3 * 2000  # for a small bundle, three times the least
    assert told == [[{b"earlier": b"1"}, {b"coming": b"%d" % coming_ms}], [{b"arrived": b"1"}]]


def test_a_push_begins_while_the_one_before_it_waits_for_its_answer(
    mover: Mover, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, both = stores.of("there"), threading.Barrier(2)
    exchange = there.exchange

    def when_both_are_under_way(commands: Any, sending: Any) -> Any:
        answers = exchange(commands, sending)
        both.wait(10)
        return answers

    monkeypatch.setattr(there, "exchange", when_both_are_under_way)
    other = StateKey("chain", "there", "other")
    for key in (KEY, other):
        capture(stores.local, key)
    queue(stores.local, PUSH, replace(PUSH, key=str(other)))
    mover.start()
    done(stores.local)
    assert all(exists(there, redis_key(key)) for key in (KEY, other))


def test_an_objective_is_not_met_by_the_prediction(mover: Mover, stores: Stores) -> None:
    capture(stores.local)
    queue(stores.local, replace(PUSH, captured_s=PUSH.captured_s - 1))
    mover.start()
    eventually(lambda: bool(read_moves(stores.local, 1)), "the move is recorded")
    assert read_moves(stores.local, 1)[0].met is False


def test_over_a_slow_link_the_push_is_compressed_and_read_all_the_same(mover: Mover, stores: Stores) -> None:
    capture(stores.local)
    queue(stores.local, replace(PUSH, bottleneck_mbps=1.0))
    mover.start()
    eventually(lambda: bool(read_moves(stores.local, 1)), "the move is recorded")
    assert read_moves(stores.local, 1)[0].sent_bytes < 10_000
    loaded = RedisStates(stores).load(KEY, None, None).frames
    assert is_compressed(stores.of("there").run(lambda client: client.hget(redis_key(KEY), "image")))  # type: ignore[arg-type]
    assert loaded["boxes"] == FRAMES["boxes"]


def test_once_a_link_is_measured_its_rate_counts_and_not_the_expected_one(mover: Mover, stores: Stores) -> None:
    noise, small = StateKey("chain", "there", "noise"), {"text": encode_value(bytes(800))}
    capture(stores.local, noise, {"noise": encode_value(os.urandom(300_000))})
    capture(stores.local, frames=small)
    slow = replace(PUSH, bottleneck_mbps=0.001)
    mover.start()
    for count, job in enumerate((slow, replace(slow, key=str(noise)), slow), 1):
        queue(stores.local, job)
        eventually(lambda count=count: len(read_moves(stores.local, 3)) == count, "the move is recorded")  # type: ignore[misc]
    assert [move.sent_bytes > 800 for move in read_moves(stores.local, 3)] == [False, True, True]


def test_a_reader_is_taken_off_elsewhere_and_the_bundle_goes_with_it(mover: Mover, stores: Stores) -> None:
    capture(stores.local)
    queue(stores.local, PUSH, Retire(str(KEY), "there", "f"), Retire(str(KEY), "here", "f"))
    mover.start()
    done(stores.local)
    for store in (stores.local, stores.of("there")):
        assert not exists(store, redis_key(KEY))
        assert not exists(store, arrived_key(KEY))
    assert exists(stores.of("there"), retired_key(KEY))
    assert not exists(stores.local, retired_key(KEY))


def test_a_push_that_comes_again_does_not_bring_consumed_state_back(mover: Mover, stores: Stores) -> None:
    capture(stores.local)
    queue(stores.local, PUSH, Retire(str(KEY), "there", "f"), PUSH)
    mover.start()
    done(stores.local)
    assert not exists(stores.of("there"), redis_key(KEY))


def test_a_push_of_state_that_is_gone_is_dropped(mover: Mover, stores: Stores) -> None:
    queue(stores.local, PUSH)
    mover.start()
    done(stores.local)
    assert read_moves(stores.local, 1) == []


@pytest.mark.parametrize(
    "job",
    [replace(PUSH, to="mars"), Retire(str(KEY), "mars", "f"), replace(PUSH, key="no key")],
    ids=["push to nobody", "retire at nobody", "no key"],
)
def test_a_job_that_never_can_be_done_is_dropped(
    mover: Mover, stores: Stores, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    capture(stores.local)
    queue(stores.local, job)
    mover.start()
    done(stores.local)
    assert "is dropped" in caplog.text


def test_a_poison_entry_is_dropped_and_those_behind_it_are_done(
    mover: Mover, stores: Stores, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    stores.local.run(lambda client: client.xadd(JOBS, {"job": '{"job": "unknown"}'}))
    stores.local.run(lambda client: client.xadd(JOBS, {"other": "field"}))
    queue(stores.local, EMIT)
    mover.start()
    done(stores.local)
    assert broker.taken == [Event(EMIT.attributes, b"data")]
    assert caplog.text.count("found no job") == 2


def test_an_event_is_emitted_again_until_the_broker_takes_it(mover: Mover, stores: Stores, broker: Broker) -> None:
    broker.errors = [BrokerUnavailable("busy"), BrokerUnavailable("busy"), ElectionError("no node-info")]
    queue(stores.local, EMIT)
    mover.start()
    done(stores.local)
    assert broker.taken == [Event(EMIT.attributes, b"data")]


@pytest.mark.parametrize("error", [SendError("refused with 400"), RuntimeError("a fault of ours")], ids=repr)
def test_an_event_that_no_broker_ever_takes_is_dropped(
    mover: Mover, stores: Stores, broker: Broker, error: Exception
) -> None:
    broker.errors = [error]
    queue(stores.local, EMIT, replace(EMIT, data="next"))
    mover.start()
    done(stores.local)
    assert [event.data for event in broker.taken] == [b"next"]


def test_a_dead_target_delays_no_other(mover: Mover, stores: Stores) -> None:
    gone = StateKey("chain", "gone", "task")
    capture(stores.local, gone)
    capture(stores.local)
    queue(stores.local, replace(PUSH, key=str(gone), to="gone"), PUSH)
    mover.start()
    eventually(lambda: exists(stores.of("there"), redis_key(KEY)), "the push to the living node is done")
    assert mover.pending()["gone"] == 1
    mover.stop()
    eventually(lambda: queued(stores.local) == 1, "the job for the dead node is still on the queue")


def test_a_retirement_is_given_up_once_the_state_has_expired_by_itself(
    redis_node: RedisNode, stores: Stores, clock: FakeClock
) -> None:
    short = Stores(redis_node.settings(store_timeout_s=0.2, state_ttl_s=0.2), lambda node: "127.0.0.3")
    mover = Mover(short, clock, print)
    queue(stores.local, Retire(str(KEY), "there", "f"))
    mover.start()
    done(stores.local)
    mover.stop()
    short.local.close()


@contextmanager
def redis_at(host: str, port: int, directory: Path) -> Iterator[None]:
    process = subprocess.Popen(
        redis_command(find_redis_server(), host, port, directory, aof="no"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def answers(host: str, port: int) -> bool:
    try:
        with closing(redis.Redis(host, port)) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_push_is_done_when_its_target_comes_up(mover: Mover, stores: Stores, tmp_path: Path) -> None:
    gone = StateKey("chain", "gone", "task")
    capture(stores.local, gone)
    queue(stores.local, replace(PUSH, key=str(gone), to="gone"))
    mover.start()
    eventually(lambda: mover.pending() == {"gone": 1}, "the push is tried")
    host, port = stores.of("gone").address.split(":")
    with redis_at(host, int(port), tmp_path):
        done(stores.local)
        assert exists(stores.of("gone"), redis_key(gone))
        stores.of("gone").close()


def test_a_mover_outlives_the_absence_of_its_own_redis(clock: FakeClock, tmp_path: Path, unused_port: int) -> None:
    broker = Broker()
    node = RedisNode("127.0.0.1", unused_port)
    stores = Stores(node.settings(store_timeout_s=0.2), lambda name: "127.0.0.2")
    mover = Mover(stores, clock, broker.post)
    mover.start()
    try:
        for data in ("first", "second"):
            with redis_at(node.host, node.port, tmp_path):
                eventually(lambda: answers(node.host, node.port), "Redis is up")
                queue(stores.local, replace(EMIT, data=data))
                done(stores.local)
    finally:
        mover.stop()
        stores.local.close()
    assert [event.data for event in broker.taken] == [b"first", b"second"]


def test_a_mover_that_is_killed_loses_nothing(
    mover: Mover, stores: Stores, redis_node: RedisNode, other_node: RedisNode
) -> None:
    keys = [StateKey("chain", "there", f"task{number}") for number in range(60)]
    noise = {"noise": encode_value(os.urandom(400_000))}
    for key in keys:
        capture(stores.local, key, noise)
        queue(stores.local, replace(PUSH, key=str(key)))
    command = [sys.executable, "-c", MOVER, redis_node.host, str(redis_node.port), other_node.host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        eventually(lambda: queued(stores.local) < len(keys) - 3, "some jobs are done")
        process.send_signal(signal.SIGKILL)
    assert queued(stores.local) > 0, "killed too late to prove anything"
    mover.start()
    done(stores.local)
    states = RedisStates(stores)
    for key in keys:
        assert exists(stores.of("there"), arrived_key(key))
        assert states.load(key, None, None, first="there").frames == noise


def test_two_movers_on_one_queue_do_every_job_and_record_it_once(
    stores: Stores, clock: FakeClock, mover: Mover
) -> None:
    keys = [StateKey("chain", "there", f"task{number}") for number in range(30)]
    for key in keys:
        capture(stores.local, key)
        queue(stores.local, replace(PUSH, key=str(key)), Retire(str(key), "there", "f"))
    second = Mover(stores, clock, print)
    mover.start()
    second.start()
    done(stores.local)
    mover.stop()
    second.stop()
    assert sorted(move.what for move in read_moves(stores.local, 100)) == sorted(map(str, keys))
    assert not any(exists(stores.of("there"), redis_key(key)) for key in keys)


def test_starting_and_stopping_again_changes_nothing(mover: Mover, stores: Stores, broker: Broker) -> None:
    mover.stop()
    for data in ("first", "second"):
        mover.start()
        mover.start()
        queue(stores.local, replace(EMIT, data=data))
        done(stores.local)
        mover.stop()
        mover.stop()
    assert [event.data for event in broker.taken] == [b"first", b"second"]


def test_what_is_undone_at_the_stop_stays_on_the_queue(mover: Mover, stores: Stores, broker: Broker) -> None:
    broker.errors = [BrokerUnavailable("busy") for _ in range(10_000)]
    queue(stores.local, EMIT, replace(EMIT, data="next"))
    mover.start()
    eventually(lambda: mover.pending() == {"": 2}, "both jobs are known")
    mover.stop()
    assert mover.pending() == {}
    left: Any = stores.local.run(lambda client: client.xrange(JOBS))
    assert [decode(fields[b"job"]) for _, fields in left] == [EMIT, replace(EMIT, data="next")]


def test_the_thread_of_an_idle_target_ends_and_comes_back(stores: Stores, clock: FakeClock, broker: Broker) -> None:
    mover = Mover(stores, clock, broker.post, idle_s=0.01)
    mover.start()
    for data in ("first", "second"):
        queue(stores.local, replace(EMIT, data=data))
        done(stores.local)
        eventually(lambda: not any(t.name == "mover-" for t in threading.enumerate()), "the thread has ended")
    mover.stop()
    assert [event.data for event in broker.taken] == [b"first", b"second"]


def test_a_node_that_nobody_knows_is_told_from_one_that_nobody_can_ask_about(
    redis_node: RedisNode, stores: Stores, clock: FakeClock
) -> None:
    answers: list[Exception] = [ElectionError("node-info is silent"), UnknownNode("there", ["here"])]

    def host_of(node: str) -> str:
        raise answers.pop(0)

    capture(stores.local)
    mover = Mover(Stores(redis_node.settings(), host_of), clock, print)
    queue(stores.local, PUSH)
    mover.start()
    done(stores.local)
    mover.stop()
    assert answers == []
