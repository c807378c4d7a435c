from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask, jsonify

from libskylark.cli.main import cli
from libskylark.constellation import read_constellation
from libskylark.render import MARK

ROOT = Path(__file__).parents[2]
FUNCTIONS = {f"{name}.yaml" for name in ("alarm", "camera", "detect", "preprocess")}
TRIGGERS = {*FUNCTIONS, "elect.yaml", "unaddressed.yaml", "kustomization.yaml"}
NODES = {*FUNCTIONS, "budgets.yaml", "client.yaml", "constellation.yaml", "elect.yaml", "kustomization.yaml"}
FILES = {*NODES, *(f"triggers/{name}" for name in TRIGGERS)}


def render(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["render", "--project", str(ROOT), *arguments])


def written(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*.yaml")}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_committed_files_are_up_to_date() -> None:
    result = render("--check")
    assert result.exit_code == 0, result.output
    assert "up to date" in result.stdout


def test_the_local_overlay_is_rendered_from_its_own_constellation() -> None:
    local = ROOT / "deployment/overlays/local"
    result = render("--constellation", str(local / "constellation.yaml"), "--out", str(local / "rendered"), "--check")
    assert result.exit_code == 0, result.output


def test_files_are_written_once(out: Path) -> None:
    first, second = render("--out", str(out), "--json"), render("--out", str(out), "--json")
    assert set(json.loads(first.stdout)["written"]) == {str(out / name) for name in FILES}
    assert json.loads(second.stdout)["written"] == []
    assert written(out) == FILES


def test_what_is_written_is_what_is_committed(out: Path) -> None:
    render("--out", str(out))
    for name in (*FUNCTIONS, "elect.yaml"):
        assert (out / "triggers" / name).read_text() == (ROOT / "triggers" / name).read_text()
        assert (out / name).read_text() == (ROOT / "deployment/rendered" / name).read_text()


def test_a_check_of_stale_files_writes_nothing_and_exits_with_2(out: Path) -> None:
    render("--out", str(out))
    path = out / "triggers/alarm.yaml"
    path.write_text("changed by hand\n")
    result = render("--out", str(out), "--check")
    assert result.exit_code == 2
    assert f"{path}: is stale\n" in result.stdout
    assert path.read_text() == "changed by hand\n"
    assert str(path) in json.loads(render("--out", str(out), "--check", "--json").stdout)["stale"]


def test_generated_files_of_functions_that_are_gone_are_removed_and_others_kept(out: Path) -> None:
    (out / "triggers").mkdir(parents=True)
    (out / "triggers/gone.yaml").write_text(f"{MARK}kind: Trigger\n")
    (out / "gone.yaml").write_text(f"{MARK}kind: Service\n")
    (out / "triggers/mine.yaml").write_text("kind: Trigger\n")
    render("--out", str(out))
    assert written(out) == {*FILES, "triggers/mine.yaml"}


def test_another_constellation_may_be_named(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "nodes:\n  - {name: a, type: Cloud, ip: 10.0.0.1}\nfunctions:\n  f: {nodes: [a], consumes: [x.y]}\n"
    )
    render("--constellation", str(path), "--out", str(out))
    assert {file.name for file in (out / "triggers").iterdir()} == {
        "f.yaml", "elect.yaml", "unaddressed.yaml", "kustomization.yaml"
    }  # fmt: skip
    assert "name: a-f" in (out / "triggers/f.yaml").read_text()
    assert "name: a-f" in (out / "f.yaml").read_text()


Serve = Callable[[Flask], int]


def api_node(name: str, address: str, node_type: str | None) -> dict[str, object]:
    labels = {"kubernetes.io/hostname": name, **({"node-type": node_type} if node_type else {})}
    status = {
        "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


@pytest.fixture
def cluster(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`cluster(node, ...)`: a Kubernetes API that lists these nodes, which KUBECONFIG names."""

    def start(*nodes: dict[str, object]) -> None:
        api = Flask("api", static_folder=None)
        answer = {"apiVersion": "v1", "kind": "NodeList", "metadata": {"resourceVersion": "1"}, "items": list(nodes)}
        api.add_url_rule("/api/v1/nodes", "nodes", lambda: jsonify(answer))
        server = f"http://127.0.0.1:{serve(api)}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    return start


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has a constellation, and else nothing."""
    (tmp_path / "own/deployment").mkdir(parents=True)
    shutil.copy(ROOT / "deployment/constellation.yaml", tmp_path / "own/deployment")
    return tmp_path / "own"


def test_nodes_come_from_the_cluster(cluster: Callable[..., None], out: Path, project: Path) -> None:
    cluster(
        api_node("pi5u1", "10.1.0.1", "Cloud"),
        api_node("pi5u2", "10.1.0.2", "Sat"),
        api_node("new", "10.1.0.3", "Sat"),
        api_node("control", "10.1.0.4", None),
    )
    before = (project / "deployment/constellation.yaml").read_text()
    result = render("--project", str(project), "--from-cluster", "--out", str(out))
    assert result.exit_code == 0, result.output
    told = set(result.stderr.splitlines())
    assert told == {
        "control: left out, it has no label node-type (Cloud, Edge, Sat)",
        "function client: left out, none of its nodes is in the cluster",
        "new: has no link yet; add it to `links` in constellation.yaml",
    }
    found = read_constellation(out / "constellation.yaml")
    assert {node.name: (node.type, node.ip) for node in found.nodes.values()} == {
        "pi5u1": ("Cloud", "10.1.0.1"),
        "pi5u2": ("Sat", "10.1.0.2"),
        "new": ("Sat", "10.1.0.3"),
    }
    assert found.hosts("detect") == ["pi5u2", "new"]
    assert "name: new-detect" in (out / "detect.yaml").read_text()
    assert "10.1.0.2" in (out / "elect.yaml").read_text()
    assert (project / "deployment/constellation.yaml").read_text() == before


def test_the_projects_constellation_takes_the_clusters_nodes_and_keeps_its_comments(
    cluster: Callable[..., None], project: Path
) -> None:
    cluster(api_node("pi5u1", "10.1.0.1", "Cloud"), api_node("pi5u3", "10.1.0.2", "Sat"))
    path = project / "deployment/constellation.yaml"
    before = path.read_text()
    checked = render("--project", str(project), "--from-cluster", "--check")
    assert (checked.exit_code, path.read_text()) == (2, before)
    assert render("--project", str(project), "--from-cluster").exit_code == 0
    found = read_constellation(path)
    assert [*found.nodes] == ["pi5u1", "pi5u3"]
    assert found.access(5) == "pi5u3"
    assert "# where chains end" in path.read_text()
    assert render("--project", str(project), "--check").exit_code == 0
    assert render("--project", str(project), "--from-cluster", "--check").exit_code == 0


def test_a_cluster_without_labels_is_told_how_to_get_them(cluster: Callable[..., None], project: Path) -> None:
    cluster(api_node("pi5u1", "10.1.0.1", None))
    result = render("--project", str(project), "--from-cluster")
    assert result.exit_code != 0
    assert "kubectl label node NAME node-type=Sat" in result.output + str(result.exception)
