"""What came of what, from the journals of several nodes in whatever order they are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.event import derived_id
from libskylark.eventing.journal import Accepted, Duplicate, Outcome, OutcomeName, Record
from libskylark.eventing.journey import Step
from libskylark.eventing.lineage import Delivery, Visit, find_chains, grow, replayed, steps_of, walk

Journals = dict[str, list[Record]]


def at(number: int) -> str:
    return f"2026-11-24T08:00:{number:02}.000Z"


def accepted(number: int, event: str, *triggers: str, hop: bool = False, **changes: Any) -> Accepted:
    fields: dict[str, Any] = {"source": "/s", "type": "t", "chain": "chain", "cause": None, **changes}
    return Accepted(event=event, to=triggers, time=at(number), hop=hop, **fields)


def ended(number: int, event: str, trigger: str, outcome: OutcomeName, reply: str | None = None) -> Outcome:
    return Outcome(event, "chain", "t", trigger, outcome, 200, 1, reply, 1.0, at(number))


def told(roots: list[Visit]) -> list[Any]:
    """(event@node, [(trigger, outcome, what it was handed over as, what it was answered by)], what it caused)."""

    def of(delivery: Delivery) -> Any:
        outcome = delivery.outcome.outcome if delivery.outcome else None
        return delivery.trigger, outcome, told(delivery.onward), told([delivery.reply] if delivery.reply else [])

    return [(f"{v.event}@{v.node}", [of(d) for d in v.deliveries], told(v.caused)) for v in roots]


def grown(journals: Journals) -> list[Any]:
    return told(grow([Step(node, record) for node, records in journals.items() for record in records]))


THERE: Journals = {
    "a": [accepted(1, "e", "x", "y"), ended(2, "e", "x", "forwarded"), ended(3, "e", "y", "delivered")],
    "b": [accepted(2, "e", "x", hop=True), accepted(3, "r"), ended(3, "e", "x", "replied", "r")],
}


@st.composite
def in_any_order(draw: st.DrawFn) -> list[Step]:
    nodes = draw(st.permutations([node for node, records in THERE.items() for _ in records]))
    left = {node: list(records) for node, records in THERE.items()}
    return [Step(node, left[node].pop(0)) for node in nodes]


@given(in_any_order())
def test_a_forwarded_event_and_its_answer_are_below_what_they_came_of(steps: list[Step]) -> None:
    below: list[Any] = [("e@b", [("x", "replied", [], [("r@b", [], [])])], [])]
    assert told(grow(steps)) == [("e@a", [("x", "forwarded", below, []), ("y", "delivered", [], [])], [])]


def test_an_event_that_is_answered_by_itself_is_below_itself() -> None:
    journal: list[Record] = [
        accepted(1, "e", "unaddressed"),
        accepted(1, "e", "x"),
        ended(1, "e", "unaddressed", "replied", "e"),
        ended(2, "e", "x", "delivered"),
    ]
    below: list[Any] = [("e@a", [("x", "delivered", [], [])], [])]
    assert grown({"a": journal}) == [("e@a", [("unaddressed", "replied", [], below)], [])]


def test_an_event_that_comes_back_to_a_node_that_it_has_left_is_there_twice() -> None:
    journals: Journals = {
        "a": [
            accepted(1, "e", "b"),
            ended(2, "e", "b", "forwarded"),
            accepted(5, "e", "a", hop=True),
            ended(6, "e", "a", "delivered"),
        ],
        "b": [
            accepted(2, "e", "b", hop=True),
            accepted(3, "e", "a"),
            ended(3, "e", "b", "replied", "e"),
            ended(5, "e", "a", "forwarded"),
        ],
    }
    end: list[Any] = [("e@a", [("a", "delivered", [], [])], [])]
    back: list[Any] = [("e@b", [("a", "forwarded", end, [])], [])]
    there: list[Any] = [("e@b", [("b", "replied", [], back)], [])]
    assert grown(journals) == [("e@a", [("b", "forwarded", there, [])], [])]


def test_an_event_sent_twice_has_two_trees_with_one_outcome_each() -> None:
    twice: list[Record] = [accepted(n, "e", "x") for n in (1, 2)]
    journals: Journals = {
        "a": [*twice, *(ended(n, "e", "x", "forwarded") for n in (3, 4))],
        "b": [*(accepted(n, "e", "x", hop=True) for n in (3, 4)), ended(5, "e", "x", "delivered")],
    }
    first, second = grown(journals)
    assert first == ("e@a", [("x", "forwarded", [("e@b", [("x", "delivered", [], [])], [])], [])], [])
    assert second == ("e@a", [("x", "forwarded", [("e@b", [("x", None, [], [])], [])], [])], [])


def test_a_hop_whose_answer_was_lost_is_there_as_often_as_it_was_taken() -> None:
    journals: Journals = {
        "a": [accepted(1, "e", "x"), ended(9, "e", "x", "forwarded")],
        "b": [accepted(2, "e", "x", hop=True), accepted(3, "e", "x", hop=True)],
    }
    ((_, [(_, _, onward, _)], _),) = grown(journals)
    assert onward == [("e@b", [("x", None, [], [])], [])] * 2


def test_a_replay_is_below_the_delivery_that_was_dead_lettered() -> None:
    journals: Journals = {
        "a": [accepted(1, "e", "x"), ended(2, "e", "x", "forwarded")],
        "b": [
            accepted(2, "e", "x", hop=True),
            ended(3, "e", "x", "dead-lettered"),
            accepted(8, "e", "x", hop=True),
            ended(9, "e", "x", "delivered"),
        ],
    }
    (root,) = grow([Step(node, record) for node, records in journals.items() for record in records])
    (hop,) = root.deliveries[0].onward
    (again,) = hop.deliveries[0].onward
    assert not replayed(root.deliveries[0], hop)
    assert replayed(hop.deliveries[0], again)
    assert told([again]) == [("e@b", [("x", "delivered", [], [])], [])]


def test_an_event_that_names_a_cause_and_answers_nothing_is_below_its_cause() -> None:
    journal: list[Record] = [
        accepted(1, "e", "x"),
        ended(2, "e", "x", "delivered"),
        accepted(4, "later", cause="e"),
        accepted(3, "sooner", cause="e"),
        accepted(5, "other", cause="unknown"),
    ]
    below: list[Any] = [("sooner@a", [], []), ("later@a", [], [])]
    assert grown({"a": journal}) == [("e@a", [("x", "delivered", [], [])], below), ("other@a", [], [])]


def test_what_the_journal_has_dropped_is_known_by_its_outcomes() -> None:
    journal: list[Record] = [ended(2, "e", "x", "delivered"), accepted(3, "r"), ended(3, "e", "y", "replied", "r")]
    (root,) = grow([Step("a", record) for record in journal])
    assert (root.accepted, root.time) == (None, at(2))
    assert told([root]) == [
        ("e@a", [("x", "delivered", [], []), ("y", "replied", [], [("r@a", [], [])])], []),
    ]


def test_ids_that_go_round_in_a_circle_make_no_endless_tree() -> None:
    journal: list[Record] = [
        accepted(1, "e", "x", cause="r"),
        accepted(1, "r", "x", cause="e"),
        ended(1, "r", "x", "replied", "e"),
        ended(1, "e", "x", "replied", "r"),
    ]
    assert len(list(walk(grow([Step("a", record) for record in journal])))) == 2


def test_a_chain_may_be_longer_than_the_stack_is_deep() -> None:
    journal: list[Record] = [accepted(1, "0", "x")]
    for number in range(3000):
        journal += [
            accepted(1, str(number + 1), "x"),
            ended(1, str(number), "x", "replied", str(number + 1)),
        ]
    roots = grow([Step("a", record) for record in journal])
    assert len(roots) == 1
    assert sum(1 for _ in walk(roots)) == 3001


@pytest.fixture
def steps() -> list[Step]:
    records: list[Record] = [
        accepted(1, "event-1", chain="chain-1"),
        accepted(2, "event-1", chain="chain-2"),
        accepted(3, "event-2", chain="chain-2"),
        accepted(4, "chain-1", chain="chain-3"),
    ]
    return [Step("a", record) for record in records]


@pytest.mark.parametrize(
    ("name", "chains"),
    [
        ("chain-1", ["chain-1"]),  # rather than an event of that id
        ("event-2", ["chain-2"]),
        ("event-1", ["chain-1", "chain-2"]),
        ("event", ["chain-1", "chain-2"]),
        ("chai", ["chain-1", "chain-2", "chain-3"]),
        ("cha", []),
        ("event-3", []),
    ],
)
def test_a_chain_is_found_by_its_id_or_an_events_or_a_beginning(
    steps: list[Step], name: str, chains: list[str]
) -> None:
    assert list(find_chains(steps, name)) == chains


def test_an_answer_without_a_chain_of_its_own_stays_in_the_chain_when_it_is_handed_over() -> None:
    own = derived_id("/s", "r")
    steps = [
        Step("a", accepted(1, "e", "x")),
        Step("a", accepted(2, "r", "y")),
        Step("b", accepted(3, "r", "y", hop=True, chain=own)),
        Step("b", accepted(4, "s", "z", chain=own)),
        Step("b", accepted(5, "o", "z", chain="another")),
    ]
    for name in ("e", "r", "s", "chain", own):
        assert list(find_chains(steps, name)) == ["chain"], name
    assert steps_of(steps, "chain") == steps[:4]


def test_a_duplicate_belongs_to_the_first_at_the_same_broker() -> None:
    def again(number: int, broker: str = "default/default", source: str = "/s") -> Duplicate:
        return Duplicate("e", source, "t", "chain", broker, at(number))

    journal: list[Record] = [
        accepted(1, "e", "x", broker="default/default"),
        accepted(2, "e", "y", broker="default/other"),
        again(3),
        again(4, broker="default/other"),
        again(5),
        again(6, source="/another"),
    ]
    first, second, unknown = grow([Step("a", record) for record in journal])
    assert [duplicate.time for duplicate in first.again] == [at(3), at(5)]
    assert [duplicate.time for duplicate in second.again] == [at(4)]
    assert (unknown.accepted, unknown.time, [duplicate.time for duplicate in unknown.again]) == (None, at(6), [at(6)])
