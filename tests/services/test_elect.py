"""elect over real HTTP, beside a real node-info and a real Redis; only the clock is ours."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from libskylark.clock import rfc3339
from libskylark.event import TICK_TYPE, Event, from_http, to_http
from libskylark.nodeservices import NodeServices
from libskylark.services import elect, node_info
from libskylark.testing import FakeClock
from tests.conftest import RedisNode, Serve

CONSTELLATION = Path(__file__).parents[2] / "deployment/constellation.yaml"
RING = ["pi5u2", "pi5u3", "pi5u4", "pi4u5", "pi4u6", "pi4u8", "pi4p1"]


class Gate:
    """A WSGI application that can be held up, or be made to fail, and counts what it is asked for."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.fails = False
        self.paths: list[str] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.paths.append(f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}")
        self.asked.set()
        assert self.open.wait(10)
        if self.fails:
            start_response("503 Service Unavailable", [("content-length", "0")])
            return []
        return self._app(environ, start_response)


class Site:
    """The node pi5u3 with its two services, at the beginning of epoch 60 (minute 0: pi5u2 is above)."""

    def __init__(self, serve: Serve, redis_node: RedisNode, clock: FakeClock) -> None:
        clock.advance(-clock.now_s() + 3600)
        self.clock = clock
        settings = redis_node.settings("pi5u3", constellation=CONSTELLATION, elect_timeout_s=5)
        self.views = Gate(node_info.create_app(settings, clock))
        self.node_info = serve(self.views)
        self.settings = settings.model_copy(update={"node_info_port": self.node_info})
        self.app = elect.create_app(self.settings, clock, background=False)
        self.port = serve(self.app)

    def ask(self, path: str, accept: str = "*/*", method: str = "GET", **query: Any) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return requests.request(method, url, params=query, headers={"Accept": accept}, timeout=10)

    def json(self, path: str, **query: Any) -> Any:
        answer = self.ask(path, "application/json", **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, event: Event, path: str = "/") -> requests.Response:
        headers, body = to_http(event)
        return requests.post(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers, timeout=10)

    def tick(self, epoch: int, number: str = "") -> requests.Response:
        """Delivers the tick at the beginning of an epoch."""
        time = rfc3339(epoch * 60.0)
        return self.post(Event.new(TICK_TYPE, "/pingsource", {"tick": True}, id=f"tick-{epoch}{number}", time=time))

    @property
    def epoch(self) -> int:
        """The epoch by which elect answers now."""
        return int(self.json("/storage-node")["epoch"])


@pytest.fixture
def site(serve: Serve, redis_node: RedisNode, clock: FakeClock) -> Site:
    return Site(serve, redis_node, clock)


def test_storage_node_answers_the_plain_address(site: Site) -> None:
    answer = site.ask("/storage-node", size=1000)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "10.0.0.243"


def test_storage_node_answers_json_when_asked(site: Site) -> None:
    answer = site.json("/storage-node", size=1000)
    assert (answer["node"], answer["host"], answer["epoch"], answer["policy"]) == ("pi5u1", "10.0.0.243", 60, "skylark")
    assert answer["predicted_ms"] == pytest.approx(2 * 70 + 8 * 1000 / (1000 * 40))
    assert answer["refused"] == []
    assert [rung["node"] for rung in answer["ladder"]] == ["pi5u1", "pi5u2", "pi5u3"]
    assert [rung["bottleneck_mbps"] for rung in answer["ladder"]] == [40, 40, None]


@pytest.mark.parametrize(
    ("size", "node"), [(0, "pi5u1"), (300_000, "pi5u1"), (301_000, "pi5u2"), (900_000, "pi5u2"), (901_000, "pi5u3")]
)
def test_the_more_state_the_nearer_it_is_kept(site: Site, size: int, node: str) -> None:
    answer = site.json("/storage-node", size=size)
    assert answer["node"] == node
    refused = [refusal["node"] for refusal in answer["refused"]]
    assert refused == ["pi5u1", "pi5u2"][: len(refused)]
    assert all("is over 200 ms" in refusal["reason"] for refusal in answer["refused"])


def test_policies_may_be_named_in_any_case(site: Site) -> None:
    assert site.json("/storage-node", policy="Stateless", size=10**7)["node"] == "pi5u1"
    drawn = {site.json("/storage-node", policy="RANDOM")["node"] for _ in range(60)}
    assert len(drawn) >= 6


def test_another_destination_may_be_named(site: Site) -> None:
    answer = site.json("/storage-node", destination="pi4u5")
    assert (answer["node"], [rung["node"] for rung in answer["ladder"]]) == ("pi4u5", ["pi4u5", "pi5u4", "pi5u3"])


def test_a_write_in_the_next_epoch_is_elected_by_its_topology(site: Site) -> None:
    answer = site.json("/storage-node", time=60_000)
    assert (answer["epoch"], [rung["node"] for rung in answer["ladder"]]) == (61, ["pi5u1", "pi5u3"])
    assert site.epoch == 60


@pytest.mark.parametrize("path", ["/storage-node", "/successor"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "-1"),
        ("size", "much"),
        ("size", "1e6"),
        ("size", "9" * 400),
        ("policy", "greedy"),
        ("destination", "mars"),
    ],
)
def test_a_wrong_parameter_is_400_with_name_and_value(site: Site, path: str, name: str, value: str) -> None:
    answer = site.ask(path, **{name: value})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert f"query parameter {name}: found {value!r}, expected" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "name", "value"), [
    ("/storage-node", "time", "soon"), ("/successor", "function", "nothing"),
    ("/benchmark", "count", "0"), ("/benchmark", "count", "100001")])  # fmt: skip
def test_other_wrong_parameters_are_named_too(site: Site, path: str, name: str, value: str) -> None:
    answer = site.ask(path, **{name: value})
    assert answer.status_code == 400
    assert f"query parameter {name}: found" in answer.json()["detail"]
    assert value in answer.json()["detail"]


def test_the_successor_of_a_type_is_a_node_that_runs_its_function(site: Site) -> None:
    answer = site.json("/successor", type="dev.skylark.image.preprocessed")
    assert (answer["functions"], answer["node"], answer["access"]) == (["detect"], "pi5u2", "pi5u2")
    assert [rung["node"] for rung in answer["ladder"]] == ["pi5u2", "pi5u3"]
    assert answer["hosts"][0] == "pi5u3"
    assert sorted(answer["hosts"]) == sorted(RING)


def test_the_successor_of_a_function_is_asked_by_name(site: Site) -> None:
    answer = site.json("/successor", function="alarm")
    assert (answer["node"], answer["hosts"], answer["epoch"]) == ("pi5u1", ["pi5u1"], 60)


def test_where_state_cannot_move_the_event_still_goes_to_a_host(site: Site) -> None:
    answer = site.json("/successor", function="alarm", size=10**7)
    assert answer["node"] == "pi5u1"
    assert answer["predicted_ms"] == 0.0


def test_a_type_that_nobody_takes_has_candidates_for_its_state_alone(site: Site) -> None:
    answer = site.json("/successor", type="nobody.takes.this")
    assert (answer["functions"], answer["hosts"]) == ([], [])
    assert [rung["node"] for rung in answer["ladder"]] == ["pi5u1", "pi5u2", "pi5u3"]


def test_an_answer_lasts_until_its_epoch_ends(site: Site) -> None:
    assert site.json("/successor", function="alarm")["expires_s"] == 61 * 60.0
    site.clock.advance(60.5)  # the next tick is late
    assert site.json("/successor", function="alarm")["expires_s"] == pytest.approx(61 * 60.0 + 0.6)


def test_a_function_reads_the_successors_of_a_real_elect(site: Site) -> None:
    services = NodeServices(site.settings.model_copy(update={"elect_port": site.port}), site.clock.now_s)
    found = services.successors("dev.skylark.hotspots.detected")
    assert found is not None
    assert found.choose(1000, site.clock.now_s())[1] == "pi5u1"
    assert services.access(61) == "pi5u3"
    assert services.host_of("pi4u7") == "10.0.0.96"
    assert services.view(60).access == "pi5u2"


def test_neighbors_are_one_link_away(site: Site) -> None:
    neighbors = site.json("/neighbors")
    assert {n["node_name"] for n in neighbors} == {"pi5u2", "pi5u4"}
    assert neighbors[0] == {
        "node_name": "pi5u2", "node_ip": "10.0.0.34", "node_type": "Sat", "latency": 10.0, "bandwidth": 40.0
    }  # fmt: skip


def test_the_tick_is_answered_with_the_election(site: Site) -> None:
    answer = site.tick(60)
    assert answer.status_code == 200
    elected = from_http(list(answer.headers.items()), answer.content)
    assert elected.type == "dev.skylark.successor.elected"
    assert elected.json() == {"node": "pi5u3", "epoch": 60, "access": "pi5u2", "area": "area-1"}
    assert elected.epoch == 60


def test_the_same_tick_twice_is_answered_alike(site: Site) -> None:
    first, second = site.tick(60), site.tick(60)
    assert (first.content, first.headers["ce-id"]) == (second.content, second.headers["ce-id"])


def test_an_epoch_is_told_once_however_many_ticks_it_has(site: Site) -> None:
    assert site.tick(60).status_code == 200
    again = site.tick(60, "-again")
    assert (again.status_code, again.content) == (202, b"")
    assert site.epoch == 60
    for epoch in range(50, 60):  # only so many are remembered
        site.tick(epoch)
    assert site.tick(60, "-once-more").status_code == 200


def test_the_tick_moves_elect_on_at_once(site: Site) -> None:
    assert site.epoch == 60
    site.clock.advance(60)
    assert site.epoch == 60  # the tick is awaited for a moment
    site.tick(61)
    assert site.epoch == 61


def test_a_tick_that_comes_late_does_not_turn_elect_back(site: Site) -> None:
    site.clock.advance(60)
    site.tick(61)
    assert site.tick(60).json()["epoch"] == 60
    assert site.epoch == 61


def test_without_a_tick_elect_goes_on_by_its_own_clock_and_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.tick(60)
    site.clock.advance(62)
    assert site.epoch == 60
    site.clock.advance(0.1)
    with caplog.at_level(logging.WARNING, "skylark.elect"):
        assert site.epoch == 61
    assert "no tick for epoch 61 after 2.1 s: going on by the clock" in caplog.text


def test_elect_takes_no_other_events(site: Site) -> None:
    answer = site.post(Event.new("test.happened", "/s"))
    assert answer.status_code == 400
    assert f"elect takes {TICK_TYPE}, found test.happened" in answer.json()["detail"]


def test_a_refresh_takes_the_objectives_that_hold_now(site: Site) -> None:
    assert site.json("/storage-node", size=1_000_000)["node"] == "pi5u3"
    objectives = {"max_latency": 5000}
    requests.post(f"http://127.0.0.1:{site.node_info}/objectives", json=objectives, timeout=5).raise_for_status()
    assert site.json("/storage-node", size=1_000_000)["node"] == "pi5u3"
    assert site.ask("/refresh", method="POST").json() == {"status": "refreshed", "epoch": 60, "access": "pi5u2"}
    assert site.json("/storage-node", size=1_000_000)["node"] == "pi5u1"


def test_the_tables_of_an_epoch_and_of_the_next_are_computed_once(site: Site) -> None:
    site.tick(60)
    site.tick(60, "-again")
    for size in (1, 10**6):
        site.json("/storage-node", size=size)
        site.json("/storage-node", size=size, time=60_000)
    assert site.views.paths == ["/current-topology?epoch=60", "/current-topology?epoch=61"]
    site.clock.advance(60)
    site.tick(61)
    assert site.views.paths[2:] == ["/current-topology?epoch=62"]


def test_epochs_further_ahead_are_kept_for_a_while(site: Site) -> None:
    for _ in range(2):
        assert site.json("/storage-node", time=5 * 60_000)["epoch"] == 65
    assert site.views.paths.count("/current-topology?epoch=65") == 1
    for ahead in range(2, 20):
        assert site.json("/storage-node", time=ahead * 60_000)["epoch"] == 60 + ahead
    assert (site.epoch, site.json("/storage-node", time=60_000)["epoch"]) == (60, 61)


def test_the_table_of_any_epoch_may_be_asked_for(site: Site) -> None:
    answers = site.app.extensions["elect"]
    assert [answers.of_epoch(epoch).epoch for epoch in (60, 61, 62, 58)] == [60, 61, 62, 58]
    site.tick(60)
    asked = len(site.views.paths)
    assert answers.of_epoch(61) is answers.of_epoch(61)
    assert len(site.views.paths) == asked


def test_while_the_next_table_is_computed_the_old_one_answers(site: Site) -> None:
    site.tick(60)
    site.clock.advance(62.1)  # overdue: the first who asks computes
    site.views.asked.clear()
    site.views.open.clear()
    with ThreadPoolExecutor(1) as pool:
        ticked = pool.submit(site.tick, 61)
        assert site.views.asked.wait(10)
        assert site.epoch == 60
        site.views.open.set()
        assert ticked.result().json()["epoch"] == 61
    assert site.epoch == 61


def test_a_silent_node_info_does_not_keep_elect_from_the_epoch_that_it_knows(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.tick(60)
    site.views.fails = True
    site.clock.advance(60)
    with caplog.at_level(logging.WARNING, "skylark.elect"):
        assert site.tick(61).json() == {"node": "pi5u3", "epoch": 61, "access": "pi5u3", "area": "area-1"}
    assert "epoch 61 begins without knowledge of the next" in caplog.text
    assert [rung["node"] for rung in site.json("/storage-node")["ladder"]] == ["pi5u1", "pi5u3"]
    site.clock.advance(60)
    assert site.tick(62).status_code == 503
    site.views.fails = False
    assert site.tick(62).json()["epoch"] == 62


def test_a_refresh_that_node_info_does_not_answer_keeps_the_tables(site: Site) -> None:
    site.tick(60)
    site.views.fails = True
    assert site.ask("/refresh", method="POST").status_code == 503
    assert site.epoch == 60


@pytest.mark.parametrize(("ahead", "status"), [(1, 200), (2, 400), (10_000, 400)])
def test_a_tick_from_far_ahead_of_the_clock_is_refused_and_moves_nothing(site: Site, ahead: int, status: int) -> None:
    site.tick(60)
    answer = site.tick(60 + ahead)
    assert answer.status_code == status
    if status == 400:
        detail = answer.json()["detail"]
        assert f"found a tick of epoch {60 + ahead}, which begins {rfc3339((60 + ahead) * 60.0)}" in detail
        assert "expected at most 61: this node's clock says 1970-01-01T01:00:00.000Z" in detail
        assert site.epoch == 60
        site.clock.advance(60)
        assert site.tick(61).json()["epoch"] == 61
        assert site.epoch == 61


def test_a_node_that_leaves_before_the_move_would_end_is_refused(site: Site) -> None:
    answer = site.json("/storage-node", size=1000)
    assert [(rung["node"], rung["until_s"]) for rung in answer["ladder"]] == [
        ("pi5u1", 3660.0), ("pi5u2", None), ("pi5u3", None)
    ]  # fmt: skip
    site.clock.advance(59.9)
    answer = site.json("/storage-node", size=1000)
    assert answer["node"] == "pi5u2"
    reason = "leaves at 1970-01-01T01:01:00.000Z, the move would end 40 ms later"
    assert answer["refused"] == [{"node": "pi5u1", "reason": reason}]
    assert site.json("/successor", function="alarm", size=1000)["predicted_ms"] == 0.0


def test_the_benchmark_tells_microseconds_per_answer(site: Site) -> None:
    answer = site.json("/benchmark", count=50)
    assert answer["elections"] == 50
    assert 0 < answer["answer_us"] < 100_000


def test_health_ready_and_metrics_are_those_of_a_function(site: Site) -> None:
    site.tick(60)
    assert site.json("/health") == {"status": "alive", "function": "elect"}
    assert site.json("/ready") == {"status": "ready"}
    site.ask("/storage-node?size=1000000")
    told = site.ask("/metrics").text
    assert 'skylark_events_total{function="elect",node="pi5u3",outcome="handled"} 1.0' in told
    assert 'skylark_elections_total{node="pi5u3",policy="skylark"} 1.0' in told
    assert f'skylark_epoch{{node="pi5u3"}} {60.0}' in told
    assert 'skylark_suspect_nodes{node="pi5u3"} 0.0' in told


def captured(**attributes: str) -> Event:
    return Event.new("dev.skylark.frame.captured", "/camera", b"image", id="frame-1", **attributes)


@pytest.mark.parametrize("attributes", [{}, {"skylarknode": "mars"}])
def test_an_event_without_a_node_gets_an_address_and_is_the_same_event(site: Site, attributes: dict[str, str]) -> None:
    event = captured(**attributes)
    answer = site.post(event, "/address")
    assert answer.status_code == 200
    addressed = from_http(list(answer.headers.items()), answer.content)
    assert addressed.attributes == {**event.attributes, "skylarknode": "pi5u2", "correlationid": event.chain}
    assert addressed.data == b"image"


def test_nodes_to_avoid_are_passed_over(site: Site) -> None:
    avoided: list[str] = []
    for _ in RING:
        answer = site.post(captured(), "/address?" + "&".join(f"avoid={node}" for node in avoided))
        assert answer.status_code == 200
        avoided.append(answer.headers["ce-skylarknode"])
    assert sorted(avoided) == sorted(RING)
    answer = site.post(captured(), "/address?" + "&".join(f"avoid={node}" for node in avoided))
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json()["detail"].startswith("events of type dev.skylark.frame.captured are taken on pi5u3, ")
    assert answer.json()["detail"].endswith("each of them is to be avoided, or suspect")


def test_an_event_that_nobody_takes_gets_no_address(site: Site) -> None:
    answer = site.post(Event.new("nobody.takes.this", "/s"), "/address")
    assert answer.status_code == 400
    assert "no function takes events of type nobody.takes.this" in answer.json()["detail"]


def test_what_is_no_event_gets_no_address(site: Site) -> None:
    answer = requests.post(f"http://127.0.0.1:{site.port}/address", data=b"x", timeout=5)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)


def test_without_node_info_elect_answers_503(serve: Serve, redis_node: RedisNode, unused_port: int) -> None:
    settings = redis_node.settings("pi5u3", node_info_port=unused_port)
    port = serve(elect.create_app(settings, background=False))
    answer = requests.get(f"http://127.0.0.1:{port}/storage-node", timeout=5)
    assert answer.status_code == 503
    assert f"http://127.0.0.1:{unused_port}/current-topology did not answer" in answer.json()["detail"]
