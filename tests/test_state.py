from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.codec import encode
from libskylark.errors import CodecError, KeyFormatError, StateMissing, StoreUnavailable, UnknownNode
from libskylark.event import Event
from libskylark.key import StateKey
from libskylark.state import RedisStates, decode_inline, encode_inline, incoming_state, redis_key
from libskylark.store import Stores

FRAMES = {"image": encode(b"\x00" * 5000), "boxes": encode([1, 2])}
HERE = StateKey("chain", "here", "task")
THERE = StateKey("chain", "there", "task")


@pytest.fixture
def states(stores: Stores) -> RedisStates:
    return RedisStates(stores)


def event(**attributes: str) -> Event:
    return Event.new("t", "/s", **attributes)


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


def test_an_event_without_state_has_none(states: RedisStates) -> None:
    state = incoming_state(event(), "here", states)
    assert dict(state.fields) == {}
    assert state.reads() == {}


def test_a_bundle_lies_on_the_node_of_its_key_with_its_time_to_live(states: RedisStates, stores: Stores) -> None:
    states.push(THERE, FRAMES, 5000)
    there = stores.of("there")
    stored = there.run(lambda client: client.hgetall(redis_key(THERE)))
    assert stored == {name.encode(): frame for name, frame in FRAMES.items()}
    assert 0 < there.run(lambda client: client.pttl(redis_key(THERE))) <= 5000
    assert stores.local.run(lambda client: client.exists(redis_key(THERE))) == 0


def test_a_push_replaces_what_was_there(states: RedisStates) -> None:
    states.push(HERE, {"old": b"x"}, 5000)
    states.push(HERE, FRAMES, 5000)
    assert states.load(HERE, None) == FRAMES


def test_one_field_is_read_alone(states: RedisStates) -> None:
    states.push(THERE, FRAMES, 5000)
    assert states.load(THERE, "boxes") == {"boxes": FRAMES["boxes"]}
    assert states.load(THERE, "missing") == {}


@pytest.mark.parametrize(("key", "place"), [(HERE, "local"), (THERE, "remote")])
def test_state_is_read_from_the_node_of_its_key(states: RedisStates, key: StateKey, place: str) -> None:
    states.push(key, FRAMES, 5000)
    state = incoming_state(event(skylarkkey=str(key)), "here", states)
    assert state.reads() == {}
    assert state.fields["boxes"] == [1, 2]
    assert state.reads() == {place: 1}
    assert sorted(state.fields) == ["boxes", "image"]


def test_a_field_that_a_bundle_lacks_is_a_key_error(states: RedisStates) -> None:
    states.push(HERE, FRAMES, 5000)
    state = incoming_state(event(skylarkkey=str(HERE)), "here", states)
    assert state.fields.get("missing") is None
    with pytest.raises(KeyError):
        state.fields["missing"]


@pytest.mark.parametrize("touch", [dict, lambda f: f["boxes"], lambda f: f.get("boxes"), lambda f: "boxes" in f])
def test_a_bundle_that_is_gone_is_missed_and_never_taken_for_an_empty_one(states: RedisStates, touch: Any) -> None:
    state = incoming_state(event(skylarkkey=str(THERE)), "here", states)
    with pytest.raises(StateMissing, match="chain:there:task is not on there: it expired"):
        touch(state.fields)


@pytest.mark.parametrize(("node", "reason"), [("gone", "127.0.0.3:"), ("mars", "unknown node 'mars'")])
def test_state_on_a_node_that_does_not_answer_is_missed_by_name(states: RedisStates, node: str, reason: str) -> None:
    state = incoming_state(event(skylarkkey=f"chain:{node}:task"), "here", states)
    with pytest.raises(StateMissing, match=f"chain:{node}:task cannot be read: .*{reason}"):
        state.fields["image"]


def test_a_push_to_a_node_that_does_not_answer_fails(states: RedisStates) -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.3:"):
        states.push(StateKey("c", "gone", "t"), FRAMES, 1000)
    with pytest.raises(UnknownNode):
        states.push(StateKey("c", "mars", "t"), FRAMES, 1000)


def test_a_faulty_key_is_refused(states: RedisStates) -> None:
    with pytest.raises(KeyFormatError):
        incoming_state(event(skylarkkey="no key"), "here", states)
