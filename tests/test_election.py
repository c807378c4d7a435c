from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libskylark.constellation import Constellation, read_constellation
from libskylark.election import ElectionTable, EpochView
from libskylark.errors import ElectionError, NoRoute, UnknownNode

ROOT = Path(__file__).parents[1]
Write = Callable[[str, str], Path]

PARTED = """\
nodes:
  - {name: cloud, type: Cloud, ip: 10.0.0.1}
  - {name: sat-1, type: Sat, ip: 10.0.0.2}
  - {name: sat-2, type: Sat, ip: 10.0.0.3}
link_types: {Sat-to-Sat: {latency_ms: 10, bandwidth_mbps: 40}}
links: [[sat-1, sat-2]]
"""


@pytest.fixture(scope="module")
def constellation() -> Constellation:
    return read_constellation(ROOT / "deployment/constellation.yaml")


def view(constellation: Constellation, epoch: int) -> EpochView:
    return EpochView.of(constellation, epoch, 60.0, constellation.objectives)


def table(constellation: Constellation, here: str, epoch: int = 0) -> ElectionTable:
    return ElectionTable(view(constellation, epoch), here)


def names(candidates: list[Any]) -> list[str]:
    return [candidate.node for candidate in candidates]


def test_the_ladder_walks_the_cheapest_path_from_the_destination_back(constellation: Constellation) -> None:
    # In epoch 0 the cloud is linked to pi5u2, the neighbour of pi5u3.
    ladder = table(constellation, "pi5u3").candidates("skylark")
    assert names(ladder) == ["pi5u1", "pi5u2", "pi5u3"]
    assert [(c.latency_ms, c.bottleneck_mbps, c.hops) for c in ladder] == [(70, 40, 2), (10, 40, 1), (0, None, 0)]
    assert ladder[0].host == "10.0.0.243"


def test_the_ladder_turns_with_the_epoch(constellation: Constellation) -> None:
    assert names(table(constellation, "pi5u3", 1).candidates("skylark")) == ["pi5u1", "pi5u3"]


def test_another_destination_may_be_asked_for(constellation: Constellation) -> None:
    assert names(table(constellation, "pi5u3").candidates("skylark", "pi4u5")) == ["pi4u5", "pi5u4", "pi5u3"]


def test_hosts_restrict_the_ladder(constellation: Constellation) -> None:
    elected = table(constellation, "pi5u3")
    assert names(elected.candidates("skylark", hosts={"pi5u2", "pi4u6"})) == ["pi5u2"]


def test_where_no_host_lies_on_the_path_the_path_to_the_nearest_host_is_taken(constellation: Constellation) -> None:
    elected = table(constellation, "pi5u3")
    assert names(elected.candidates("skylark", hosts={"pi4u6", "pi4u5"})) == ["pi4u5"]


def test_random_offers_every_node_and_stateless_the_destination(constellation: Constellation) -> None:
    elected = table(constellation, "pi5u3")
    assert sorted(names(elected.candidates("random"))) == sorted(constellation.nodes)
    assert names(elected.candidates("stateless")) == ["pi5u1"]


def test_the_nearest_come_first(constellation: Constellation) -> None:
    nearest = table(constellation, "pi5u3").nearest(["pi5u1", "pi4u5", "pi5u3", "pi5u4"])
    assert names(nearest) == ["pi5u3", "pi5u4", "pi4u5", "pi5u1"]


def test_consumers_are_found_by_type(constellation: Constellation) -> None:
    elected = table(constellation, "pi5u3")
    assert elected.consumers("dev.skylark.hotspots.detected") == {"alarm": ["pi5u1"]}
    assert elected.consumers("nobody.takes.this") == {}


def test_a_view_comes_back_from_its_json(constellation: Constellation) -> None:
    seen = view(constellation, 3)
    assert EpochView.from_json(seen.to_json()) == seen


def test_the_json_has_the_names_of_the_seeds(constellation: Constellation) -> None:
    document = view(constellation, 0).to_json()
    assert document["nodes"][0] == {"node_name": "pi5u1", "node_ip": "10.0.0.243", "node_type": "Cloud"}
    assert document["edges"][0] == {
        "source": "pi5u2", "target": "pi5u3", "bandwidth": 40, "latency": 10, "jitter": 9
    }  # fmt: skip
    assert document["objectives"] == {"max_latency": 200, "min_bandwidth": 25}


@pytest.mark.parametrize("missing", ["epoch", "nodes", "edges", "objectives", "functions"])
def test_a_document_that_lacks_something_is_refused_by_name(constellation: Constellation, missing: str) -> None:
    document = view(constellation, 0).to_json()
    del document[missing]
    with pytest.raises(ElectionError, match=missing):
        EpochView.from_json(document)


@pytest.mark.parametrize("policy", ["skylark", "stateless"])
def test_a_destination_that_is_cut_off_is_no_candidate(write: Write, policy: Any) -> None:
    parted = table(read_constellation(write("c.yaml", PARTED)), "sat-1")
    assert parted.candidates(policy) == []
    with pytest.raises(NoRoute):
        parted.candidate("cloud")


def test_hosts_on_our_side_of_a_cut_are_still_offered(write: Write) -> None:
    parted = table(read_constellation(write("c.yaml", PARTED)), "sat-1")
    assert names(parted.candidates("skylark", hosts={"sat-2"})) == ["sat-2"]
    assert names(parted.candidates("random")) == ["sat-1", "sat-2"]
    assert names(parted.nearest(["cloud", "sat-2"])) == ["sat-2"]


@pytest.mark.parametrize("policy", ["skylark", "stateless"])
def test_an_unknown_destination_is_an_error(constellation: Constellation, policy: Any) -> None:
    with pytest.raises(UnknownNode, match="'mars'"):
        table(constellation, "pi5u3").candidates(policy, "mars")


def test_a_table_of_an_unknown_node_is_an_error(constellation: Constellation) -> None:
    with pytest.raises(UnknownNode, match="'mars'"):
        table(constellation, "mars")
