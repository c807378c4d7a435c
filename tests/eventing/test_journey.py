"""When a chain has ended, whatever order the journals of its nodes become known in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libskylark.eventing.journal import Accepted, Duplicate, Outcome, OutcomeName, Record
from libskylark.eventing.journey import Journey, Step

NOW = "2026-11-24T00:00:00.000Z"
Journals = dict[str, list[Record]]


def accepted(trigger: str, event: str = "e", hop: bool = False) -> Accepted:
    return Accepted(event, "/s", "t", "chain", None, (trigger,), NOW, hop)


def outcome(trigger: str, outcome: OutcomeName, reply: str | None = None, event: str = "e") -> Outcome:
    return Outcome(event, "chain", "t", trigger, outcome, 200, 1, reply, 1.0, NOW)


FORWARDED: Journals = {
    "a": [accepted("b"), outcome("b", "forwarded")],
    "b": [
        accepted("b", hop=True),
        accepted("end", "r"),
        outcome("b", "replied", "r"),
        outcome("end", "delivered", event="r"),
    ],
}
READDRESSED: Journals = {
    "a": [accepted("b"), accepted("c"), outcome("b", "readdressed", "e"), outcome("c", "forwarded")],
    "c": [accepted("c", hop=True), outcome("c", "delivered")],
}
THERE_AND_BACK: Journals = {
    "a": [accepted("b"), outcome("b", "forwarded")],
    "b": [
        accepted("b", hop=True),
        accepted("c"),
        outcome("b", "replied", "e"),
        outcome("c", "forwarded"),
        accepted("b", hop=True),
        outcome("b", "delivered"),
    ],
    "c": [accepted("c", hop=True), accepted("b"), outcome("c", "replied", "e"), outcome("b", "forwarded")],
}


def decides(record: Record) -> bool:
    return isinstance(record, Outcome) and record.outcome != "forwarded"


@st.composite
def interleaved(draw: st.DrawFn) -> list[Step]:
    """The steps of a chain; the first is known first, and each journal is read in its order."""
    left = {
        node: list(records) for node, records in draw(st.sampled_from([FORWARDED, READDRESSED, THERE_AND_BACK])).items()
    }
    steps = [Step("a", left["a"].pop(0))]
    while nodes := [node for node, records in left.items() if records]:
        node = draw(st.sampled_from(nodes))
        steps.append(Step(node, left[node].pop(0)))
    return steps


@given(interleaved())
def test_a_chain_has_ended_when_its_last_outcome_is_known_and_not_before(steps: list[Step]) -> None:
    journey = Journey("chain")
    for number, step in enumerate(steps):
        assert not (journey.ended and any(decides(later.record) for later in steps[number:])), steps[:number]
        journey.add(step)
    assert journey.ended


def test_a_node_that_took_an_event_and_died_is_not_waited_for_once_the_event_went_elsewhere() -> None:
    journey = Journey("chain")
    records: list[Any] = [("a", record) for record in READDRESSED["a"]] + [("c", record) for record in READDRESSED["c"]]
    for node, record in [("b", accepted("b", hop=True)), *records]:
        journey.add(Step(node, record))
    assert journey.ended


def test_a_chain_that_is_known_from_another_node_only_has_not_ended() -> None:
    journey = Journey("chain")
    assert not journey.ended
    journey.add(Step("b", accepted("b", hop=True)))
    assert not journey.ended


def test_a_duplicate_is_the_end_of_what_was_sent() -> None:
    journey = Journey("chain")
    journey.add(Step("a", Duplicate("e", "/s", "t", "chain", "default/default", NOW)))
    assert journey.ended
    assert journey.dead_lettered == []


def test_an_answer_in_a_chain_of_its_own_is_not_waited_for() -> None:
    journey = Journey("chain")
    journey.add(Step("a", accepted("b")))
    own = outcome("b", "replied", "r")
    journey.add(Step("a", replace(own, reply_chain="another")))
    assert journey.ended
    journey.add(Step("a", own))
    assert not journey.ended
