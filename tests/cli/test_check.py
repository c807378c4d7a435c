from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from libskylark.cli.main import cli

ROOT = Path(__file__).parents[2]
FUNCTION = (
    'from libskylark import Function\n\napp = Function("{}")\n\n\n@app.handler\ndef run(event):\n    return None\n'
)

Write = Callable[[str, str], Path]


def check(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments])


@pytest.fixture
def faulty(write: Write, tmp_path: Path) -> Path:
    """A project with a fault in a function, and one in a trigger."""
    write("functions/count/function.py", FUNCTION.format("sum"))
    write(
        "triggers/count.yaml", "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: count}\nspec: {}\n"
    )
    return tmp_path


def test_the_repository_itself_has_no_faults() -> None:
    result = check("--project", str(ROOT))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("no faults in ")
    assert "9 nodes" in result.stdout


def test_the_counts_are_told_as_json() -> None:
    result = check("--project", str(ROOT), "--json")
    report = json.loads(result.stdout)
    assert (report["ok"], report["faults"], report["nodes"], report["ping_sources"]) == (True, [], 9, 1)
    assert result.exit_code == 0


def test_faults_are_lines_that_an_editor_can_jump_to_and_exit_with_2(faulty: Path) -> None:
    result = check("--project", str(faulty))
    assert result.exit_code == 2
    assert f"{faulty}/functions/count/function.py:3: app: found Function('sum')" in result.stderr
    assert f"{faulty}/triggers/count.yaml:4: spec.broker: is required" in result.stderr
    assert "faults" in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_faults_as_json_have_file_line_field_and_message(faulty: Path) -> None:
    result = check("--project", str(faulty), "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 2
    assert report["ok"] is False
    assert {
        "file": f"{faulty}/triggers/count.yaml",
        "line": 4,
        "field": "spec.broker",
        "message": "is required",
    } in report["faults"]


@pytest.fixture
def with_a_notice(write: Write, tmp_path: Path) -> Path:
    """A good project with a field that Knative takes and the embedded broker has no use for."""
    write("functions/count/function.py", FUNCTION.format("count"))
    broker = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default}\nstatus: {a: b}\n"
    write("brokers/default.yaml", broker)
    return tmp_path


def test_notices_are_told_and_fail_nothing(with_a_notice: Path) -> None:
    result = check("--project", str(with_a_notice))
    assert result.exit_code == 0
    line = (
        f"{with_a_notice}/brokers/default.yaml:4: status: found {{'a': 'b'}}, "
        "which has no meaning in the embedded broker"
    )
    assert result.stderr.splitlines() == [f"notice: {line}"]
    assert result.stdout.startswith("no faults in ")


def test_notices_as_json_are_apart_from_faults(with_a_notice: Path) -> None:
    report = json.loads(check("--project", str(with_a_notice), "--json").stdout)
    assert (report["ok"], report["faults"]) == (True, [])
    assert [(each["line"], each["field"]) for each in report["notices"]] == [(4, "status")]


def test_a_single_fault_is_counted_in_the_singular(write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", FUNCTION.format("sum"))
    assert check("--project", str(tmp_path)).stderr.splitlines()[-1] == "1 fault"


def test_the_current_folder_is_the_project_unless_told(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(faulty)
    result = check()
    assert result.exit_code == 2
    assert "functions/count/function.py:3: app" in result.stderr


def test_a_project_that_is_no_folder_is_a_usage_error() -> None:
    result = check("--project", "/no/such/folder")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
