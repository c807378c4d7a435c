"""Results on disk: what is written is read back, and what is faulty is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from libskylark.bench.results import Results, Setting
from libskylark.errors import DocumentError

SETTING = Setting(
    time="2026-11-24T12:00:00+00:00",
    command="skylark bench walk --runs 3",
    seed=7,
    cpu="A processor",
    cores=2,
    memory_gib=16.0,
    load_average=0.25,
    system="Linux x86_64",
    versions={"python": "3.11.7"},
    revision="0123abc",
)
ROWS = [{"policy": "near", "time_ms": 1.5, "ci_ms": [1.0, 2.5]}, {"policy": "far", "time_ms": 4.0, "ci_ms": [3, 5]}]


class Row(BaseModel):
    policy: str
    time_ms: float
    ci_ms: tuple[float, float]


class Walk(BaseModel):
    setting: Setting
    rows: list[Row]


def test_what_is_written_is_read_back_with_its_setting(tmp_path: Path) -> None:
    results = Results(tmp_path / "new")
    results.write("walk", {"rows": ROWS}, SETTING, raw=[1, 2])
    walk = results.read("walk", Walk)
    assert walk is not None
    assert walk.setting == SETTING
    assert [row.time_ms for row in walk.rows] == [1.5, 4.0]
    assert results.read_raw("walk") == [1, 2]
    assert (
        tmp_path / "new/walk.csv"
    ).read_text() == "policy,time_ms,ci_ms_low,ci_ms_high\nnear,1.5,1.0,2.5\nfar,4.0,3,5\n"


def test_equal_contents_give_equal_files(tmp_path: Path) -> None:
    written = []
    for folder, row in (("a", {"x": 1, "b": [2]}), ("b", {"b": [2], "x": 1})):
        Results(tmp_path / folder).write("walk", {"rows": [{"n": 1}], **row}, SETTING, raw=row)
        written.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert written[0] == written[1]
    assert written[0].keys() == {"walk.json", "walk.csv", "walk.raw.json.gz"}


def test_figures_without_rows_have_no_csv_unless_rows_are_given(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write("walk", {"total": 3}, SETTING)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.json"]
    results.write("walk", {"total": 3}, SETTING, rows=[{"kind": "a", "inner": {"b": 1}}, {"kind": "c", "ci_ms": None}])
    assert (tmp_path / "walk.csv").read_text() == 'kind,inner,ci_ms_low,ci_ms_high\na,"{""b"": 1}",,\nc,,,\n'


def test_figures_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Results(tmp_path).write("walk", {"time_ms": float("nan")}, SETTING)


def test_an_experiment_without_results_has_none(tmp_path: Path) -> None:
    assert Results(tmp_path).read("walk", Walk) is None
    with pytest.raises(OSError, match=r"walk\.raw\.json\.gz"):
        Results(tmp_path).read_raw("walk")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: rows[1].pop("time_ms"), r"walk\.json:\d+: rows\[1\]\.time_ms: is required"),
        (lambda rows: rows[0].update(time_ms="fast"), r"walk\.json:\d+: rows\[0\]\.time_ms: found 'fast'"),
        (lambda rows: rows[0].update(ci_ms=[1]), r"walk\.json:\d+: rows\[0\]\.ci_ms\[1\]: is required"),
    ],
)
def test_a_fault_is_named_with_file_line_and_field(tmp_path: Path, change: Any, fault: str) -> None:
    rows = json.loads(json.dumps(ROWS))
    change(rows)
    results = Results(tmp_path)
    results.write("walk", {"rows": rows}, SETTING, rows=())
    with pytest.raises(DocumentError, match=fault):
        results.read("walk", Walk)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "walk.json").write_text('{"rows": [')
    with pytest.raises(DocumentError, match=r"walk\.json"):
        Results(tmp_path).read("walk", Walk)


def test_the_setting_is_that_of_this_machine_and_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["any/skylark", "bench", "walk", "--runs", "3"])
    setting = Setting.now(seed=3)
    assert (setting.command, setting.seed) == ("skylark bench walk --runs 3", 3)
    assert setting.cores >= 1
    assert setting.cpu
    assert {"python", "skylark", "redis"} <= setting.versions.keys()
    assert Setting.model_validate(setting.model_dump()) == setting


def test_without_a_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert Setting.now().revision is None


def test_the_summary_leaves_out_what_is_not_known() -> None:
    assert SETTING.summary.endswith("A processor, 2 cores, 16 GiB, load 0.25 before, Linux x86_64, Python 3.11.7, "
                                    "revision 0123abc, seed 7")  # fmt: skip
    assert SETTING.model_copy(update={"seed": None, "revision": None}).summary.endswith("Python 3.11.7")
