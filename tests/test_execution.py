"""One event through one handler, on the real ledger in Redis; the fakes are shown to agree in test_testing.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from libskylark.codec import decode
from libskylark.codec import encode as encode_value
from libskylark.emission import Reply
from libskylark.errors import CodecError, FunctionError, KeyFormatError, MemoryConflict, StateMissing, StoreError
from libskylark.event import Event
from libskylark.execution import Context, Execution, Result
from libskylark.jobs import JOBS, Job, Push, Retire
from libskylark.jobs import decode as decode_job
from libskylark.key import StateKey
from libskylark.memory import COUNTERS, SUSPECTS, MemoryName, RedisLedger
from libskylark.policy import Candidate
from libskylark.state import RedisStates, decode_inline, encode_inline, redis_key, stored_frames
from libskylark.store import Store, Stores
from libskylark.testing import FakeClock, FakeLedger, FakeServices, FakeStates

from .conftest import RedisNode

NOW = "2027-01-15T08:00:00.000Z"
THERE = Candidate("there", "127.0.0.2", 10.0, 40.0, 1)
GONE = Candidate("gone", "127.0.0.3", 10.0, 40.0, 1)
LARGE = b"\x01" * 100_000

Make = Callable[..., Execution]


@pytest.fixture
def make(redis_node: RedisNode, stores: Stores, clock: FakeClock) -> Make:
    """Makes an execution on the node `here`; `to` are the candidates for the state, each of which may run it."""

    def build(emits: str | None = "test.done", to: list[Candidate] | None = None, **settings: Any) -> Execution:
        candidates = to or []
        services = FakeServices("here", "here", candidates, [c.node for c in candidates])
        return Execution(
            "count",
            emits,
            redis_node.settings(**settings),
            RedisLedger(stores.local),
            RedisStates(stores),
            services,
            clock,
        )

    return build


def event(number: int = 1, **attributes: str) -> Event:
    return Event.new("test.happened", "/s", {"n": number}, id=f"event-{number}", **attributes)


def count(event: Event, memory: Any) -> dict[str, int]:
    memory["seen"] = memory.get("seen", 0) + 1
    return {"seen": memory["seen"]}


def give(store: Store, key: StateKey, frames: dict[str, bytes], readers: str = "count") -> None:
    stored: dict[Any, Any] = stored_frames(frames, readers.split(","))
    store.run(lambda client: client.hset(redis_key(key), mapping=stored))


def jobs_of(store: Store) -> list[Job]:
    entries: Any = store.run(lambda client: client.xrange(JOBS))
    return [decode_job(fields[b"job"]) for _, fields in entries]


def emitted(result: Result) -> Event:
    assert result.reply is not None
    return result.reply


def memory_of(execution: Execution, partition: str = "count") -> dict[str, Any]:
    frames = execution.ledger.load(MemoryName("count", partition), None)
    return {name: decode(frame) for name, frame in frames.items()}


def test_the_emitted_event_says_where_it_comes_from(make: Make) -> None:
    cause = event(1, subject="area-1", partitionkey="p", traceparent="00-trace", correlationid="chain-1")
    reply = emitted(make().run(count, cause))
    assert reply.json() == {"seen": 1}
    assert {name: value for name, value in reply.attributes.items() if name != "id"} == {
        "specversion": "1.0",
        "source": "/nodes/here/functions/count",
        "type": "test.done",
        "time": NOW,
        "subject": "area-1",
        "datacontenttype": "application/json",
        "correlationid": "chain-1",
        "causationid": "event-1",
        "partitionkey": "p",
        "skylarkepoch": "30000000",
        "skylarkpolicy": "skylark",
        "expirytime": "2027-01-15T08:15:00.000Z",
        "traceparent": "00-trace",
    }


def test_the_id_of_the_emitted_event_depends_on_event_and_function_only(make: Make) -> None:
    runs = []
    for _ in range(2):
        execution = make()
        execution.ledger = FakeLedger()
        runs.append(emitted(execution.run(count, event(1))).id)
    assert runs[0] == runs[1]
    assert emitted(make().run(count, event(2))).id != runs[0]


def test_what_two_nodes_make_of_one_event_is_one_event_however_long_the_chain(make: Make) -> None:
    """Where an event is delivered to two nodes, only the source of what they emit tells them apart."""
    ids = []
    for node in ("here", "there"):
        execution = make()
        execution.ledger = FakeLedger()
        cause = event(1).with_attributes(source=f"/nodes/{node}/functions/camera")
        ids.append(emitted(execution.run(count, cause)).id)
    assert ids[0] == ids[1]


def test_the_chain_of_an_event_without_one_follows_from_the_event(make: Make) -> None:
    assert emitted(make().run(count, event(1))).chain == event(1).chain


def test_a_chain_keeps_its_expiry_and_a_new_chain_gets_its_own(make: Make) -> None:
    cause = event(1, correlationid="chain-1", expirytime="2027-01-15T09:00:00Z")
    kept = emitted(make().run(lambda event: {}, cause))
    assert (kept.chain, kept.attributes["expirytime"]) == ("chain-1", "2027-01-15T09:00:00Z")
    execution = make()
    execution.function = "other"
    new = emitted(execution.run(lambda event: Reply({}, new_chain=True), cause))
    assert (new.chain, new.attributes["expirytime"]) == (new.id, "2027-01-15T08:15:00.000Z")
    assert new.attributes["causationid"] == "event-1"


def test_a_reply_may_name_type_subject_partition_and_content_type(make: Make) -> None:
    returned = Reply(b"GIF89a", "test.picture", "s", "p", "image/gif")
    reply = emitted(make(emits=None).run(lambda event: returned, event(1, subject="old")))
    assert (reply.type, reply.subject, reply.partition) == ("test.picture", "s", "p")
    assert (reply.content_type, reply.data) == ("image/gif", b"GIF89a")


def test_a_handler_gets_what_its_parameters_name(make: Make) -> None:
    seen: dict[str, Any] = {}

    def handler(context: Context, event: Event) -> None:
        seen.update(node=context.node, epoch=context.epoch, above=context.is_above, id=event.id)

    assert make().run(handler, event(1)).reply is None
    assert seen == {"node": "here", "epoch": 30_000_000, "above": True, "id": "event-1"}


@pytest.mark.parametrize(
    ("attributes", "epoch"),
    [
        ({"skylarkepoch": "7", "time": "1970-01-01T00:05:00Z"}, 7),
        ({"time": "1970-01-01T00:05:00Z"}, 5),
        ({}, 30_000_000),
        ({"skylarkepoch": "9" * 5000}, 30_000_000),
    ],
)
def test_the_epoch_is_the_events_else_that_of_its_time_else_the_present_one(
    make: Make, attributes: dict[str, str], epoch: int
) -> None:
    assert make().context(event(1, **attributes)).epoch == epoch


def test_the_same_event_runs_the_handler_once(make: Make) -> None:
    execution = make()
    first, second = (execution.run(count, event(1)) for _ in range(2))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.reply == second.reply
    assert memory_of(execution) == {"seen": 1}


def test_a_duplicate_of_an_event_that_emitted_nothing_emits_nothing(make: Make) -> None:
    execution = make()
    runs: list[int] = []
    results = [execution.run(lambda event: runs.append(1), event(1)) for _ in range(2)]
    assert [result.reply for result in results] == [None, None]
    assert [result.duplicate for result in results] == [False, True]
    assert len(runs) == 1


def test_memory_is_kept_per_partition_subject_or_function(make: Make) -> None:
    execution = make()
    for number, attributes in enumerate(
        [{"partitionkey": "p", "subject": "s"}, {"subject": "s"}, {}, {"subject": "s"}]
    ):
        execution.run(count, event(number, **attributes))
    assert [memory_of(execution, name)["seen"] for name in ("p", "s", "count")] == [1, 2, 1]


def test_a_handler_that_raises_commits_nothing(make: Make, store: Store) -> None:
    def handler(event: Event, memory: Any, state: Any) -> None:
        memory["seen"] = 1
        state["image"] = LARGE
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        make(to=[THERE]).run(handler, event(1))
    assert store.run(lambda client: client.keys("*")) == []


@pytest.mark.parametrize(
    ("returned", "fault"),
    [
        (object(), "no JSON"),
        ({"x": float("nan")}, "no JSON"),
        (Reply({}, subject=5), "subject"),  # type: ignore[arg-type]
        (Reply({}, content_type="a\nb"), "datacontenttype"),
        (Reply({}, type="a\x00"), "type"),
    ],
)
def test_what_cannot_be_sent_commits_nothing(make: Make, store: Store, returned: Any, fault: str) -> None:
    def handler(event: Event, memory: Any) -> Any:
        memory["seen"] = 1
        return returned

    with pytest.raises(FunctionError, match=fault):
        make().run(handler, event(1))
    assert store.run(lambda client: client.keys("*")) == []


@pytest.mark.parametrize("where", ["memory", "state"])
def test_a_value_that_cannot_be_kept_is_the_functions_fault(make: Make, store: Store, where: str) -> None:
    def handler(event: Event, memory: Any, state: Any) -> dict[str, int]:
        {"memory": memory, "state": state}[where]["bad"] = object()
        return {}

    with pytest.raises(FunctionError, match="a value that cannot be kept"):
        make().run(handler, event(1))
    assert store.run(lambda client: client.keys("*")) == []


def test_a_handler_that_emits_needs_a_type(make: Make) -> None:
    with pytest.raises(FunctionError, match="emits no event type"):
        make(emits=None).run(count, event(1))


def test_a_memory_written_meanwhile_makes_the_handler_start_over(make: Make) -> None:
    execution, other = make(), make()
    tries: list[int] = []

    def handler(event: Event, memory: Any) -> dict[str, int]:
        seen = memory.get("seen", 0)
        if not tries:
            other.run(count, Event.new("t", "/other", id="meanwhile"))
        tries.append(seen)
        memory["seen"] = seen + 1
        return {"seen": seen + 1}

    assert emitted(execution.run(handler, event(1))).json() == {"seen": 2}
    assert tries == [0, 1]
    assert memory_of(execution) == {"seen": 2}


def test_a_memory_that_is_always_written_meanwhile_ends_in_a_conflict(make: Make) -> None:
    execution, other = make(), make()
    tries: list[int] = []

    def handler(event: Event, memory: Any) -> dict[str, int]:
        tries.append(memory.get("seen", 0))
        other.run(count, Event.new("t", "/other", id=f"meanwhile-{len(tries)}"))
        memory["mine"] = 1
        return {}

    with pytest.raises(MemoryConflict) as caught:
        execution.run(handler, event(1))
    assert (caught.value.expected, caught.value.found) == (4, 5)
    assert len(tries) == 5
    assert memory_of(execution) == {"seen": 5}


def test_two_threads_that_race_lose_no_increment(make: Make) -> None:
    executions = [make(), make()]

    def increment(execution: Execution, first: int) -> None:
        for number in range(first, first + 100):
            while True:  # as a broker does after a 409
                try:
                    execution.run(count, event(number))
                    break
                except MemoryConflict:
                    continue

    threads = [threading.Thread(target=increment, args=(e, 1000 * n)) for n, e in enumerate(executions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory_of(executions[0]) == {"seen": 200}


def put(**values: Any) -> Callable[..., dict[str, int]]:
    """A handler that adds to the state."""

    def handler(event: Event, state: Any) -> dict[str, int]:
        state.update(values)
        return {}

    return handler


def test_small_state_rides_in_the_event(make: Make, store: Store) -> None:
    reply = emitted(make(to=[THERE]).run(put(n=5, name="x"), event(1)))
    assert {name: decode(frame) for name, frame in decode_inline(reply.attributes["skylarkstate"]).items()} == {
        "n": 5,
        "name": "x",
    }
    assert "skylarkkey" not in reply.attributes
    assert store.run(lambda client: client.keys("state:*")) == []


def test_state_that_rides_in_the_event_is_traced_as_well(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[str, str, int]] = []

    def note(name: str, took_s: float, **told: Any) -> None:
        spans.append((name, told["skylark.place"], told["skylark.bytes"]))

    monkeypatch.setattr("libskylark.metering.note_span", note)

    def handler(event: Event, state: Any) -> dict[str, int]:
        state["text"] = "x" * 1000
        return {"n": state["n"]}

    inline = encode_inline({"n": encode_value(5)})
    reply = emitted(make(to=[THERE]).run(handler, event(1, skylarkstate=inline)))
    read, write = spans
    assert read == ("read state", "inline", len(inline) * 3 // 4)
    assert write[:2] == ("write state and memory", "local")
    assert write[2] > len(reply.attributes["skylarkstate"]) > 1000


@pytest.mark.parametrize(("size", "inline"), [(3046, True), (3047, False)])
def test_state_is_inline_up_to_4096_characters_as_sent(make: Make, size: int, inline: bool) -> None:
    reply = emitted(make(to=[THERE]).run(put(image=b"\xff" * size), event(1)))
    if inline:
        assert len(reply.attributes["skylarkstate"]) == 4096
    else:
        assert "skylarkstate" not in reply.attributes
        assert reply.attributes["skylarkkey"].split(":")[1] == "there"


def test_the_inline_limit_is_a_setting(make: Make) -> None:
    assert "skylarkkey" in emitted(make(inline_limit_bytes=0).run(put(n=1), event(1))).attributes


def test_large_state_is_captured_here_and_its_push_to_the_successor_is_queued(make: Make, stores: Stores) -> None:
    reply = emitted(make(to=[THERE]).run(put(image=LARGE), event(1, correlationid="chain-1")))
    key = StateKey.parse(reply.attributes["skylarkkey"])
    assert (key.chain, key.node, key.task) == ("chain-1", "there", reply.id)
    assert reply.attributes["skylarknode"] == "there"
    stored: Any = stores.local.run(lambda client: client.hgetall(redis_key(key)))
    assert stored.pop(b"") == b""  # FakeServices name no function that takes the event
    assert {name: decode(frame) for name, frame in stored.items()} == {b"image": LARGE}
    assert 890_000 < stores.local.run(lambda client: client.pttl(redis_key(key))) <= 900_000
    (job,) = jobs_of(stores.local)
    assert isinstance(job, Push)
    assert (job.key, job.to, job.policy, job.hops, job.objective_ms) == (str(key), "there", "skylark", 1, 200.0)
    assert job.size_bytes > len(LARGE)
    assert job.predicted_ms == pytest.approx(2 * 10 + 8 * job.size_bytes / (1000 * 40))


def test_state_for_this_node_needs_no_push(make: Make, store: Store) -> None:
    reply = emitted(make().run(put(image=LARGE), event(1)))
    assert StateKey.parse(reply.attributes["skylarkkey"]).node == "here"
    assert jobs_of(store) == []


def test_a_suspect_gets_neither_state_nor_event(make: Make, store: Store) -> None:
    store.run(lambda client: client.hset(SUSPECTS, "there", 1))
    reply = emitted(make(to=[THERE, GONE]).run(put(image=LARGE), event(1)))
    assert reply.attributes["skylarknode"] == "gone"
    (job,) = jobs_of(store)
    assert isinstance(job, Push)
    assert job.refused == (("there", "failed its health probe"),)


def test_consumed_state_goes_here_and_is_retired_where_it_came_from(make: Make, store: Store) -> None:
    key = StateKey("chain", "here", "task")
    give(store, key, {"n": encode_value(1)}, readers="count,other")
    cause = Event.new("t", "/nodes/there/functions/first", id="event-1", skylarkkey=str(key))
    make().run(lambda event, state: state["n"] and None, cause)
    assert store.run(lambda client: client.hget(redis_key(key), "")) == b"other"
    assert jobs_of(store) == [Retire(key=str(key), at="there", reader="count")]
    second = make()
    second.function = "other"
    second.run(lambda event: None, cause)
    assert store.run(lambda client: client.exists(redis_key(key))) == 0


def test_state_stays_here_while_elect_is_silent(make: Make) -> None:
    execution = make()
    execution.services = FakeServices(elect_is_down=True)
    reply = emitted(execution.run(put(image=LARGE), event(1)))
    assert reply.attributes["skylarkkey"].split(":")[1] == "here"
    assert "skylarknode" not in reply.attributes


def test_a_chain_id_with_odd_characters_still_gets_a_key(make: Make) -> None:
    reply = emitted(make().run(put(image=LARGE), event(1, correlationid="a:b c/ü")))
    assert reply.chain == "a:b c/ü"
    assert StateKey.parse(reply.attributes["skylarkkey"]).node == "here"


def test_state_that_nobody_touched_is_carried_on_and_counts_as_no_read(make: Make, stores: Stores) -> None:
    first = emitted(make(to=[THERE]).run(put(image=LARGE, n=1), event(1)))
    execution = make()
    execution.function = "second"
    result = execution.run(lambda event: {}, first)
    assert result.reads == {}
    key = StateKey.parse(emitted(result).attributes["skylarkkey"])
    assert sorted(RedisStates(stores).load(key, None, None).frames) == ["image", "n"]


def test_fields_are_added_changed_and_deleted_on_the_way(make: Make) -> None:
    first = emitted(make().run(put(a=1, b=[1], c=3), event(1)))

    def handler(event: Event, state: Any) -> dict[str, int]:
        state["b"].append(2)
        del state["c"]
        state["d"] = 4
        return {}

    second = make()
    second.function = "second"
    result = second.run(handler, first)
    frames = decode_inline(emitted(result).attributes["skylarkstate"])
    assert {name: decode(frame) for name, frame in frames.items()} == {"a": 1, "b": [1, 2], "d": 4}
    assert result.reads == {"inline": 1}


def test_reads_are_counted_by_place(make: Make, store: Store, stores: Stores) -> None:
    execution = make()
    for number, node in enumerate(["here", "there"]):
        key = StateKey("chain", node, "task")
        give(stores.of(node), key, {"n": encode_value(1)})
        execution.run(lambda event, state: list(state) and None, event(number, skylarkkey=str(key)))
    counters = store.run(lambda client: client.hgetall(COUNTERS))
    assert counters == {b"reads:local": b"1", b"reads:remote": b"1", b"runs:count": b"2"}


def test_a_run_tells_what_it_read_where_and_how_much(make: Make, store: Store, stores: Stores) -> None:
    def handler(event: Event, state: Any, memory: Any) -> None:
        memory["seen"] = memory.get("seen", b"\x01" * 10)
        dict(state)

    execution = make()
    frame = encode_value(b"\x02" * 1000)
    told = []
    for number, node in enumerate(["here", "there"]):
        key = StateKey("chain", node, "task")
        give(stores.of(node), key, {"n": frame})
        told.append(execution.run(handler, event(number, skylarkkey=str(key))).timings)
    inline = encode_inline({"n": frame})
    told.append(execution.run(handler, event(3, skylarkstate=inline)).timings)
    kept = len(encode_value(b"\x01" * 10))
    # A field that is not there is fetched alone; then it is.
    memory = [("memory", "local", "here", size_bytes) for size_bytes in (0, kept, kept)]
    size_bytes = len(frame)
    places = [("local", "here", size_bytes), ("remote", "there", size_bytes), ("inline", "here", len(inline) * 3 // 4)]
    for timings, read, (place, node, size) in zip(told, memory, places, strict=True):
        found = [(t.what, t.place, t.node, t.size_bytes) for t in timings]
        assert found == [read, ("state", place, node, size), ("commit", "", "", 0)]
    assert told[0][-1].ms > 0
    assert [t.ms > 0 for t in told[2]] == [True, False, True]


def test_what_is_carried_on_unread_is_timed_and_a_repetition_reads_nothing(make: Make, stores: Stores) -> None:
    key = StateKey("chain", "there", "task")
    give(stores.of("there"), key, {"n": encode_value(1)})
    execution, again = make(), event(1, skylarkkey=str(key))
    first, second = (execution.run(lambda event: {"n": 1}, again) for _ in range(2))
    assert (first.reads, [t.what for t in first.timings]) == ({}, ["state", "commit"])
    assert (second.duplicate, second.timings) == (True, ())


def test_state_that_is_gone_is_missed_and_nothing_is_committed(make: Make, store: Store) -> None:
    def handler(event: Event, state: Any, memory: Any) -> dict[str, int]:
        memory["seen"] = 1
        return {"n": state["n"]}

    with pytest.raises(StateMissing):
        make().run(handler, event(1, skylarkkey="chain:there:task"))
    assert store.run(lambda client: client.keys("*")) == []


@pytest.mark.parametrize(
    ("attributes", "error"), [({"skylarkstate": "torn"}, CodecError), ({"skylarkkey": "no key"}, KeyFormatError)]
)
def test_torn_state_in_an_event_is_the_events_fault(
    make: Make, attributes: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make().run(count, event(1, **attributes))


def test_an_unreachable_store_is_told(redis_node: RedisNode, unused_port: int, clock: FakeClock) -> None:
    settings = redis_node.settings(store_timeout_s=0.2)
    ledger = RedisLedger(Store("127.0.0.1", unused_port, timeout_s=0.2))
    execution = Execution("count", "t", settings, ledger, FakeStates(), FakeServices(), clock)
    with pytest.raises(StoreError, match=str(unused_port)):
        execution.run(count, event(1))
