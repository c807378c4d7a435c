from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import requests
import responses

from libskylark.config import NodeSettings
from libskylark.errors import ElectionError, UnknownNode
from libskylark.metrics import FunctionMetrics
from libskylark.nodeservices import NodeServices, Successors
from libskylark.policy import Candidate
from libskylark.testing import FakeClock

ELECT = "http://127.0.0.1:8081/successor"
TOPOLOGY = "http://127.0.0.1:8080/current-topology"
CLOUD_NODE = "http://127.0.0.1:8080/cloud-node-info"
ACCESS = "http://127.0.0.1:8080/access"

NOW_S = 1_800_000_000.0
HERE = Candidate("here", "10.0.0.1", 0.0, None, 0)
NEAR = Candidate("near", "10.0.0.2", 10.0, 40.0, 1)
CLOUD = Candidate("cloud", "10.0.0.3", 60.0, 40.0, 2)


def successors(expires_s: float = 1_800_000_060.0, **changes: Any) -> Successors:
    fields = {"hosts": ["cloud", "near"], "candidates": [CLOUD, NEAR], **changes}
    return Successors(3, expires_s, "skylark", 200.0, HERE, functions=["detect"], **fields)


@pytest.fixture
def services(clock: FakeClock) -> NodeServices:
    return NodeServices(NodeSettings(node="here"), clock.now_s)


@responses.activate
def test_elects_answer_is_kept_until_its_epoch_ends(services: NodeServices, clock: FakeClock) -> None:
    responses.get(ELECT, json=successors().to_json())
    assert services.successors("t") == successors()
    clock.advance(59.9)
    assert services.successors("t") == successors()
    assert len(responses.calls) == 1
    clock.advance(0.1)
    services.successors("t")
    assert len(responses.calls) == 2


@responses.activate
def test_answers_are_kept_per_type_of_event(services: NodeServices) -> None:
    for event_type in ("a", "b"):
        match = [responses.matchers.query_param_matcher({"type": event_type})]
        responses.get(ELECT, json=successors(hosts=[event_type]).to_json(), match=match)
    found = [services.successors(event_type) for event_type in ("a", "b", "a")]
    assert [s.hosts for s in found if s] == [["a"], ["b"], ["a"]]


@pytest.mark.parametrize(
    "answer",
    [
        {"body": requests.ConnectionError("refused")},
        {"body": requests.Timeout("slow")},
        {"status": 503, "json": {"detail": "no"}},
        {"body": "not json"},
        {"json": ["a list"]},
        {"json": {"epoch": 1}},
        {"json": {**successors().to_json(), "here": {"strange": 1}}},
    ],
)
def test_a_silent_elect_is_asked_again_after_a_second(
    services: NodeServices, clock: FakeClock, answer: dict[str, Any]
) -> None:
    with responses.RequestsMock() as mock:
        mock.get(ELECT, **answer)
        assert services.successors("t") is None
        clock.advance(0.9)
        assert services.successors("t") is None
        assert len(mock.calls) == 1
        clock.advance(0.2)
        assert services.successors("t") is None
        assert len(mock.calls) == 2


def test_successors_come_back_from_their_json() -> None:
    assert Successors.from_json(successors().to_json()) == successors()
    assert successors().to_json()["ladder"] == [asdict(CLOUD), asdict(NEAR)]


def test_state_and_event_go_to_the_same_node_where_it_runs_the_function() -> None:
    decision, runs_on = successors().choose(1_000, NOW_S)
    assert (decision.candidate, runs_on) == (CLOUD, "cloud")
    decision, runs_on = successors().choose(800_000, NOW_S)  # 280 ms to the cloud, 180 ms to the near node
    assert (decision.candidate, runs_on) == (NEAR, "near")


def test_where_state_must_stay_the_event_goes_to_the_nearest_host() -> None:
    decision, runs_on = successors().choose(10_000_000, NOW_S)
    assert (decision.candidate, runs_on) == (HERE, "cloud")


def test_state_that_no_host_can_get_in_time_is_placed_where_it_gets_soonest() -> None:
    assert successors().place(1_000, NOW_S) == successors().choose(1_000, NOW_S)
    decision, runs_on = successors().place(10_000_000, NOW_S)
    assert (decision.candidate, runs_on) == (NEAR, "near")
    assert decision.predicted_ms == NEAR.move_time_ms(10_000_000) > 200
    assert [node for node, _ in decision.refused] == ["cloud", "near"]


def test_state_that_no_host_can_get_in_time_stays_where_this_node_can_use_it() -> None:
    decision, runs_on = successors(hosts=["cloud", "here"]).place(10_000_000, NOW_S)
    assert (decision.candidate, runs_on) == (HERE, "here")


def test_state_that_no_host_can_get_at_all_stays_and_the_event_goes_to_the_nearest() -> None:
    leaving = replace(CLOUD, until_s=NOW_S + 0.1)
    decision, runs_on = successors(candidates=[leaving, NEAR]).place(10_000_000, NOW_S, {"near"})
    assert (decision.candidate, runs_on) == (HERE, "cloud")


def test_where_nobody_takes_the_type_no_node_is_named() -> None:
    assert successors(hosts=[]).choose(0, NOW_S)[1] is None


def test_a_suspect_gets_neither_state_nor_event() -> None:
    decision, runs_on = successors().choose(1_000, NOW_S, {"cloud"})
    assert (decision.candidate, runs_on) == (NEAR, "near")
    assert decision.refused == (("cloud", "failed its health probe"),)


def test_where_every_host_is_suspect_the_event_goes_to_the_nearest_all_the_same() -> None:
    decision, runs_on = successors().choose(1_000, NOW_S, {"cloud", "near"})
    assert (decision.candidate, runs_on) == (HERE, "cloud")


def test_a_node_that_leaves_before_the_move_would_end_gets_no_state() -> None:
    leaving = replace(CLOUD, until_s=NOW_S + 0.1)  # 120.2 ms away
    decision, runs_on = successors(candidates=[leaving, NEAR]).choose(1_000, NOW_S)
    assert (decision.candidate, runs_on) == (NEAR, "near")
    assert successors(candidates=[leaving, NEAR]).choose(1_000, NOW_S - 0.1)[1] == "cloud"


@responses.activate
def test_what_elect_did_not_answer_is_told(clock: FakeClock) -> None:
    metrics = FunctionMetrics("count", "here")
    services = NodeServices(NodeSettings(node="here"), clock.now_s, metrics.count_unanswered)

    def unanswered() -> float | None:
        labels = {"function": "count", "node": "here"}
        return metrics.registry.get_sample_value("skylark_elect_unanswered_events_total", labels)

    responses.get(ELECT, json=successors().to_json())
    services.successors("t")
    assert unanswered() == 0
    responses.replace(responses.GET, ELECT, status=503)
    clock.advance(60)
    assert [services.successors("t"), services.successors("t")] == [None, None]
    assert unanswered() == 2


@responses.activate
def test_the_node_where_chains_end_is_asked_once(services: NodeServices) -> None:
    responses.get(CLOUD_NODE, json={"node_name": "cloud", "node_ip": "10.0.0.3", "node_type": "Cloud"})
    assert [services.home(), services.home()] == ["cloud", "cloud"]
    assert len(responses.calls) == 1


@responses.activate
def test_the_node_above_is_asked_once_an_epoch(services: NodeServices) -> None:
    for epoch, node in ((1, "a"), (2, "b")):
        match = [responses.matchers.query_param_matcher({"epoch": epoch})]
        responses.get(ACCESS, json={"epoch": epoch, "node": node}, match=match)
    assert [services.access(epoch) for epoch in (1, 1, 2, 2)] == ["a", "a", "b", "b"]
    assert len(responses.calls) == 2


@responses.activate
def test_addresses_are_node_infos(services: NodeServices) -> None:
    nodes = [{"node_name": "near", "node_ip": "10.0.0.2"}, {"node_name": "cloud", "node_ip": "10.0.0.3"}]
    responses.get(TOPOLOGY, json={"nodes": nodes})
    assert [services.host_of(node) for node in ("near", "cloud", "near")] == ["10.0.0.2", "10.0.0.3", "10.0.0.2"]
    assert len(responses.calls) == 1
    with pytest.raises(UnknownNode, match="unknown node 'mars'; known are cloud, near"):
        services.host_of("mars")


@responses.activate
def test_a_silent_node_info_is_named(services: NodeServices) -> None:
    asks = (lambda: services.access(1), services.hosts, lambda: services.view(1), lambda: services.host_of("n"))
    for ask in (*asks, services.home):
        with pytest.raises(ElectionError, match=r"http://127\.0\.0\.1:8080/"):
            ask()


@responses.activate
def test_an_answer_of_node_info_that_lacks_something_is_an_election_error(services: NodeServices) -> None:
    responses.get(TOPOLOGY, json={"something": "else"})
    responses.get(ACCESS, json={"something": "else"})
    responses.get(CLOUD_NODE, json={"something": "else"})
    for ask in (lambda: services.access(1), services.hosts, lambda: services.view(1), services.home):
        with pytest.raises(ElectionError, match="lacks"):
            ask()
