"""Links as the page shows them, by what a real relay says: cut, set by hand, and who takes which way round."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.dashboard.traffic import Traffic
from libskylark.lab.links import Figures
from libskylark.lab.relay import LinkRelay

SPEC = ConstellationSpec.model_validate(
    {
        "nodes": [
            {"name": "ground", "type": "Cloud", "ip": "10.0.0.9"},
            *({"name": name, "type": "Sat", "ip": f"10.0.0.{n}"} for n, name in enumerate("abc", 1)),
        ],
        "link_types": {
            "Sat-to-Sat": {"latency_ms": 10, "bandwidth_mbps": 40},
            "Sat-to-Cloud": {"latency_ms": 60, "bandwidth_mbps": 90},
        },
        "links": [["a", "b"], ["b", "c"], ["a", "c"]],
        "rotation": {"ground": "ground", "satellites": ["a", "b", "c"]},
    }
)


@pytest.fixture
def constellation() -> Constellation:
    return Constellation(SPEC)


@pytest.fixture
def relay(constellation: Constellation) -> Iterator[LinkRelay]:
    with LinkRelay() as relay:
        relay.follow(constellation.topology(0))
        for source, target in combinations(constellation.nodes, 2):
            relay.open(source, target, "127.0.0.1", 9)
        yield relay


@pytest.fixture
def traffic(constellation: Constellation) -> Traffic:
    traffic = Traffic(constellation, elapsed_s=lambda: 0.0)
    traffic.follow(0)
    return traffic


def told(traffic: Traffic, *nodes: str) -> dict[str, Any]:
    (found,) = (link for link in traffic.links() if {link["source"], link["target"]} == set(nodes))
    return found


def test_a_link_that_is_cut_is_told_so_after_others_have_found_a_way_round_it(
    relay: LinkRelay, traffic: Traffic, constellation: Constellation
) -> None:
    relay.cut("a", "b", "silent", "link")
    traffic.relay(relay.links(), relay.status())
    assert told(traffic, "a", "b")["state"] == "silent"
    for epoch in (1, 2):
        relay.follow(constellation.topology(epoch))
        traffic.follow(epoch)
        traffic.relay(relay.links(), relay.status())
        assert {pair["state"] for pair in relay.status()} == {"open"}
        assert told(traffic, "a", "b")["state"] == "silent"
        assert traffic.crossed("a", "b", 0) == ["a", "c", "b"]
        assert traffic.crossed("b", "a", 0) == ["b", "c", "a"]
    relay.heal("a", "b", "link")
    traffic.relay(relay.links(), relay.status())
    assert {link["state"] for link in traffic.links()} == {"open"}


def test_a_link_has_the_figures_that_were_set_by_hand(relay: LinkRelay, traffic: Traffic) -> None:
    assert (told(traffic, "a", "b")["latency_ms"], told(traffic, "a", "b")["bandwidth_mbps"]) == (10, 40)
    relay.set("a", "b", Figures(80.0, 5.0), "link")
    traffic.relay(relay.links(), relay.status())
    found = told(traffic, "a", "b")
    assert (found["latency_ms"], found["jitter_ms"], found["bandwidth_mbps"]) == (80, 5, None)


def test_the_ground_link_is_that_to_the_satellite_above(traffic: Traffic, constellation: Constellation) -> None:
    for epoch in range(3):
        traffic.follow(epoch)
        ground = [link for link in traffic.links() if link["is_ground_link"]]
        assert [{link["source"], link["target"]} for link in ground] == [{"ground", constellation.access(epoch)}]
