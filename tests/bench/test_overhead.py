"""The measurement of what libskylark adds, shortened: real gunicorns, a process that calls, a real Redis."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark import Event, Function
from libskylark.bench import overhead
from libskylark.bench.kinds import KINDS, STATE_BYTES, Kind
from libskylark.bench.overhead import Block, Setup
from libskylark.bench.report.overhead import OVERHEAD, OverheadFigures
from libskylark.bench.results import Results
from libskylark.cli.main import cli
from libskylark.errors import LabError
from libskylark.event import from_http, to_http
from libskylark.testing import invoke

TIMES = ("call_us", "cpu_us", "http_us", "http_cpu_us")


def test_kinds_are_called_in_process_and_over_http() -> None:
    seen: list[str] = []
    kinds = [kind for kind in KINDS if kind.name in ("bare Flask", "Flask, CloudEvents SDK", "libskylark, Redis state")]
    figures, blocks = overhead.measure(Setup(runs=2, calls=5), progress=seen.append, kinds=kinds)
    assert [row["kind"] for row in figures["rows"]] == [kind.name for kind in kinds]
    assert (figures["runs"], figures["calls"], len(seen), len(blocks)) == (2, 5, 6, 6)
    bare, *others = figures["rows"]
    for row in figures["rows"]:
        assert all(row[name] > 0 for name in ("call_us", "cpu_us", "http_us", "rss_mib"))
        assert row["ci_call_us"][0] <= row["call_us"] <= row["ci_call_us"][1]
    assert {bare[name] for name in bare if name.startswith("added_")} == {None}
    for row in others:
        assert row["added_us"] == pytest.approx(row["call_us"] - bare["call_us"], abs=0.2)
        assert row["added_http_us"] == pytest.approx(row["http_us"] - bare["http_us"], abs=0.2)
        assert row["added_mib"] == pytest.approx(row["rss_mib"] - bare["rss_mib"], abs=0.2)
    assert json.loads(json.dumps(figures)) == figures
    assert OVERHEAD.section(OverheadFigures.model_validate(figures)).tables


def load(kind: Kind) -> ModuleType:
    module = ModuleType("function")
    exec(kind.source, module.__dict__)
    return module


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_all_kinds_give_the_same_answer(kind: Kind) -> None:
    app, event = load(kind).app, Event.new("dev.skylark.bench.asked", "/me", {"number": 7})
    if isinstance(app, Function):
        answer = invoke(app, event, {"value": bytes(STATE_BYTES)} if kind.state else None)
        assert answer.event is not None
        assert (answer.status, answer.event.json()) == (200, {"seen": 7})
        assert answer.state == ({"value": bytes(STATE_BYTES - 1) + b"x"} if kind.state else {})
        assert answer.memory == ({"seen": 1} if "memory" in kind.name else {})
    else:
        headers, body = to_http(event)
        plain = app.test_client().post("/", headers=headers, data=body)
        assert (plain.status_code, json.loads(plain.data)) == (200, {"seen": 7})
        if "SDK" in kind.name:
            assert from_http(list(plain.headers.items()), plain.data).type == "dev.skylark.bench.answered"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("from flask import Flask\napp = Flask('none')\n", "faulty: answered 404"),
        ("raise ValueError('not today')\n", r"(?s)did not start.*not today|ended"),
    ],
)
def test_a_kind_that_fails_is_told(source: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        overhead.measure(Setup(runs=1, calls=1), kinds=[Kind("faulty", source)])


def test_what_is_added_is_against_the_first_kind() -> None:
    first = [Block("bare", run, 100.0 + run, 90.0, 300.0, 200.0) for run in range(3)]
    other = [Block("ours", run, 400.0 + run, 390.0, 500.0, 410.0) for run in range(3)]
    bare = overhead._medians(first)
    assert bare == {"call_us": 101.0, "cpu_us": 90.0, "http_us": 300.0, "http_cpu_us": 200.0}
    row = overhead._row(other, bare)
    assert (row["kind"], row["call_us"], row["ci_call_us"]) == ("ours", 401.0, [400.0, 402.0])
    added = {name: row[name] for name in row if name.startswith("added_")}
    assert added == {"added_us": 300.0, "added_cpu_us": 300.0, "added_http_us": 200.0, "added_http_cpu_us": 210.0}


ROW = {
    "kind": "libskylark, memory",
    **dict.fromkeys(TIMES, 1234.5),
    **{f"ci_{name}": [1200.0, 1300.0] for name in ("call_us", "http_us")},
    **dict.fromkeys(("added_us", "added_cpu_us", "added_http_us", "added_http_cpu_us"), 1000.4),
    "rss_mib": 61.2,
    "added_mib": 31.1,
}
FIGURES: dict[str, Any] = {"runs": 12, "calls": 300, "rows": [ROW]}


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table_and_keeps_the_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool
) -> None:
    asked: list[Any] = []

    def measure(setup: Setup, seed: int, progress: Any) -> Any:
        asked.extend([setup, seed])
        return FIGURES, [{"run": 1}]

    monkeypatch.setattr(overhead, "measure", measure)
    ran = CliRunner().invoke(cli, ["bench", "overhead", "--results", str(tmp_path), *(["--json"] if as_json else [])])
    assert ran.exit_code == 0, ran.output
    assert asked == [overhead.DEFAULT, overhead.SEED]
    if as_json:
        assert json.loads(ran.stdout) == FIGURES
    else:
        words = next(line for line in ran.stdout.splitlines() if "memory" in line).split()
        assert words[2:] == ["1,234", "1,000", "1,234", "1,234", "1,000", "61.2", "31.1"]
    assert json.loads((tmp_path / "overhead.json").read_text())["rows"] == [ROW]
    assert Results(tmp_path).read_raw("overhead") == [{"run": 1}]


def test_a_quick_run_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Setup] = []

    def measure(setup: Setup, seed: int, progress: Any) -> Any:
        asked.append(setup)
        return FIGURES, []

    monkeypatch.setattr(overhead, "measure", measure)
    for options in (["--quick"], ["--quick", "--calls", "7"]):
        assert CliRunner().invoke(cli, ["bench", "overhead", *options]).exit_code == 0
    assert asked == [overhead.QUICK, Setup(overhead.QUICK.runs, 7)]
