from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from libskylark.cli.main import cli
from libskylark.render import MARK

ROOT = Path(__file__).parents[2]
FILES = {"alarm.yaml", "camera.yaml", "detect.yaml", "elect.yaml", "preprocess.yaml", "unaddressed.yaml"}


def render(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["render", "--project", str(ROOT), *arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "triggers"


def test_the_committed_triggers_are_up_to_date() -> None:
    result = render("--check")
    assert result.exit_code == 0, result.output
    assert "up to date" in result.stdout


def test_files_are_written_once(out: Path) -> None:
    first, second = render("--out", str(out), "--json"), render("--out", str(out), "--json")
    assert set(json.loads(first.stdout)["written"]) == FILES
    assert json.loads(second.stdout)["written"] == []
    assert {path.name for path in out.iterdir()} == FILES


def test_what_is_written_is_what_is_committed(out: Path) -> None:
    render("--out", str(out))
    for name in FILES:
        assert (out / name).read_text() == (ROOT / "triggers" / name).read_text()


def test_a_check_of_stale_files_writes_nothing_and_exits_with_2(out: Path) -> None:
    render("--out", str(out))
    (out / "alarm.yaml").write_text("changed by hand\n")
    result = render("--out", str(out), "--check")
    assert result.exit_code == 2
    assert result.stdout == f"{out}/alarm.yaml: is stale\n"
    assert (out / "alarm.yaml").read_text() == "changed by hand\n"
    assert json.loads(render("--out", str(out), "--check", "--json").stdout)["stale"] == ["alarm.yaml"]


def test_generated_files_of_functions_that_are_gone_are_removed_and_others_kept(out: Path) -> None:
    out.mkdir()
    (out / "gone.yaml").write_text(f"{MARK}kind: Trigger\n")
    (out / "mine.yaml").write_text("kind: Trigger\n")
    render("--out", str(out))
    assert {path.name for path in out.iterdir()} == {*FILES, "mine.yaml"}


def test_another_constellation_may_be_named(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "nodes:\n  - {name: a, type: Cloud, ip: 10.0.0.1}\nfunctions:\n  f: {nodes: [a], consumes: [x.y]}\n"
    )
    render("--constellation", str(path), "--out", str(out))
    assert {file.name for file in out.iterdir()} == {"f.yaml", "elect.yaml", "unaddressed.yaml"}
    assert "name: a-f" in (out / "f.yaml").read_text()
