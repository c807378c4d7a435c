"""What the page reads of a node's Redis: recorded answers as frames and alarms, and where memory and state are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.dashboard.findings import Findings
from libskylark.dashboard.places import Places, look
from libskylark.event import Event
from libskylark.eventing.journal import Accepted
from libskylark.eventing.journey import Step
from libskylark.lab.tally import ALARM_TYPE, HOTSPOTS_TYPE
from libskylark.store import Store, Stores

SPEC = ConstellationSpec.model_validate(
    {
        "nodes": [
            {"name": "here", "type": "Sat", "ip": "10.0.0.1"},
            {"name": "there", "type": "Sat", "ip": "10.0.0.2"},
        ],
        "functions": {"detect": {"nodes": ["Sat"]}, "alarm": {"nodes": ["here"]}},
    }
)
SPOT = {"x": 1.5, "y": 2.5, "box": [0, 1, 3, 4], "lon": 16.0, "lat": 38.0, "area_m2": 900.0, "pixels": 1}
HOTSPOTS = {"frame": 7, "area": "area-1", "satellite": "here", "count": 1, "hotspots": [{**SPOT, "persistent": False}]}
PROPERTIES = {"id": "7-0", "area": "area-1", "first_frame": 6, "last_frame": 7, "frames_seen": 2, "area_m2": 900.0}
FEATURE = {"geometry": {"type": "Point", "coordinates": [16.0, 38.0]}, "properties": {**PROPERTIES, "x": 1.5, "y": 2.5}}


@pytest.fixture
def named(stores: Stores) -> dict[str, Store]:
    return {name: stores.of(name) for name in ("here", "there")}


def accepted(function: str, type: str, cause: str | None) -> Step:
    record = Accepted("reply", f"/nodes/here/functions/{function}", type, "chain", cause, (), "2026-01-02T03:04:05Z")
    return Step("here", record)


def record_answer(store: Store, function: str, partition: str, type: str, data: Any) -> None:
    """As commit.lua keeps the answer to the event `cause` of preprocess."""
    attributes = {"specversion": "1.0", "id": "reply", "source": "/s", "type": type, "time": "2026-01-02T03:04:05Z"}
    content = json.dumps(attributes).encode() + b"\n" + json.dumps(data).encode()
    store.client.hset(f"replies:{function}:{partition}", "/functions/preprocess cause", content)


def found(findings: Findings, step: Step) -> list[tuple[str, dict[str, Any]]]:
    causing = Accepted("cause", "/nodes/here/functions/preprocess", "t", "chain", None, (), "2026-01-02T03:04:04Z")
    assert findings.asks_for(Step("here", causing)) is None
    cause = findings.asks_for(step)
    assert cause is not None
    assert isinstance(step.record, Accepted)
    answer = findings.look_up(step.node, step.record, cause)
    return [] if answer is None else findings.add(step, answer)


@pytest.mark.parametrize(("node", "partition"), [("here", "area-1"), ("there", "area-1"), ("there", "by-hand")])
def test_a_frame_is_what_detect_has_recorded_wherever_its_memory_is(
    named: dict[str, Store], node: str, partition: str
) -> None:
    record_answer(named[node], "detect", partition, HOTSPOTS_TYPE, HOTSPOTS)
    ((kind, frame),) = found(Findings(Constellation(SPEC), named), accepted("detect", HOTSPOTS_TYPE, "cause"))
    assert kind == "frame"
    assert frame["id"] == "chain"
    assert (frame["frame"], frame["satellite"], frame["detected_on"], frame["count"]) == (7, "here", "here", 1)
    assert frame["hotspots"] == HOTSPOTS["hotspots"]


def test_every_alarm_of_an_answer_is_told(named: dict[str, Store]) -> None:
    unlocated = {"geometry": None, "properties": {**FEATURE["properties"], "id": "7-1"}}  # type: ignore[dict-item]
    record_answer(named["here"], "alarm", "area-1", ALARM_TYPE, {"features": [FEATURE, unlocated]})
    told = found(Findings(Constellation(SPEC), named), accepted("alarm", ALARM_TYPE, "cause"))
    assert [(kind, alarm["fire"], alarm["lon"], alarm["lat"]) for kind, alarm in told] == [
        ("alarm", "7-0", 16.0, 38.0),
        ("alarm", "7-1", None, None),
    ]


@pytest.mark.parametrize(
    "data", [None, [], {"count": "x", "hotspots": []}, {"count": 1}, {"count": 1, "hotspots": [1]}]
)
def test_an_answer_that_is_no_frame_is_passed_over(named: dict[str, Store], data: Any) -> None:
    record_answer(named["here"], "detect", "area-1", HOTSPOTS_TYPE, data)
    assert found(Findings(Constellation(SPEC), named), accepted("detect", HOTSPOTS_TYPE, "cause")) == []


def test_what_nobody_has_recorded_is_not_found(named: dict[str, Store]) -> None:
    assert found(Findings(Constellation(SPEC), named), accepted("detect", HOTSPOTS_TYPE, "cause")) == []


def test_an_answer_whose_cause_is_not_known_is_not_looked_for(named: dict[str, Store]) -> None:
    findings = Findings(Constellation(SPEC), named)
    assert findings.asks_for(accepted("detect", HOTSPOTS_TYPE, "unheard of")) is None
    assert findings.asks_for(accepted("detect", HOTSPOTS_TYPE, None)) is None


def owner(store: Store, phase: str, node: str, epoch: int) -> None:
    store.client.hset("owner:detect:area-1", mapping={"phase": phase, "node": node, "epoch": epoch})
    store.client.sadd("skylark:memories", "detect:area-1")


def placed(named: dict[str, Store]) -> list[tuple[str, str, str, str | None]]:
    places = Places(frozenset(SPEC.functions))
    for name, store in named.items():
        places.saw(name, look(store))
    return [(m["function"], m["node"], m["phase"], m["to"]) for m in places.memories()]


def test_memory_is_followed_through_a_handover(named: dict[str, Store]) -> None:
    here, there = named["here"], named["there"]
    assert placed(named) == []
    here.client.hset("memory:detect:area-1", "field", b"x" * 1000)
    owner(here, "owned", "here", 5)
    assert placed(named) == [("detect", "here", "owned", None)]
    there.client.hset("copy:owner:detect:area-1", "known", 1)
    assert placed(named) == [("detect", "here", "copying", "there")]
    owner(here, "leaving", "there", 5)
    assert placed(named) == [("detect", "here", "leaving", "there")]
    there.client.rename("copy:owner:detect:area-1", "memory:detect:area-1")
    owner(there, "owned", "there", 6)
    assert placed(named) == [("detect", "there", "owned", None)]
    owner(here, "moved", "there", 6)
    here.client.delete("memory:detect:area-1")
    assert placed(named) == [("detect", "there", "owned", None)]


def test_memory_that_is_not_anchored_is_kept_where_it_is_and_that_of_services_is_not_shown(
    named: dict[str, Store],
) -> None:
    named["here"].client.hset("memory:alarm:area:1", "field", b"x")
    named["here"].client.hset("memory:elect:elect", "field", b"x")
    assert placed(named) == [("alarm", "here", "kept", None)]


def test_a_memory_is_as_large_as_its_fields_and_the_replies_that_move_with_it(named: dict[str, Store]) -> None:
    named["here"].client.hset("memory:alarm:area-1", "field", b"x" * 1000)
    named["here"].client.hset("replies:alarm:area-1", mapping={str(n): b"y" * 3000 for n in range(20)})
    named["there"].client.hset("memory:alarm:area-2", "field", b"x")
    places = Places(frozenset(SPEC.functions))
    for name, store in named.items():
        places.saw(name, look(store))
    one, other = places.memories()
    assert 1000 < one["fields_bytes"] < 2000
    assert 60_000 < one["replies_bytes"] < 80_000
    assert other["replies_bytes"] == 0


def test_bundles_of_state_are_counted_and_named_and_other_keys_are_not(named: dict[str, Store]) -> None:
    for key in ("state:chain:here:task", "state:odd", "someone:else", b"\xff\xfe"):
        named["here"].client.set(key, 1)
    places = Places(frozenset())
    places.saw("here", look(named["here"]))
    assert places.node("here")["states"] == 1
    assert places.states("here") == [{"chain": "chain", "node": "here", "task": "task"}]


def test_a_node_that_does_not_answer_is_told_with_what_was_known_of_it(named: dict[str, Store]) -> None:
    places = Places(frozenset())
    assert places.node("here")["waiting"] is None
    places.saw("here", look(named["here"]))
    places.heard_nothing("here", "gone")
    assert (places.node("here")["waiting"], places.node("here")["fault"]) == (0, "gone")
    places.saw("here", look(named["here"]))
    assert places.node("here")["fault"] is None


def test_an_event_is_known_by_source_and_id_as_the_function_knows_it() -> None:
    findings = Findings(Constellation(SPEC), {})
    findings.asks_for(Step("here", Accepted("cause", "/x", "t", "c", None, (), "2026-01-02T03:04:04Z", hop=True)))
    assert findings.asks_for(accepted("detect", HOTSPOTS_TYPE, "cause")) == Event({"id": "cause", "source": "/x"})
