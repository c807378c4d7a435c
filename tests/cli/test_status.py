"""`skylark status` on real stores; what it counts is tested with the census."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from libskylark.cli.main import cli, main
from libskylark.jobs import JOBS, Retire, encode
from libskylark.lab.record import LabRecord
from libskylark.memory import COUNTERS
from libskylark.store import Store
from tests.cli.conftest import RecordLab


def status(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(cli, ["status", *arguments])


@pytest.fixture
def left_over(store: Store) -> None:
    """On `here`: two orphans, one bundle that a job will take away, and two reads."""
    job = encode(Retire("busy:there:task", "there", "count"))
    for chain in ("left", "over", "busy"):
        store.client.hset(f"state:{chain}:there:task", "image", b"frame")
    store.client.xadd(JOBS, {"job": job})
    store.client.hset(COUNTERS, mapping={"reads:local": 2, "runs:count": 2})


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.usefixtures("left_over")
def test_orphans_and_jobs_are_counted_per_node_and_in_all(record_lab: RecordLab) -> None:
    report = told(status("--project", record_lab(), "--json"))
    assert report["orphans"] == 2
    counts = {n["node"]: (n["orphans"], n["moving"], n["waiting"], n["dead_letters"]) for n in report["nodes"]}
    assert counts == {"here": (2, 1, 0, 0), "there": (0, 0, 0, 0)}
    assert report["nodes"][0]["reads"] == {"inline": 0, "local": 2, "remote": 0}


@pytest.mark.usefixtures("left_over")
def test_the_table_has_columns_for_them(record_lab: RecordLab) -> None:
    result = status("--project", record_lab())
    assert result.exit_code == 0, result.output
    _, titles, here, there, _, orphans = result.stdout.splitlines()
    assert titles.split()[3:] == ["alive", "waiting", "moving", "dead", "orphans", "reads"]
    assert here.split() == ["here", "Cloud", "127.0.0.1", "0/0", "0", "1", "0", "2", "0/2/0"]
    assert there.split()[-5:] == ["0", "0", "0", "0", "0/0/0"]
    assert orphans == "orphans: 2 bundles of state that nobody will read any more"


@pytest.mark.usefixtures("left_over")
def test_while_a_redis_does_not_answer_nobody_knows_what_is_an_orphan(record_lab: RecordLab) -> None:
    project = record_lab(there_is_gone=True)
    report = told(status("--project", project, "--json"))
    here, there = report["nodes"]
    assert (report["orphans"], here["orphans"], here["moving"]) == (None, None, 1)
    assert (there["waiting"], there["moving"], there["orphans"], there["reads"]) == (None, None, None, {})
    assert "127.0.0.3" in there["fault"]
    lines = status("--project", project).stdout.splitlines()
    assert lines[3].split()[-5:] == ["?", "?", "?", "?", "?"]
    assert lines[5].startswith("there: ")
    assert lines[6] == "orphans: cannot be told while a node's Redis does not answer"


def test_targets_that_cannot_be_written_are_named(
    record_lab: RecordLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nowhere/targets.json"
    monkeypatch.setattr(sys, "argv", ["skylark", "status", "--project", record_lab(), "--targets", str(file)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith(f"skylark: no use of {file}: no such file or directory; name another")


def test_prometheus_is_told_where_the_metrics_are(record_lab: RecordLab, tmp_path: Path) -> None:
    project = record_lab()
    record = LabRecord(Path(project)).path
    content = json.loads(record.read_text())
    roles = {"broker": "http", "function": "http", "links": "http", "redis": "redis", "dashboard": "http"}
    content["processes"] = [
        {"name": f"here-{role}", "node": "here", "role": role, "url": f"{scheme}://127.0.0.1:{number}", "pid": 1}
        for number, (role, scheme) in enumerate(roles.items(), start=9000)
    ]
    record.write_text(json.dumps(content))
    result = status("--project", project, "--targets", str(tmp_path / "targets.json"))
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads((tmp_path / "targets.json").read_text()) == [
        {"targets": ["127.0.0.1:9000"], "labels": {"process": "here-broker"}},
        {"targets": ["127.0.0.1:9001"], "labels": {"process": "here-function"}},
        {"targets": ["127.0.0.1:9002"], "labels": {"process": "here-links"}},
        {"targets": ["127.0.0.1:9004"], "labels": {"process": "here-dashboard"}},
    ]
