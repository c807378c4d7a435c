from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.codec import encode
from libskylark.errors import CodecError, KeyFormatError, StateMissing, UnknownNode
from libskylark.event import Event
from libskylark.fields import Frames
from libskylark.jobs import Retire
from libskylark.key import StateKey
from libskylark.memory import Consumed
from libskylark.state import (
    COMING,
    RedisStates,
    arrived_key,
    decode_inline,
    encode_inline,
    incoming_state,
    redis_key,
    retired_key,
    stored_frames,
)
from libskylark.store import Store, Stores

from .conftest import RedisNode

FRAMES = {"image": encode(b"\x00" * 5000), "boxes": encode([1, 2])}
HERE = StateKey("chain", "here", "task")
THERE = StateKey("chain", "there", "task")


@pytest.fixture
def states(stores: Stores) -> RedisStates:
    return RedisStates(stores)


@pytest.fixture
def hasty(redis_node: RedisNode, stores: Stores) -> Iterator[RedisStates]:
    """States of the node here that wait for a push hardly at all."""
    hosts = {node: stores.of(node).address.split(":")[0] for node in ("there", "gone")}

    def host_of(node: str) -> str:
        if node not in hosts:
            raise UnknownNode(node, list(hosts))
        return hosts[node]

    hasty = Stores(redis_node.settings(store_timeout_s=0.5, push_wait_s=0.05), host_of)
    yield RedisStates(hasty)
    for node in ("here", *hosts):
        hasty.of(node).close()


def event(origin: str | None = None, **attributes: str) -> Event:
    return Event.new("t", f"/nodes/{origin}/functions/f" if origin else "/s", **attributes)


def capture(store: Store, key: StateKey, frames: Frames = FRAMES, readers: str = "f") -> None:
    mapping: Any = stored_frames(frames, readers.split(","))
    store.run(lambda client: client.hset(redis_key(key), mapping=mapping))
    store.run(lambda client: client.pexpire(redis_key(key), 60_000))


def push(store: Store, key: StateKey, readers: str = "f", frames: Frames = FRAMES, ttl_ms: int = 60_000) -> bytes:
    keys = [redis_key(key), arrived_key(key), retired_key(key)]
    arguments = [ttl_ms, readers, *(part for field in frames.items() for part in field)]
    outcome: bytes = store.run_script("push", keys, arguments)
    return outcome


def retire(store: Store, key: StateKey, reader: str, mark_ttl_ms: int | str = 60_000) -> int:
    keys = [redis_key(key), arrived_key(key), retired_key(key)]
    left: int = store.run_script("retire", keys, [reader, mark_ttl_ms])
    return left


def keys_of(store: Store) -> set[bytes]:
    found: Any = store.run(lambda client: client.keys("*"))
    return set(found)


def readers_of(store: Store, key: StateKey) -> Any:
    return store.run(lambda client: client.hget(redis_key(key), ""))


frames = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=40), max_size=4)


@given(frames)
def test_inline_state_comes_back_and_needs_no_escape_in_a_header(given_frames: dict[str, bytes]) -> None:
    text = encode_inline(given_frames)
    assert decode_inline(text) == given_frames
    assert text.replace("-", "a").replace("_", "a").isalnum()


@pytest.mark.parametrize("text", ["not base64!", "AAAA AAAA", "A", "Zm9v", "ÄÄÄÄ"])
def test_torn_inline_state_is_refused(text: str) -> None:
    with pytest.raises(CodecError):
        decode_inline(text)


@given(st.text())
def test_any_inline_text_is_frames_or_a_codec_error(text: str) -> None:
    try:
        decode_inline(text)
    except CodecError:
        return


def test_inline_state_is_read_without_any_store() -> None:
    state = incoming_state(event(skylarkstate=encode_inline({"n": encode(5)})), "here", None)  # type: ignore[arg-type]
    assert state.reads() == {}
    assert state.fields["n"] == 5
    assert "other" not in state.fields
    assert state.reads() == {"inline": 1}
    assert state.consumed("f") == Consumed()
    assert state.retirements("f") == ()


def test_an_event_without_state_has_none(states: RedisStates) -> None:
    state = incoming_state(event(), "here", states)
    assert dict(state.fields) == {}
    assert state.reads() == {}
    assert state.retirements("f") == ()


def test_a_faulty_key_is_refused(states: RedisStates) -> None:
    with pytest.raises(KeyFormatError):
        incoming_state(event(skylarkkey="no key"), "here", states)


def test_one_field_is_read_alone_and_one_that_the_bundle_lacks_is_left_out(stores: Stores, states: RedisStates) -> None:
    capture(stores.of("there"), THERE)
    assert states.load(THERE, None, ["boxes"]).frames == {"boxes": FRAMES["boxes"]}
    assert states.load(THERE, None, ["missing"]).frames == {}
    assert states.load(THERE, None, None).frames == FRAMES


@pytest.mark.parametrize(
    ("key", "origin", "kept_on", "place"),
    [
        (HERE, "here", "here", "local"),
        (HERE, "there", "here", "local"),
        (THERE, "here", "here", "local"),
        (THERE, "there", "there", "remote"),
        (THERE, None, "there", "remote"),
        (StateKey("chain", "gone", "task"), "there", "there", "remote"),
        (StateKey("chain", "mars", "task"), "there", "there", "remote"),
    ],
)
def test_state_is_read_from_the_nearest_place_that_has_it(
    stores: Stores, states: RedisStates, key: StateKey, origin: str | None, kept_on: str, place: str
) -> None:
    capture(stores.of(kept_on), key)
    state = incoming_state(event(origin, skylarkkey=str(key)), "here", states)
    assert (state.reads(), state.place) == ({}, None)
    assert state.fields["boxes"] == [1, 2]
    assert state.reads() == {place: 1}
    assert sorted(state.fields) == ["boxes", "image"]


def test_the_copy_here_is_preferred_to_all_others(stores: Stores, states: RedisStates) -> None:
    capture(stores.local, THERE, {"n": encode("near")})
    capture(stores.of("there"), THERE, {"n": encode("far")})
    assert states.load(THERE, "there", ["n"]).node == "here"


def test_both_fetches_are_from_one_place_while_it_has_the_state(stores: Stores, states: RedisStates) -> None:
    capture(stores.of("there"), THERE)
    state = incoming_state(event("here", skylarkkey=str(THERE)), "here", states)
    assert state.fields["boxes"] == [1, 2]
    capture(stores.local, THERE, {"boxes": encode("another"), "image": encode("another")})
    assert state.fields["image"] == b"\x00" * 5000
    assert state.place == "remote"


def test_where_a_place_loses_the_state_between_two_fetches_the_next_one_is_asked(
    stores: Stores, states: RedisStates
) -> None:
    capture(stores.of("there"), THERE)
    capture(stores.local, THERE)
    state = incoming_state(event("here", skylarkkey=str(THERE)), "here", states)
    assert state.fields["boxes"] == [1, 2]
    stores.local.run(lambda client: client.delete(redis_key(THERE)))
    assert state.fields["image"] == b"\x00" * 5000
    assert state.reads() == {"remote": 1}


def test_a_field_that_a_bundle_lacks_is_a_key_error(stores: Stores, states: RedisStates) -> None:
    capture(stores.local, HERE)
    state = incoming_state(event(skylarkkey=str(HERE)), "here", states)
    assert state.fields.get("missing") is None
    with pytest.raises(KeyError):
        state.fields["missing"]
    assert sorted(state.fields) == ["boxes", "image"]


@pytest.mark.parametrize("touch", [dict, lambda f: f["boxes"], lambda f: f.get("boxes"), lambda f: "boxes" in f])
def test_a_bundle_that_is_gone_is_missed_and_never_taken_for_an_empty_one(states: RedisStates, touch: Any) -> None:
    state = incoming_state(event(skylarkkey=str(THERE)), "here", states)
    with pytest.raises(
        StateMissing, match=r"chain:there:task is nowhere to be read: here: has none .* there: has none"
    ):
        touch(state.fields)


def test_missing_state_names_every_place_and_why_it_failed(hasty: RedisStates) -> None:
    with pytest.raises(StateMissing) as caught:
        hasty.load(StateKey("chain", "mars", "task"), "gone", None)
    for reason in ("here: has none", "mars: unknown node 'mars'", "gone: Redis at 127.0.0.3:"):
        assert reason in str(caught.value)
    with pytest.raises(StateMissing, match=r"here: has none.*there: has none"):
        hasty.load(HERE, "there", None)


def test_a_push_that_does_not_come_in_time_is_made_up_for_by_the_origin(stores: Stores, hasty: RedisStates) -> None:
    capture(stores.of("there"), HERE)
    assert hasty.load(HERE, "there", ["boxes"]).node == "there"


@pytest.fixture
def blocking(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released each time a reader begins to wait for a push."""
    waiting = threading.Semaphore(0)
    wait = stores.local.wait

    def announced(operation: Callable[[Any], Any], timeout_s: float) -> Any:
        waiting.release()
        return wait(operation, timeout_s)

    monkeypatch.setattr(stores.local, "wait", announced)
    return waiting


def test_all_readers_wake_when_the_push_in_flight_arrives(
    stores: Stores, states: RedisStates, blocking: threading.Semaphore
) -> None:
    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(states.load, HERE, "gone", ["boxes"]) for _ in range(4)]
        for _ in reads:
            assert blocking.acquire(timeout=5)
        assert push(stores.local, HERE) == b"stored"
        for read in reads:
            assert read.result(5).node == "here"
            assert read.result().frames == {"boxes": FRAMES["boxes"]}
            assert read.result().waited
    assert not states.load(HERE, "gone", ["boxes"]).waited


def announce(store: Store, key: StateKey, coming_ms: int) -> None:
    store.run(lambda client: client.xadd(arrived_key(key), {COMING: coming_ms}))


def test_a_push_that_has_begun_is_waited_for_longer(stores: Stores, hasty: RedisStates) -> None:
    capture(stores.of("there"), HERE)
    announce(stores.local, HERE, 60_000)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(hasty.load, HERE, "there", None)
        with pytest.raises(TimeoutError):
            read.result(0.5)  # ten times as long as it waits for a push that has not begun
        assert push(stores.local, HERE, frames={"n": encode("pushed")}) == b"stored"
        assert read.result(5).frames == {"n": encode("pushed")}
        assert read.result().waited


def test_a_push_that_has_begun_and_does_not_end_is_made_up_for_by_the_origin(
    stores: Stores, hasty: RedisStates
) -> None:
    capture(stores.of("there"), HERE)
    announce(stores.local, HERE, 50)
    assert hasty.load(HERE, "there", None).node == "there"


def test_of_a_bundle_that_was_read_in_part_the_rest_is_fetched_alone(stores: Stores, states: RedisStates) -> None:
    capture(stores.of("there"), THERE, {**FRAMES, "more": encode(1)})
    loaded = states.load(THERE, None, ["boxes"])
    assert loaded.others == {"image", "more"}
    rest = states.load(THERE, None, ["image", "more", "missing"])
    assert sorted(rest.frames) == ["image", "more"]
    assert rest.others == {"boxes"}


def test_state_that_was_made_here_is_not_waited_for(states: RedisStates, blocking: threading.Semaphore) -> None:
    with pytest.raises(StateMissing):
        states.load(HERE, "here", None)
    assert not blocking.acquire(blocking=False)


def test_a_pushed_bundle_has_its_readers_and_its_time_to_live(stores: Stores) -> None:
    assert push(stores.local, HERE, "f,g", ttl_ms=5000) == b"stored"
    stored = stores.local.run(lambda client: client.hgetall(redis_key(HERE)))
    assert stored == {name.encode(): frame for name, frame in stored_frames(FRAMES, ["f", "g"]).items()}
    for name in (redis_key(HERE), arrived_key(HERE)):
        assert 0 < stores.local.client.pttl(name) <= 5000


def test_a_push_that_is_repeated_changes_nothing(stores: Stores) -> None:
    push(stores.local, HERE, "f,g")
    retire(stores.local, HERE, "f")
    assert push(stores.local, HERE, "f,g") == b"present"
    assert readers_of(stores.local, HERE) == b"g"
    assert stores.local.run(lambda client: client.xlen(arrived_key(HERE))) == 1


def test_a_bundle_of_very_many_fields_is_pushed_whole(stores: Stores, states: RedisStates) -> None:
    many = {f"f{number}": encode(number) for number in range(20_000)}
    assert push(stores.local, HERE, frames=many) == b"stored"
    assert states.load(HERE, None, None).frames == many


def test_the_bundle_goes_with_its_last_reader_however_often_each_is_taken_off(stores: Stores) -> None:
    push(stores.local, HERE, "f,g")
    assert [retire(stores.local, HERE, "f") for _ in range(2)] == [1, 1]
    assert retire(stores.local, HERE, "stranger") == 1
    assert [retire(stores.local, HERE, "g") for _ in range(2)] == [0, 0]
    assert keys_of(stores.local) == {retired_key(HERE).encode()}
    assert 0 < stores.local.run(lambda client: client.pttl(retired_key(HERE))) <= 60_000


def test_the_origins_copy_leaves_nothing_behind(stores: Stores) -> None:
    capture(stores.local, THERE)
    assert retire(stores.local, THERE, "f", "") == 0
    assert keys_of(stores.local) == set()


def test_a_bundle_with_unknown_readers_stays_until_its_time_to_live_ends(stores: Stores) -> None:
    push(stores.local, HERE, "")
    assert retire(stores.local, HERE, "f") == -1
    assert stores.local.run(lambda client: client.exists(redis_key(HERE))) == 1


def test_a_late_push_brings_nothing_for_readers_that_are_done(stores: Stores) -> None:
    retire(stores.local, HERE, "f")
    assert push(stores.local, HERE, "f") == b"unwanted"
    assert keys_of(stores.local) == {retired_key(HERE).encode()}


def test_a_late_push_still_brings_the_bundle_for_the_other_readers(stores: Stores) -> None:
    retire(stores.local, HERE, "f")
    assert push(stores.local, HERE, "f,g") == b"stored"
    assert readers_of(stores.local, HERE) == b"g"


@pytest.mark.parametrize(
    ("key", "origin", "consumed", "retired_at"),
    [
        (HERE, "here", Consumed(str(HERE), "f"), []),
        (HERE, "there", Consumed(str(HERE), "f", late=True), ["there"]),
        (THERE, "here", Consumed(str(THERE), "f"), ["there"]),
        (THERE, "there", Consumed(), ["there"]),
        (THERE, "far", Consumed(), ["there", "far"]),
        (THERE, None, Consumed(), ["there"]),
        (HERE, None, Consumed(str(HERE), "f", late=True), []),
    ],
)
def test_a_reader_is_taken_off_every_copy_without_reading_any(
    key: StateKey, origin: str | None, consumed: Consumed, retired_at: list[str]
) -> None:
    state = incoming_state(event(origin, skylarkkey=str(key)), "here", None)  # type: ignore[arg-type]
    assert state.consumed("f") == consumed
    assert list(state.retirements("f")) == [Retire(str(key), node, "f") for node in retired_at]
    assert not state.fields.touched
