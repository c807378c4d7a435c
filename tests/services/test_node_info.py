"""node-info over real HTTP; the names in paths and documents are those of the seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from libskylark.config import NodeSettings
from libskylark.errors import DocumentError, SettingError
from libskylark.services.node_info import create_app
from libskylark.testing import FakeClock
from tests.conftest import Serve

ROOT = Path(__file__).parents[2]
RING = ["pi5u2", "pi5u3", "pi5u4", "pi4u5", "pi4u6", "pi4u8", "pi4p1"]

Ask = Callable[..., requests.Response]


@pytest.fixture
def description(tmp_path: Path) -> Path:
    """A constellation.yaml that a test may change."""
    path = tmp_path / "constellation.yaml"
    path.write_text((ROOT / "deployment/constellation.yaml").read_text())
    return path


@pytest.fixture
def ask(serve: Serve, description: Path, clock: FakeClock) -> Ask:
    """`ask("/path", "POST", t=3)`: the answer of the node pi5u3."""
    clock.advance(-clock.now_s() + 6000)  # epoch 100, minute 40
    port = serve(create_app(NodeSettings(node="pi5u3", constellation=description), clock))

    def send(path: str, method: str = "GET", json: Any = None, data: Any = None, **query: Any) -> requests.Response:
        return requests.request(method, f"http://127.0.0.1:{port}{path}", params=query, json=json, data=data, timeout=5)

    return send


def above(topology: dict[str, Any]) -> str:
    """The satellite that the ground is linked to."""
    ends = [edge["target"] for edge in topology["edges"] if edge["source"] == "pi5u1" and edge["target"] in RING]
    assert len(ends) == 1
    return str(ends[0])


def test_the_current_topology_follows_the_clock(ask: Ask, clock: FakeClock) -> None:
    topology = ask("/current-topology").json()
    assert (topology["epoch"], topology["access"]) == (100, RING[40 % 7])
    assert above(topology) == topology["access"]
    clock.advance(60)
    assert ask("/current-topology").json()["epoch"] == 101


def test_nodes_and_edges_have_the_names_of_the_seeds(ask: Ask) -> None:
    topology = ask("/current-topology").json()
    assert len(topology["nodes"]) == len(topology["edges"]) == 9
    assert all(set(node) == {"node_name", "node_ip", "node_type"} for node in topology["nodes"])
    ring = [edge for edge in topology["edges"] if edge["source"] in RING]
    assert len(ring) == 7
    assert {"source": "pi5u2", "target": "pi5u3", "bandwidth": 40.0, "latency": 10.0, "jitter": 9.0} in ring


def test_the_next_topology_is_that_of_the_next_epoch(ask: Ask) -> None:
    assert ask("/next-topology").json() == ask("/current-topology", epoch=101).json()
    assert ask("/next-topology", epoch=6).json()["epoch"] == 7


@pytest.mark.parametrize("minute", [0, 6, 7, 59, 60])
def test_the_static_topology_is_that_of_a_minute(ask: Ask, minute: int) -> None:
    assert above(ask("/static-topology", t=minute).json()) == RING[minute % 60 % 7]


def test_the_node_above_is_told_for_any_epoch(ask: Ask) -> None:
    assert ask("/access", epoch=3).json() == {"epoch": 3, "node": "pi4u5", "area": "area-1"}
    assert ask("/access").json()["epoch"] == 100


def test_a_node_tells_who_it_is_and_who_the_cloud_is(ask: Ask) -> None:
    assert ask("/local-node-info").json() == {"node_name": "pi5u3", "node_ip": "10.0.0.45", "node_type": "Sat"}
    assert ask("/cloud-node-info").json() == {"node_name": "pi5u1", "node_ip": "10.0.0.243", "node_type": "Cloud"}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_names_the_node_and_the_epoch(ask: Ask, path: str) -> None:
    assert ask(path).json() == {
        "status": "alive", "node_name": "pi5u3", "node_ip": "10.0.0.45", "node_type": "Sat", "epoch": 100
    }  # fmt: skip


def test_requests_are_counted_by_route(ask: Ask) -> None:
    for path in ("/health", "/health", "/nothing/there"):
        ask(path)
    told = ask("/metrics").text
    assert 'skylark_node_info_requests_total{node="pi5u3",route="/health"} 2.0' in told
    assert "nothing" not in told
    assert "process_resident_memory_bytes" in told


def test_objectives_are_changed_one_by_one_and_seen_in_the_topology(ask: Ask) -> None:
    assert ask("/objectives").json() == {"max_latency": 200.0, "min_bandwidth": 25.0}
    assert ask("/objectives", "POST", json={"max_latency": 500}).json() == {"max_latency": 500.0, "min_bandwidth": 25.0}
    assert ask("/objectives", "POST", json={"min_bandwidth": 0}).json() == {"max_latency": 500.0, "min_bandwidth": 0.0}
    assert ask("/objectives").json() == {"max_latency": 500.0, "min_bandwidth": 0.0}
    assert ask("/current-topology").json()["objectives"] == {"max_latency": 500.0, "min_bandwidth": 0.0}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_latency": 0}, "max_latency_ms: found 0"),
        ({"max_latency": "fast"}, "max_latency_ms: found 'fast'"),
        ({"min_bandwidth": -1}, "min_bandwidth_mbps: found -1"),
        ({"max_latncy": 5}, "found ['max_latncy'], expected only max_latency and min_bandwidth"),
        ([1], "expected a JSON object with max_latency and min_bandwidth"),
    ],
)
def test_faulty_objectives_are_400_and_change_nothing(ask: Ask, given: Any, words: str) -> None:
    answer = ask("/objectives", "POST", json=given)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert words in answer.json()["detail"]
    assert ask("/objectives").json() == {"max_latency": 200.0, "min_bandwidth": 25.0}


@pytest.mark.parametrize("body", ["not json", "", '{"max_latency": Infinity}', '{"max_latency": NaN}'])
def test_objectives_that_are_no_json_are_400(ask: Ask, body: str) -> None:
    answer = ask("/objectives", "POST", data=body)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)


@pytest.mark.parametrize("path", ["/current-topology", "/next-topology", "/access"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "9" * 5000])
def test_a_faulty_epoch_is_400_with_name_and_value(ask: Ask, path: str, value: str) -> None:
    answer = ask(path, epoch=value)
    assert answer.status_code == 400
    assert f"query parameter epoch: found {value!r}" in answer.json()["detail"]


def test_a_refresh_reads_the_file_again(ask: Ask, description: Path) -> None:
    description.write_text(description.read_text().replace("max_latency_ms: 200", "max_latency_ms: 300"))
    assert ask("/objectives").json()["max_latency"] == 200.0
    assert ask("/refresh", "POST").json() == {"status": "refreshed", "epoch": 100}
    assert ask("/objectives").json()["max_latency"] == 300.0


def test_a_refresh_from_a_faulty_file_is_refused_and_changes_nothing(ask: Ask, description: Path) -> None:
    description.write_text(description.read_text().replace("destination: pi5u1", "destination: mars"))
    answer = ask("/refresh")
    assert answer.status_code == 400
    assert "destination: found 'mars', expected a node" in answer.json()["detail"]
    assert ask("/cloud-node-info").json()["node_name"] == "pi5u1"


@pytest.mark.parametrize(("path", "method", "status"), [("/nowhere", "GET", 404), ("/objectives", "DELETE", 405)])
def test_other_requests_are_problems_too(ask: Ask, path: str, method: str, status: int) -> None:
    answer = ask(path, method)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_a_node_that_is_not_in_the_constellation_is_named(serve: Serve, description: Path) -> None:
    port = serve(create_app(NodeSettings(node="mars", constellation=description)))
    answer = requests.get(f"http://127.0.0.1:{port}/local-node-info", timeout=5)
    assert answer.status_code == 404
    assert "unknown node 'mars'" in answer.json()["detail"]


def test_node_info_needs_a_constellation(monkeypatch: pytest.MonkeyPatch, description: Path) -> None:
    with pytest.raises(SettingError, match="SKYLARK_CONSTELLATION"):
        create_app()
    monkeypatch.setenv("SKYLARK_CONSTELLATION", str(description))
    description.write_text("nodes: []\n")
    with pytest.raises(DocumentError, match=r"constellation\.yaml:1: nodes"):
        create_app()
