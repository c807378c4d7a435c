"""The measurement of cold starts, shortened: real processes of a small project, beside a real Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import start
from libskylark.cli.main import cli
from libskylark.errors import LabError
from libskylark.project import read_project
from tests.arrangements import function_py
from tests.conftest import Write

CONSTELLATION = "nodes: [{name: cloud, type: Cloud, ip: 127.0.0.1}]\nfunctions: {count: {nodes: [cloud]}}\n"
BROKER = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default}\n"
FIGURES: dict[str, Any] = {
    "runs": 5,
    "roles": {
        "elect": {"ready_ms": 1234, "ci_ready_ms": [1200.0, 1300.0], "slowest_ms": 1300, "rss_mib": 60.5},
        "count": {"ready_ms": 600, "ci_ready_ms": [590.0, 650.0], "slowest_ms": 650, "rss_mib": 58.0},
    },
}


def test_every_role_of_a_project_is_started_and_measured(write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", function_py())
    write("deployment/constellation.yaml", CONSTELLATION)
    write("brokers/default.yaml", BROKER)
    seen: list[str] = []
    figures, raw = start.measure(read_project(tmp_path), 2, seen.append)
    assert seen == list(figures["roles"]) == ["node-info", "elect", "broker", "count"]
    assert figures["runs"] == 2
    assert [run["role"] for run in raw] == [role for role in seen for _ in range(2)]
    for measured in figures["roles"].values():
        assert measured.keys() == FIGURES["roles"]["elect"].keys()
        low, high = measured["ci_ready_ms"]
        assert 0 < low <= measured["ready_ms"] <= high == measured["slowest_ms"]
        assert measured["rss_mib"] > 0
    assert json.loads(json.dumps(figures)) == figures


def test_a_role_that_does_not_start_is_told_with_its_log(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_roles", lambda project: ["count"])
    write("functions/count/function.py", function_py() + "\nraise ValueError('not today')\n")
    write("deployment/constellation.yaml", CONSTELLATION)
    project = read_project(tmp_path)
    with pytest.raises(LabError, match=r"(?s)count did not become ready.*not today"):
        start.measure(project, 1)


def test_a_project_without_a_constellation_cannot_be_measured(write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", function_py())
    with pytest.raises(LabError, match=r"found no .*constellation\.yaml"):
        start.measure(read_project(tmp_path), 1)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_shows_the_figures(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    write("functions/count/function.py", function_py())
    monkeypatch.setattr(start, "measure", lambda project, runs, progress: (FIGURES, []))
    command = ["bench", "start", "--project", str(tmp_path), *(["--json"] if as_json else [])]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0, shown.output
    if as_json:
        assert json.loads(shown.stdout) == FIGURES
    else:
        assert [line.split() for line in shown.stdout.splitlines()[1:3]] == [
            ["elect", "1,234", "1,300", "60.5"],
            ["count", "600", "650", "58"],
        ]
