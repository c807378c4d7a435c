"""Who is there in a cluster: constellation.yaml against what Kubernetes says, up to node-info's answers over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from libskylark.config import NodeSettings
from libskylark.constellation import Constellation, read_constellation
from libskylark.election import ElectionTable, EpochView
from libskylark.errors import UnknownNode
from libskylark.nodeservices import NodeServices
from libskylark.services import elect, node_info
from libskylark.services.cluster import ClusterNode, ClusterNodes, ClusterWatch
from libskylark.services.presence import with_present
from libskylark.testing import FakeClock
from tests.conftest import RedisNode, Serve

from .kubernetes_api import FORBIDDEN, Api, kubeconfig, node

FILE = Path(__file__).parents[2] / "deployment/constellation.yaml"
DESCRIBED = read_constellation(FILE)
EVERYONE = [ClusterNode(n.name, n.type, n.ip, True) for n in DESCRIBED.nodes.values()]


def present(*changes: ClusterNode, without: str = "", here: str = "pi5u3", of: Constellation = DESCRIBED) -> EpochView:
    """Epoch 0, in which pi5u2 is above, with the cluster's nodes but for `changes` and the one that it is without."""
    nodes = {n.name: n for n in [*EVERYONE, *changes] if n.name != without}
    view = EpochView.of(of, 0, 60.0, of.objectives)
    return with_present(view, of, list(nodes.values()), here)


def lost(name: str) -> ClusterNode:
    return ClusterNode(name, "Sat", DESCRIBED.nodes[name].ip, False)


def test_a_cluster_as_the_file_has_it_changes_nothing() -> None:
    assert present() == EpochView.of(DESCRIBED, 0, 60.0, DESCRIBED.objectives)


def test_addresses_are_the_clusters() -> None:
    view = present(ClusterNode("pi5u4", "Sat", "192.168.7.4", True), ClusterNode("pi4u5", "Sat", "", True))
    assert view.topology.nodes["pi5u4"].ip == "192.168.7.4"
    assert view.topology.nodes["pi4u5"].ip == "10.0.0.58"


def test_type_and_links_of_a_node_that_the_file_names_are_the_files() -> None:
    view = present(ClusterNode("pi4u7", "Sat", "10.0.0.96", True))
    assert view.topology.nodes["pi4u7"].type == "Edge"
    assert view == present()


@pytest.mark.parametrize("view", [present(lost("pi5u4")), present(without="pi5u4")])
def test_a_node_that_is_not_ready_or_not_in_the_cluster_is_left_out(view: EpochView) -> None:
    assert "pi5u4" not in view.topology.nodes
    assert not [link for link in view.topology.links if "pi5u4" in (link.source, link.target)]
    assert len(view.topology.links) == 9 - 2
    assert "pi5u4" not in view.functions["detect"]["nodes"]
    assert len(view.functions["detect"]["nodes"]) == 6
    assert [n.name for n in view.absent] == ["pi5u4"]


def test_the_node_that_asks_is_there() -> None:
    assert present(lost("pi5u3")) == present()
    assert "new" in present(ClusterNode("new", "Sat", "10.0.2.1", False), here="new").topology.nodes


def test_a_node_that_only_the_cluster_knows_is_a_leaf_at_the_destination_without_functions() -> None:
    added = [ClusterNode("new-sat", "Sat", "10.0.2.1", True), ClusterNode("new-edge", "Edge", "10.0.2.2", True)]
    view = present(*added)
    links = {link.target: link for link in view.topology.links if link.target.startswith("new")}
    assert {name: (link.source, link.latency_ms, link.bandwidth_mbps) for name, link in links.items()} == {
        "new-sat": ("pi5u1", 60.0, 90.0),
        "new-edge": ("pi5u1", 10.0, 100.0),
    }
    assert view.functions == present().functions
    assert ElectionTable(view, "pi5u3").candidate("new-sat").host == "10.0.2.1"


@pytest.mark.parametrize(
    "node",
    [
        ClusterNode("new", None, "10.0.2.1", True),
        ClusterNode("new", "Sat", "", True),
        ClusterNode("new", "Sat", "10.0.2.1", False),
    ],
)
def test_a_new_node_without_type_address_or_readiness_is_not_there(node: ClusterNode) -> None:
    assert present(node) == present()


def test_a_new_node_whose_types_have_no_link_is_reached_by_nobody() -> None:
    view = present(ClusterNode("other-cloud", "Cloud", "10.0.2.1", True))
    assert "other-cloud" in view.topology.nodes
    assert len(view.topology.links) == 9


def test_while_the_destination_is_away_state_stays_and_events_wait() -> None:
    view = present(ClusterNode("pi5u1", "Cloud", "10.0.0.243", False), ClusterNode("new", "Edge", "10.0.2.1", True))
    table = ElectionTable(view, "pi5u3")
    for policy in ("skylark", "stateless"):
        assert list(table.candidates(policy)) == []
    assert table.offer(["alarm"], "skylark").hosts == ()
    with pytest.raises(UnknownNode):
        table.candidates("skylark", "mars")


def test_who_is_absent_comes_through_to_elect() -> None:
    view = present(lost("pi5u4"), without="pi4u7")
    assert EpochView.from_json(view.to_json()) == view
    assert [n["node_name"] for n in view.to_json()["absent"]] == ["pi5u4", "pi4u7"]


class Site:
    """node-info and elect of the node pi5u3 in a cluster, whose API is `api`; `look()` lists the nodes anew."""

    def __init__(self, serve: Serve, redis_node: RedisNode, clock: FakeClock, cluster: ClusterNodes) -> None:
        clock.advance(-clock.now_s() + 3600)
        self.watch = ClusterWatch(cluster, 60)
        settings = redis_node.settings("pi5u3", constellation=FILE, elect_timeout_s=5)
        port = serve(node_info.create_app(settings, clock, self.watch))
        self.settings: NodeSettings = settings.model_copy(update={"node_info_port": port})
        self._port = port
        self.elect = serve(elect.create_app(self.settings, clock, background=False))

    def ask(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self._port}{path}", timeout=5)

    def address(self, event_type: str) -> requests.Response:
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/test", "ce-type": event_type}
        return requests.post(f"http://127.0.0.1:{self.elect}/address", headers=headers, timeout=5)


@pytest.fixture
def api(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api([node(n.name, n.node_type, n.host) for n in EVERYONE])
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", f"http://127.0.0.1:{serve(api)}")))
    return api


@pytest.fixture
def site(serve: Serve, redis_node: RedisNode, clock: FakeClock, api: Api, tmp_path: Path) -> Site:
    return Site(serve, redis_node, clock, ClusterNodes(account=tmp_path / "none"))


def test_node_info_is_ready_once_the_api_was_asked_whatever_it_said(site: Site, api: Api) -> None:
    assert site.ask("/ready").status_code == 503
    assert site.ask("/health").status_code == 200
    api.failures = [FORBIDDEN]
    site.watch.look()
    answer = site.ask("/ready")
    assert answer.status_code == 200
    assert 'verbs: ["list"]}; going on with constellation.yaml' in answer.json()["notice"]
    assert len(site.ask("/current-topology").json()["nodes"]) == 9
    site.watch.look()
    assert "notice" not in site.ask("/ready").json()


def test_node_info_tells_who_is_there_and_where_the_absent_are(site: Site, api: Api) -> None:
    api.nodes = [node(n.name, n.node_type, n.host, "Unknown" if n.name == "pi5u1" else "True") for n in EVERYONE]
    site.watch.look()
    topology = site.ask("/current-topology").json()
    assert len(topology["nodes"]) == 8
    assert topology["absent"] == [{"node_name": "pi5u1", "node_ip": "10.0.0.243", "node_type": "Cloud"}]
    assert site.ask("/cloud-node-info").json()["node_name"] == "pi5u1"
    services = NodeServices(site.settings)
    assert (services.home(), services.host_of("pi5u1")) == ("pi5u1", "10.0.0.243")


def test_an_event_whose_only_node_is_away_is_to_be_sent_again(site: Site, api: Api) -> None:
    site.watch.look()
    assert site.address("dev.skylark.hotspots.detected").headers["ce-skylarknode"] == "pi5u1"
    api.nodes = [entry for entry in api.nodes if entry["metadata"]["name"] != "pi5u1"]
    site.watch.look()
    requests.post(f"http://127.0.0.1:{site.elect}/refresh", timeout=5)
    answer = site.address("dev.skylark.hotspots.detected")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "hotspots.detected are for alarm; no node of theirs is there" in answer.json()["detail"]
    assert site.address("dev.skylark.unheard.of").status_code == 400
