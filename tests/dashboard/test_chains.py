"""Chains out of journals: their summaries, the rows of a waterfall, and what went over which link."""

from __future__ import annotations

import pytest

from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.dashboard.chains import Chains, function_of, seconds
from libskylark.dashboard.traffic import Traffic
from libskylark.eventing.journal import Accepted, Outcome, OutcomeName
from libskylark.eventing.journey import Step
from libskylark.timing import Timing

FRAME = "dev.skylark.frame.captured"
SPEC = ConstellationSpec.model_validate(
    {
        "nodes": [{"name": name, "type": "Sat", "ip": f"10.0.0.{n}"} for n, name in enumerate("abcd", 1)],
        "link_types": {"Sat-to-Sat": {"latency_ms": 10, "bandwidth_mbps": 40}},
        "links": [["a", "b"], ["b", "c"]],
    }
)


def at(ms: int) -> str:
    return f"2026-01-02T03:04:05.{ms:03d}Z"


def accepted(node: str, event: str, ms: int, to: str = "", hop: bool = False, type: str = FRAME) -> Step:
    triggers = (f"default/{to}",) if to else ()
    return Step(node, Accepted(event, "/s", type, "chain", None, triggers, at(ms), hop))


def ended(node: str, event: str, ms: int, trigger: str, outcome: OutcomeName = "delivered", attempts: int = 1) -> Step:
    timings = (Timing("state", 1.5, "local", node, 1000),)
    status = 500 if outcome == "dead-lettered" else 202
    record = Outcome(
        event, "chain", FRAME, f"default/{trigger}", outcome, status, attempts, None, 20.0, at(ms), timings=timings
    )
    return Step(node, record)


JOURNEY = [
    accepted("a", "1", 0, "b-detect"),
    accepted("b", "1", 10, "b-detect", hop=True),
    ended("a", "1", 15, "b-detect", "forwarded"),
    ended("b", "1", 60, "b-detect", attempts=3),
]


def test_a_chain_is_summed_up_in_whatever_order_it_is_heard_of() -> None:
    for steps in (JOURNEY, [*JOURNEY[1:2], *JOURNEY[3:], *JOURNEY[:1], *JOURNEY[2:3]]):
        chains = Chains()
        for step in steps:
            chains.add(step)
        (told,) = chains.summaries()
        assert {**told, "nodes": set(told["nodes"])} == {
            "id": "chain",
            "type": FRAME,
            "began_s": seconds(at(0)),
            "duration_ms": 60.0,
            "ended": True,
            "clockwork": False,
            "nodes": {"a", "b"},
            "events": 1,
            "retries": 2,
            "dead_letters": 0,
        }


def test_a_waterfall_has_the_visits_in_order_and_what_they_came_of() -> None:
    chains = Chains()
    for step in JOURNEY:
        chains.add(step)
    told = chains.journey("chain")
    assert told is not None
    first, second = told["visits"]
    assert (first["node"], first["start_ms"], first["parent"], first["handed_over"]) == ("a", 0, None, False)
    assert (second["node"], second["start_ms"], second["parent"], second["handed_over"]) == ("b", 10, 0, True)
    (handed,) = first["deliveries"]
    assert (handed["function"], handed["to"], handed["outcome"]) == ("detect", "b", "forwarded")
    (delivery,) = second["deliveries"]
    assert delivery["to"] is None
    assert (delivery["function"], delivery["start_ms"], delivery["duration_ms"]) == ("detect", 40, 20)
    assert delivery["timings"] == [
        {"what": "state", "ms": 1.5, "place": "local", "node": "b", "size_bytes": 1000},
    ]
    assert chains.journey("another") is None


def test_a_delivery_without_an_outcome_is_told_as_one() -> None:
    chains = Chains()
    chains.add(JOURNEY[0])
    told = chains.journey("chain")
    assert told is not None
    assert not told["ended"]
    assert told["visits"][0]["deliveries"] == [
        {"trigger": "default/b-detect", "function": "b-detect", "to": None, "outcome": None}
    ]


def test_dead_letters_are_counted() -> None:
    chains = Chains()
    chains.add(accepted("a", "1", 0, "a-detect"))
    chains.add(ended("a", "1", 5, "a-detect", "dead-lettered"))
    assert chains.summaries()[0]["dead_letters"] == 1


def test_the_clocks_own_chains_are_marked_until_another_event_comes() -> None:
    chains = Chains()
    chains.add(accepted("a", "1", 0, type="dev.knative.sources.ping"))
    assert chains.summaries()[0]["clockwork"]
    chains.add(accepted("a", "2", 1))
    assert not chains.summaries()[0]["clockwork"]


def test_only_the_last_chains_are_kept_and_a_long_one_is_cut() -> None:
    chains = Chains(most=2)
    for name in "xyz":
        chains.add(Step("a", Accepted("1", "/s", FRAME, name, None, (), at(0))))
    assert [told["id"] for told in chains.summaries()] == ["z", "y"]
    for number in range(1200):
        chains.add(Step("a", Accepted(str(number), "/s", FRAME, "z", None, (), at(1))))
    told = chains.journey("z")
    assert told is not None
    assert (told["is_cut"], told["ended"], len(told["visits"])) == (True, False, 1000)


@pytest.mark.parametrize("steps", [JOURNEY[1:3], JOURNEY[2:0:-1]], ids=["arrival first", "departure first"])
def test_an_event_crosses_links_once_both_its_ends_are_known(steps: list[Step]) -> None:
    traffic = Traffic(Constellation(SPEC), elapsed_s=lambda: 0.0)
    traffic.follow(0)
    assert [traffic.hop(step) for step in steps] == [None, ["a", "b"]]


def test_load_is_that_of_the_last_ten_seconds_on_each_link_of_the_way() -> None:
    times = iter([0.0, 8.0, 9.0, 15.0])
    traffic = Traffic(Constellation(SPEC), elapsed_s=lambda: next(times))
    traffic.follow(0)
    assert traffic.crossed("a", "c", 1_000_000) == ["a", "b", "c"]
    assert traffic.crossed("b", "c", 0) == ["b", "c"]
    loads = [(link["messages_per_s"], link["state_mbps"]) for link in traffic.links()]
    assert loads == [(0.1, 0.8), (0.2, 0.8)]
    assert [link["messages_per_s"] for link in traffic.links()] == [0, 0.1]


def test_what_has_no_way_is_told_with_its_two_ends() -> None:
    traffic = Traffic(Constellation(SPEC), elapsed_s=lambda: 0.0)
    traffic.follow(0)
    assert traffic.crossed("a", "d", 5) == ["a", "d"]
    assert traffic.crossed("a", "nobody", 5) == ["a", "nobody"]


def test_a_trigger_is_called_by_its_function_on_its_own_node_only() -> None:
    assert function_of("default/pi5u2-detect", "pi5u2") == "detect"
    assert function_of("default/pi5u2-detect", "pi5u3") == "pi5u2-detect"


def test_what_names_no_node_goes_to_elect_whatever_its_type() -> None:
    assert function_of("default/unaddressed-com-example-sighting", "pi5u2") == "elect"
