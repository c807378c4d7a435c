"""The measurement of storage time on small state and a short link: two real servers, the project's own functions."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import fusion
from libskylark.bench.fusion import Bench, Cell, Setup, Taken, Trial
from libskylark.bench.nodes import THERE, TwoNodes, two_nodes
from libskylark.bench.report.fusion import FUSION, FusionFigures
from libskylark.bench.results import Results
from libskylark.cli.main import cli
from libskylark.codec import encode
from libskylark.errors import LabError
from libskylark.key import StateKey
from libskylark.lab.links import Figures
from libskylark.project import Project, read_project
from libskylark.state import redis_key
from tests.arrangements import function_py
from tests.conftest import ROOT, Write

LINK = Figures(latency_ms=2.0, jitter_ms=1.0, bandwidth_mbps=100.0)
CELL = Cell("remote", 5, 1.0)


@pytest.fixture(scope="module")
def project() -> Project:
    return read_project(ROOT)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes(LINK, most_bytes=10_000_000, seed=1) as nodes:
        yield nodes


@pytest.fixture
def bench(nodes: TwoNodes, project: Project) -> Bench:
    return Bench(nodes, project, LINK)


def test_every_cell_has_every_figure(project: Project) -> None:
    setup = Setup(depths=(1, 3), sizes_mb=(0.004,), runs=2, near=3, link=LINK)
    seen: list[str] = []
    figures, trials = fusion.measure(project, setup, seed=3, progress=seen.append)
    cells = [(row["place"], row["depth"], row["size_mb"]) for row in figures["rows"]]
    assert cells == [(place, depth, size) for place in ("local", "remote") for depth in (1, 3) for size in (0.004,)]
    assert figures["link"] == {"latency_ms": 2.0, "jitter_ms": 1.0, "bandwidth_mbps": 100.0}
    assert (figures["runs"], figures["bytes_per_mb"], len(trials), len(seen)) == (2, 1_024_000, 16, 16)
    for row in figures["rows"]:
        assert row["runs"] == (6 if row["place"] == "local" else 2)
        for way in ("single", "bundled"):
            low, high = row[f"ci_{way}_ms"]
            assert 0 < low <= row[f"{way}_ms"] <= high
            assert row[f"{way}_read_ms"] > 0
            assert row[f"{way}_write_ms"] > 0
            if row["place"] == "remote":  # the link is never faster than asked for
                assert low >= 2 * 2 * LINK.latency_ms
        low, high = row["ci_saving_percent"]
        assert low <= row["saving_percent"] <= high
    for trial in trials:
        if trial["cell"]["place"] == "remote":  # a round trip for each read and each write
            assert min(trial["single"].values()) >= trial["cell"]["depth"] * 2 * LINK.latency_ms
    assert json.loads(json.dumps(figures)) == figures
    assert FUSION.section(FusionFigures.model_validate(figures)).tables


@pytest.mark.parametrize("cell", [Cell("local", 3, 0.01), Cell("remote", 3, 0.01)])
def test_single_asks_once_for_each_state_and_bundled_once_for_all(
    bench: Bench, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch, cell: Cell
) -> None:
    asked: list[str] = []
    ask = Bench._get_and_set

    def spy(self: Bench, way: str, key: str, place: fusion.Place) -> Taken:
        asked.append(way)
        return ask(self, way, key, place)

    monkeypatch.setattr(Bench, "_get_and_set", spy)
    trial = bench.trial(cell, 4, random.Random(1))
    assert sorted(asked) == ["bundled", "single", "single", "single"]
    assert (trial.cell, trial.run) == (cell, 4)
    for stores in (nodes.here, nodes.there):
        assert stores.local.run(lambda client: client.dbsize()) == 0


@pytest.mark.parametrize("way", ["single", "bundled"])
def test_state_that_is_not_what_was_read_is_told(
    bench: Bench, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    read = Bench._stored
    looked: list[str] = []

    def torn(self: Bench, key: str, place: fusion.Place) -> Any:
        looked.append(key)
        if len(looked) == 2:  # the first was what it read, this is what it stored
            name: Any = redis_key(StateKey.parse(key))
            field = nodes.there.local.run(lambda client: max(client.hkeys(name)))
            nodes.there.local.run(lambda client: client.hset(name, field, encode(b"torn")))
        return read(self, key, place)

    monkeypatch.setattr(Bench, "_stored", torn)
    with pytest.raises(LabError, match=f"{way} stored on {THERE} what is not the state that it read"):
        bench._take(way, Cell("remote", 2, 0.01))
    nodes.flush()


def test_a_refused_request_is_told(bench: Bench) -> None:
    with pytest.raises(LabError, match=r"write-data answered 400: .*found 0 KiB"):
        bench.trial(Cell("local", 1, 0.0), 1, random.Random(1))
    with pytest.raises(LabError, match=r"bundled answered 404: .*nowhere to be read"):
        bench._get_and_set("bundled", "a:there:c", "remote")


def test_a_project_without_the_functions_cannot_be_measured(nodes: TwoNodes, write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", function_py())
    with pytest.raises(LabError, match="found no function write-data in"):
        Bench(nodes, read_project(tmp_path), LINK)


def test_figures_are_medians_of_the_storage_time() -> None:
    trials = [
        Trial(CELL, 1, Taken(100.0, 300.0), Taken(50.0, 50.0)),
        Trial(CELL, 2, Taken(120.0, 380.0), Taken(70.0, 130.0)),
        Trial(CELL, 3, Taken(500.0, 700.0), Taken(40.0, 60.0)),
    ]
    row = fusion.row(CELL, trials)
    assert {name: row[name] for name in ("place", "depth", "size_mb")} == {"place": "remote", "depth": 5, "size_mb": 1}
    assert (row["single_ms"], row["ci_single_ms"]) == (500.0, [400.0, 1200.0])
    assert (row["bundled_ms"], row["ci_bundled_ms"]) == (100.0, [100.0, 200.0])
    assert (row["single_read_ms"], row["single_write_ms"], row["bundled_read_ms"]) == (120.0, 380.0, 50.0)
    assert row["saving_percent"] == 80.0
    assert fusion.row(CELL, [replace(t, bundled=t.single) for t in trials])["saving_percent"] == 0.0


FIGURES: dict[str, Any] = {
    "link": {"latency_ms": 60.0, "jitter_ms": 30.0, "bandwidth_mbps": 90.0},
    "runs": 6,
    "rows": [fusion.row(CELL, [Trial(CELL, 1, Taken(1200.0, 1300.4), Taken(600.0, 650.0))])],
}


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table_and_keeps_the_results(
    monkeypatch: pytest.MonkeyPatch, write: Write, tmp_path: Path, as_json: bool
) -> None:
    asked: list[Any] = []

    def measure(project: Project, setup: Setup, seed: int, progress: Any) -> Any:
        asked.extend([setup, seed])
        return FIGURES, [{"run": 1}]

    monkeypatch.setattr(fusion, "measure", measure)
    write("functions/count/function.py", function_py())
    options = ["--project", str(tmp_path), "--results", str(tmp_path), *(["--json"] if as_json else [])]
    ran = CliRunner().invoke(cli, ["bench", "fusion", *options])
    assert ran.exit_code == 0, ran.output
    assert asked == [fusion.DEFAULT, fusion.SEED]
    if as_json:
        assert json.loads(ran.stdout) == FIGURES
    else:
        words = next(line for line in ran.stdout.splitlines() if line.strip().startswith("remote")).split()
        assert words == [
            "remote",
            "5",
            "1",
            "2,500.4",
            "1,200.0",
            "1,250.0",
            "600.0",
            "50.0",
            "%",
            "50.0",
            "to",
            "50.0",
            "%",
        ]
    kept = json.loads((tmp_path / "fusion.json").read_text())
    assert (kept["rows"], kept["setting"]["seed"]) == (FIGURES["rows"], fusion.SEED)
    assert Results(tmp_path).read_raw("fusion") == [{"run": 1}]
    assert (tmp_path / "fusion.csv").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--quick"], fusion.QUICK),
        (["--quick", "--runs", "1"], replace(fusion.QUICK, runs=1)),
        (
            ["--depth", "2", "--depth", "3", "--size", "0.5", "--jitter-ms", "7", "--bandwidth-mbps", "35"],
            Setup((2, 3), (0.5,), link=Figures(latency_ms=60.0, jitter_ms=7.0, bandwidth_mbps=35.0)),
        ),
    ],
)
def test_options_choose_cells_and_link(
    monkeypatch: pytest.MonkeyPatch, write: Write, tmp_path: Path, options: list[str], expected: Setup
) -> None:
    asked: list[Setup] = []

    def measure(project: Project, setup: Setup, seed: int, progress: Any) -> Any:
        asked.append(setup)
        return FIGURES, []

    monkeypatch.setattr(fusion, "measure", measure)
    write("functions/count/function.py", function_py())
    ran = CliRunner().invoke(cli, ["bench", "fusion", "--project", str(tmp_path), *options])
    assert ran.exit_code == 0, ran.output
    assert asked == [expected]
