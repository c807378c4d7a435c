"""The nodes of a cluster from a real HTTP server, which answers as the Kubernetes API does."""

from __future__ import annotations

import builtins
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from libskylark.config import from_environment
from libskylark.errors import ClusterError, SettingError
from libskylark.services.cluster import ClusterNode, ClusterNodes, ClusterSettings, ClusterWatch, watch_cluster
from tests.conftest import Serve, free_port

from .kubernetes_api import EXPIRED, FORBIDDEN, TOKEN, Api, kubeconfig, node, status

RING = [ClusterNode(f"sat{number}", "Sat", f"10.0.1.{number}", True) for number in range(7)]


@pytest.fixture
def api(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A Kubernetes API with seven satellites, which KUBECONFIG leads to."""
    api = Api([node(n.name, n.node_type, n.host) for n in RING])
    path = kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{serve(api)}")
    monkeypatch.setenv("KUBECONFIG", str(path))
    return api


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterNodes:
    return ClusterNodes(account=tmp_path / "no account")


def test_nodes_have_name_type_address_and_readiness(api: Api, cluster: ClusterNodes) -> None:
    api.nodes = [
        node("pi5u2", "Sat", "10.0.0.34"),
        node("pi4u7", "Edge", "10.0.0.96", ready="Unknown"),
        node("pi5u1", "Cloud", "10.0.0.243", ready="False"),
        node("laptop", None, "10.0.0.7"),
        node("moon", "Moon", ""),
    ]
    assert cluster.list_nodes() == [
        ClusterNode("laptop", None, "10.0.0.7", True),
        ClusterNode("moon", None, "", True),
        ClusterNode("pi4u7", "Edge", "10.0.0.96", False),
        ClusterNode("pi5u1", "Cloud", "10.0.0.243", False),
        ClusterNode("pi5u2", "Sat", "10.0.0.34", True),
    ]


def test_a_node_that_has_only_just_joined_is_not_ready(api: Api, cluster: ClusterNodes) -> None:
    api.nodes = [{"metadata": {"name": "new"}}, {"metadata": {"name": "newer"}, "status": {}}]
    assert [(n.name, n.host, n.ready) for n in cluster.list_nodes()] == [("new", "", False), ("newer", "", False)]


def test_lists_come_page_by_page(api: Api, tmp_path: Path) -> None:
    assert ClusterNodes(account=tmp_path / "none", at_once=3).list_nodes() == RING
    assert api.requests == [f"/api/v1/nodes?limit=3{more}" for more in ("", "&continue=3", "&continue=6")]


def test_a_page_that_is_too_old_begins_the_list_anew(api: Api, tmp_path: Path) -> None:
    def expire(request: Any) -> Response | None:
        return EXPIRED if "continue" in request.args and len(api.requests) == 2 else None

    api.before = expire
    assert ClusterNodes(account=tmp_path / "none", at_once=4).list_nodes() == RING
    assert len(api.requests) == 4


def test_a_list_that_is_always_too_old_is_an_error(api: Api, cluster: ClusterNodes) -> None:
    api.before = lambda request: EXPIRED
    with pytest.raises(ClusterError, match="answered 410: The provided continue parameter is too old"):
        cluster.list_nodes()
    assert len(api.requests) == 2


def test_a_missing_role_names_the_rule_that_it_needs(api: Api, cluster: ClusterNodes) -> None:
    api.failures = [FORBIDDEN]
    with pytest.raises(ClusterError) as caught:
        cluster.list_nodes()
    assert 'answered 403: nodes is forbidden: User "system:serviceaccount:skylark:node-info"' in str(caught.value)
    assert 'ClusterRole with the rule {apiGroups: [""], resources: ["nodes"], verbs: ["list"]}' in str(caught.value)
    assert cluster.list_nodes() == RING


def test_a_token_that_is_not_valid_is_said_to_be_so(api: Api, cluster: ClusterNodes) -> None:
    api.token = "another"
    with pytest.raises(ClusterError, match=r"answered 401: Unauthorized; the service account's token is not valid"):
        cluster.list_nodes()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(500, "InternalError", "etcdserver: request timed out"), "answered 500: etcdserver"),
        (status(429, "TooManyRequests", "too many requests"), "answered 429: too many requests"),
        (Response("<h1>Bad Gateway</h1>", 502, content_type="text/html"), "answered 502: no answer of the API itself"),
        (Response("<h1>Welcome</h1>", content_type="text/html"), "answer is no list of nodes"),
        (Response("[]", content_type="application/json"), "answer is no list of nodes"),
        (Response('{"items": [{"metadata": 5}]}', content_type="application/json"), "answer is no list of nodes"),
        (Response("{}", 503, content_type="application/json"), "answered 503"),
        (Response("x", 503, content_type="application/json"), "answer is no list of nodes"),
    ],
)
def test_an_api_that_does_not_answer_as_it_should_is_an_error(
    api: Api, cluster: ClusterNodes, answer: Response, words: str
) -> None:
    api.failures = [answer]
    with pytest.raises(ClusterError, match=words):
        cluster.list_nodes()


def test_nobody_at_the_address_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int, cluster: ClusterNodes
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", f"http://127.0.0.1:{unused_port}")))
    with pytest.raises(ClusterError, match=r"the Kubernetes API does not answer: .*refused"):
        cluster.list_nodes()


def test_an_api_that_keeps_silent_is_given_up(api: Api, tmp_path: Path) -> None:
    silent = threading.Event()

    def wait(request: Any) -> None:
        silent.wait(10)

    api.before = wait
    try:
        with pytest.raises(ClusterError, match=r"does not answer: .*timed out"):
            ClusterNodes(timeout_s=0.2, account=tmp_path / "none").list_nodes()
    finally:
        silent.set()


def test_without_an_account_and_a_kubeconfig_nothing_says_where_the_api_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: ClusterNodes
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(ClusterError, match=r"nothing says how to reach the Kubernetes API: .*missing not found"):
        cluster.list_nodes()


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Api]]:
    """A pod's service account, and the API behind TLS that its certificate and the environment lead to."""
    api, authority = Api([node("sat0")]), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    port = free_port("127.0.0.1")
    server = make_server("127.0.0.1", port, api, threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("skylark")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    yield tmp_path, api
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pod_asks_as_its_service_account_and_not_through_a_proxy(account: tuple[Path, Api]) -> None:
    directory, _ = account
    assert [n.name for n in ClusterNodes(account=directory).list_nodes()] == ["sat0"]


def test_a_token_that_kubernetes_has_renewed_is_read_again(account: tuple[Path, Api]) -> None:
    directory, api = account
    cluster = ClusterNodes(account=directory)
    cluster.list_nodes()
    api.token = "the next token"
    (directory / "token").write_text(api.token)
    assert [n.name for n in cluster.list_nodes()] == ["sat0"]


def test_an_api_with_another_certificate_is_not_believed(account: tuple[Path, Api]) -> None:
    directory, _ = account
    trustme.CA().cert_pem.write_to_path(str(directory / "ca.crt"))
    with pytest.raises(ClusterError, match="CERTIFICATE_VERIFY_FAILED"):
        ClusterNodes(account=directory).list_nodes()


def test_an_account_without_its_certificate_is_an_error(account: tuple[Path, Api]) -> None:
    directory, _ = account
    (directory / "ca.crt").unlink()
    with pytest.raises(ClusterError, match="nothing says how to reach the Kubernetes API"):
        ClusterNodes(account=directory).list_nodes()


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what the watch has logged; the test's server logs as well."""
    return [(record.levelname, record.message) for record in caplog.records if record.name == "skylark.cluster"]


def test_a_watch_keeps_what_it_knows_while_the_api_is_away_and_tells_why(
    api: Api, cluster: ClusterNodes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "skylark.cluster")
    watch = ClusterWatch(cluster, 60)
    api.failures = [FORBIDDEN]
    watch.look()
    assert (watch.nodes, watch.tried.is_set()) == (None, True)
    assert watch.notice.endswith("going on with constellation.yaml")
    watch.look()
    assert (watch.nodes, watch.notice) == (tuple(RING), "")
    assert "the Kubernetes API answers again" in caplog.text
    caplog.clear()
    api.failures = [FORBIDDEN, FORBIDDEN]
    watch.look()
    watch.look()
    assert watch.nodes == tuple(RING)
    assert watch.notice.endswith("going on with the 7 nodes last listed")
    assert [level for level, _ in logged(caplog)] == ["WARNING"]


def test_a_watch_tells_what_changes(api: Api, cluster: ClusterNodes, caplog: pytest.LogCaptureFixture) -> None:
    watch = ClusterWatch(cluster, 60)
    watch.look()
    api.nodes[1:] = [node("sat1", "Sat", "10.0.1.1", ready="Unknown"), node("new", None, "10.0.2.1")]
    caplog.set_level(logging.INFO, "skylark.cluster")
    watch.look()
    gone = "; ".join(f"sat{number} is no more" for number in range(2, 7))
    expected = f"new (without label node-type, 10.0.2.1) is ready; sat1 (Sat, 10.0.1.1) is not ready; {gone}"
    assert logged(caplog) == [("INFO", f"nodes of the cluster: {expected}")]


class Counting:
    """A cluster that tells when it has been asked so many times, and fails the first time with a fault of its own."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.done = threading.Event()

    def list_nodes(self) -> list[ClusterNode]:
        self.left -= 1
        if self.left == 0:
            self.done.set()
        if not self.done.is_set():
            raise ZeroDivisionError
        return RING


def test_a_watch_lists_again_and_again_and_outlives_a_fault_of_its_own() -> None:
    counting = Counting(3)
    watch = ClusterWatch(counting, 0.01)
    watch.start()
    assert counting.done.wait(10)
    watch.stop()
    assert watch.nodes == tuple(RING)


@pytest.mark.parametrize(
    ("source", "host", "watched"),
    [("auto", "", False), ("auto", "10.152.183.1", True), ("file", "10.152.183.1", False), ("cluster", "", True)],
)
def test_nodes_are_those_of_the_cluster_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, source: str, host: str, watched: bool
) -> None:
    monkeypatch.setenv("SKYLARK_NODES", source)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    watch = watch_cluster(from_environment(ClusterSettings), lambda timeout_s: Counting(1))
    assert (watch is not None) is watched
    if watch is not None:
        watch.stop()


def test_a_setting_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLARK_NODES", "kubernetes")
    with pytest.raises(SettingError, match=r"SKYLARK_NODES: found 'kubernetes', expected .*'auto'"):
        from_environment(ClusterSettings)


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("lightkube"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingError, match=r"pip install 'skylark-functions\[kubernetes\]'"):
        ClusterNodes()
