from __future__ import annotations

from typing import Any

import pytest

from libskylark.codec import decode, encode
from libskylark.errors import StoreUnavailable
from libskylark.event import Event
from libskylark.memory import (
    COUNTERS,
    Committed,
    Conflict,
    Effects,
    Ledger,
    MemoryName,
    RedisLedger,
    event_name,
    memory_fields,
)
from libskylark.store import Store
from libskylark.testing import FakeLedger

NAME = MemoryName("count", "area-1")
WINDOW_MS = 600_000


@pytest.fixture
def redis_ledger(store: Store) -> RedisLedger:
    return RedisLedger(store)


@pytest.fixture(params=["redis", "fake"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Both ledgers keep one contract, but for the expiry of duplicates."""
    if request.param == "fake":
        return FakeLedger()
    found: RedisLedger = request.getfixturevalue("redis_ledger")
    return found


def event(number: int = 1, source: str = "/s") -> Event:
    return Event.new("t", source, id=f"event-{number}")


def effects(number: int = 1, *, version: int | None = 0, **changes: Any) -> Effects:
    """What a run of event `number` changes, after it read the memory at `version`."""
    written = {name: encode(value) for name, value in changes.pop("written", {}).items()}
    defaults = {"reply": b"reply %d" % number, "now_ms": 1_000_000, "window_ms": WINDOW_MS, "read_version": version}
    return Effects(name=NAME, event=event(number), memory_written=written, **{**defaults, **changes})


def memory(ledger: Ledger) -> dict[str, Any]:
    return {name: decode(frame) for name, frame in ledger.load(NAME, None).items()}


def test_a_memory_is_empty_at_first(ledger: Ledger) -> None:
    opened = ledger.open(NAME, event())
    assert (opened.version, opened.reply) == (0, None)
    assert memory(ledger) == {}
    assert ledger.load(NAME, ["seen"]) == {}


def test_a_commit_writes_memory_reply_and_version(ledger: Ledger) -> None:
    assert ledger.commit(effects(written={"seen": 1, "names": ["a"]})) == Committed(False, b"reply 1")
    opened = ledger.open(NAME, event())
    assert (opened.version, opened.reply) == (1, b"reply 1")
    assert memory(ledger) == {"seen": 1, "names": ["a"]}
    assert ledger.load(NAME, ["seen"]) == {"seen": encode(1)}


def test_a_commit_removes_fields(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1, "old": 2}))
    ledger.commit(effects(2, version=1, memory_removed=frozenset({"old", "never there"})))
    assert memory(ledger) == {"seen": 1}
    assert ledger.open(NAME, event()).version == 2


def test_a_commit_that_leaves_memory_alone_keeps_its_version(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    ledger.commit(effects(2, version=None))
    assert ledger.open(NAME, event(2)).version == 1


def test_a_conflict_changes_nothing(ledger: Ledger, store: Store) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    late = effects(
        2,
        version=0,
        written={"seen": 99},
        memory_removed=frozenset({"seen"}),
        state_key="state:c:n:t",
        state={"image": b"x"},
        state_ttl_ms=1000,
        counters={"runs:count": 1},
    )
    assert ledger.commit(late) == Conflict(1)
    assert memory(ledger) == {"seen": 1}
    assert ledger.open(NAME, event(2)).reply is None
    assert store.run(lambda client: client.exists("state:c:n:t", COUNTERS)) == 0


def test_a_run_that_only_read_conflicts_too(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    assert ledger.commit(effects(2, version=0)) == Conflict(1)


def test_a_run_that_touched_no_memory_never_conflicts(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    assert ledger.commit(effects(2, version=None)) == Committed(False, b"reply 2")


def test_a_duplicate_gets_the_recorded_reply_and_changes_nothing(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    again = effects(1, version=1, written={"seen": 2}, reply=b"another reply")
    assert ledger.commit(again) == Committed(True, b"reply 1")
    assert memory(ledger) == {"seen": 1}
    assert ledger.open(NAME, event(1)).version == 1


def test_a_duplicate_of_an_old_version_is_a_duplicate_and_no_conflict(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    assert ledger.commit(effects(1, version=0, written={"seen": 2})) == Committed(True, b"reply 1")


def test_an_empty_reply_is_recorded_too(ledger: Ledger) -> None:
    ledger.commit(effects(1, reply=b""))
    assert ledger.open(NAME, event(1)).reply == b""


def test_the_same_id_from_another_source_is_another_event(ledger: Ledger) -> None:
    ledger.commit(effects(1))
    assert ledger.open(NAME, event(1, source="/other")).reply is None
    assert event_name(event(1)) != event_name(event(1, source="/other"))


def test_partitions_and_functions_are_kept_apart(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1}))
    for name in (MemoryName("count", "area-2"), MemoryName("other", "area-1")):
        assert ledger.load(name, None) == {}
        assert ledger.open(name, event(1)).reply is None


def test_memory_as_a_mapping_reads_what_is_needed(ledger: Ledger) -> None:
    ledger.commit(effects(1, written={"seen": 1, "names": ["a"]}))
    fields = memory_fields(ledger, NAME)
    assert fields["seen"] == 1
    assert sorted(fields) == ["names", "seen"]


def test_duplicates_are_forgotten_after_the_window(redis_ledger: RedisLedger) -> None:
    redis_ledger.commit(effects(1, now_ms=1_000_000))
    redis_ledger.commit(effects(2, now_ms=1_000_000 + WINDOW_MS - 1))
    assert redis_ledger.open(NAME, event(1)).reply == b"reply 1"
    redis_ledger.commit(effects(3, now_ms=1_000_000 + WINDOW_MS))
    assert redis_ledger.open(NAME, event(1)).reply is None
    assert redis_ledger.open(NAME, event(2)).reply == b"reply 2"


def test_replies_expire_in_redis_where_no_further_event_comes(redis_ledger: RedisLedger, store: Store) -> None:
    redis_ledger.commit(effects(1, written={"seen": 1}))
    ttl_ms = [store.run(lambda client, key=key: client.pttl(key)) for key in (f"replies:{NAME}", f"replytimes:{NAME}")]
    assert all(WINDOW_MS - 60_000 < ms <= WINDOW_MS for ms in ttl_ms)
    assert store.run(lambda client: client.pttl(f"memory:{NAME}")) == -1  # memory stays


def test_state_and_counters_are_committed_with_the_memory(redis_ledger: RedisLedger, store: Store) -> None:
    key = "state:chain:here:task"
    store.run(lambda client: client.hset(key, "left over", "x"))
    redis_ledger.commit(
        effects(1, state_key=key, state={"image": b"i"}, state_ttl_ms=5000, counters={"reads:local": 2})
    )
    redis_ledger.commit(effects(2, version=None, counters={"reads:local": 1, "runs:count": 1}))
    assert store.run(lambda client: client.hgetall(key)) == {b"image": b"i"}
    assert 0 < store.run(lambda client: client.pttl(key)) <= 5000
    assert store.run(lambda client: client.hgetall(COUNTERS)) == {b"reads:local": b"3", b"runs:count": b"1"}


def test_a_commit_that_is_tried_again_after_a_lost_answer_counts_once(redis_ledger: RedisLedger, store: Store) -> None:
    commit = effects(1, written={"seen": 1}, counters={"runs:count": 1})
    redis_ledger.commit(commit)
    assert redis_ledger.commit(commit) == Committed(True, b"reply 1")
    assert store.run(lambda client: client.hget(COUNTERS, "runs:count")) == b"1"


def test_a_memory_of_thousands_of_fields_is_committed(redis_ledger: RedisLedger) -> None:
    many = {f"field-{number}": number for number in range(12_000)}
    redis_ledger.commit(effects(1, written=many))
    assert memory(redis_ledger) == many


def test_binary_values_and_odd_names_survive(redis_ledger: RedisLedger) -> None:
    odd = {"a b": b"\x00\xff\r\n", "ü": b"x" * 100_000}
    redis_ledger.commit(effects(1, written=odd))
    assert memory(redis_ledger) == odd


def test_an_unreachable_redis_is_a_store_error(unused_port: int) -> None:
    ledger = RedisLedger(Store("127.0.0.1", unused_port, timeout_s=0.2))
    for use in (
        lambda: ledger.open(NAME, event()),
        lambda: ledger.load(NAME, None),
        lambda: ledger.commit(effects()),
    ):
        with pytest.raises(StoreUnavailable, match=str(unused_port)):
            use()
