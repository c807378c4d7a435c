"""The measurement of the emulated links, shortened: a real relay, a real far end, and what is made of their times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import link_ends
from libskylark.bench import links as links_bench
from libskylark.bench.results import Results
from libskylark.cli.main import cli
from libskylark.errors import LabError

SETUP = links_bench.Setup(
    latencies_ms=(4.0,), jitters_ms=((1.0, 2.0),), rates_mbps=(200.0,), flows=(1, 2), ceilings_mbps=(400.0,), samples=5,
    round_trips=2, seconds=0.1, runs=2,
)  # fmt: skip
LATENCY = {
    "load": "idle", "kind": "latency", "asked_ms": 10.0, "measured_ms": 10.304, "error_ms": 0.304, "p99_ms": 10.8,
    "round_trip_ms": 20.61, "set_up_ms": 41.2, "direct_ms": 0.09, "met": True,
}  # fmt: skip
JITTER = {
    "load": "idle", "kind": "jitter", "latency_ms": 10.0, "asked_ms": 9.0, "spread_ms": 8.04, "true_spread_ms": 8.1,
    "error_ms": -0.06, "least_ms": 10.2, "most_ms": 19.3,
}  # fmt: skip
RATE = {
    "load": "loaded", "kind": "rate", "flows": 4, "asked_mbps": 40.0, "measured_mbps": 33.0, "error_percent": -17.5,
    "share_error_percent": -18.0, "cpu_ms_per_mb": 16.0, "met": False,
}  # fmt: skip
CEILING = {**RATE, "load": "idle", "kind": "ceiling", "asked_mbps": 800.0, "measured_mbps": 801.0, "met": True}
FIGURES: dict[str, Any] = {
    "goals": {"latency_error_ms": 1.0, "rate_error_percent": 5.0},
    "runs": 3,
    "busy_processes": 2,
    "priority": True,
    "rows": [LATENCY, JITTER, RATE, CEILING],
    "ceiling_mbps": 800.0,
}


def test_every_kind_is_measured_under_either_load_and_nothing_is_faster_than_asked_for() -> None:
    seen: list[str] = []
    figures, raw = links_bench.measure(SETUP, seen.append)
    rows = figures["rows"]
    kinds = [(row["load"], row["kind"]) for row in rows]
    both = ["latency", "jitter", "rate", "rate"]
    assert kinds == [("idle", kind) for kind in [*both, "ceiling"]] + [("loaded", kind) for kind in both]
    assert (len(seen), len(raw)) == (9, 18)
    keys = {row["kind"]: row.keys() for row in (LATENCY, JITTER, RATE)}
    for row in rows:
        assert row.keys() == (keys[row["kind"]] if row["kind"] in keys else RATE.keys() - {"flows"})
    for latency in (row for row in rows if row["kind"] == "latency"):
        assert latency["measured_ms"] >= 4.0
        assert latency["round_trip_ms"] >= 8.0
        assert latency["set_up_ms"] >= 16.0
        assert latency["direct_ms"] > 0
    assert all(row["least_ms"] >= 1.0 for row in rows if row["kind"] == "jitter")
    assert all(row["measured_mbps"] > 0 for row in rows if "measured_mbps" in row)
    assert figures["ceiling_mbps"] in (400.0, None)
    assert json.loads(json.dumps(figures)) == figures


def test_a_row_is_of_the_median_run() -> None:
    runs = [{"error_ms": error_ms, "p99_ms": p99_ms, "met": abs(error_ms) < 1} for error_ms, p99_ms in (
        (-1.5, 12.0), (0.2, 140.0), (1.2, 11.0))]  # fmt: skip
    assert links_bench.of_runs(runs, "error_ms") == {"error_ms": 1.2, "p99_ms": 12.0, "met": False}
    jitter = [{"error_ms": 3.0}, {"error_ms": -2.0}]
    assert links_bench.of_runs(jitter, "error_ms") == {"error_ms": -2.0}


def test_rates_are_of_the_time_in_which_all_flows_ran() -> None:
    long = [(0.0, 1_000_000), (1.0, 2_000_000), (2.0, 3_000_000), (9.0, 4_000_000)]
    short = [(1.0, 500_000), (1.5, 1_000_000), (2.0, 1_500_000)]
    assert links_bench._mbps([long, short]) == [8.0, 8.0]


def test_an_end_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_ends, "_far_end", dies)
    with pytest.raises(LabError, match="one end of the measured link did not start"), link_ends.measured_link():
        pass


def dies(_: object) -> None:
    """In the place of an end: a spawned process finds it by name."""


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_shows_and_keeps_the_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool
) -> None:
    asked: list[links_bench.Setup] = []

    def measure(setup: links_bench.Setup, **_: Any) -> tuple[dict[str, Any], Any]:
        asked.append(setup)
        return FIGURES, [LATENCY]

    monkeypatch.setattr(links_bench, "measure", measure)
    arguments = ["bench", "links", "--runs", "5", "--results", str(tmp_path), *(["--json"] if as_json else [])]
    ran = CliRunner(env={"COLUMNS": "160"}).invoke(cli, arguments)
    assert ran.exit_code == 0, ran.output
    assert asked[0].runs == 5
    assert Results(tmp_path).read_raw("links") == [LATENCY]
    kept = json.loads((tmp_path / "links.json").read_text())
    assert kept["rows"] == FIGURES["rows"]
    assert (tmp_path / "links.csv").read_text().count("\n") == 5
    if as_json:
        assert json.loads(ran.stdout) == FIGURES
        return
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert ["idle", "10", "10.30", "+0.30", "10.8", "20.6", "41.2", "0.09", "met"] in lines
    assert ["idle", "10", "9", "8.0", "8.1", "10.2", "19.3"] in lines
    assert ["loaded", "4", "40", "33.0", "-17.50", "-18.00", "16.0", "missed"] in lines
    assert "goals: latency within 1 ms, rate and shares within 5 %; 1 missed" in ran.stdout
    assert "ceiling: 800 Mbit/s of one flow" in ran.stdout
