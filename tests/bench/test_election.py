"""The measurement of elections on small constellations, with a real gunicorn."""

from __future__ import annotations

import json
import random
from collections import Counter
from statistics import median

import pytest
from click.testing import CliRunner

from libskylark.bench import election
from libskylark.cli.main import cli

FIGURES = {"recompute_ms", "answer_us", "http_ms", "peak_mib"}


def test_every_size_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "ROUNDS", 2)
    seen: list[int] = []
    figures, raw = election.measure((10, 50), progress=seen.append)
    assert seen == [10, 50] * election.ROUNDS
    assert [(sample["round"], sample["nodes"]) for sample in raw] == [(1 + n // 2, size) for n, size in enumerate(seen)]
    assert list(figures) == ["sizes"]
    assert list(figures["sizes"]) == ["10", "50"]
    for measured in figures["sizes"].values():
        assert measured.keys() == FIGURES
        assert all(figure > 0 for figure in measured.values())
    spread = election.ranges(raw)
    assert spread.keys() == figures["sizes"].keys()
    for size, by_name in spread.items():
        assert by_name.keys() == FIGURES - {"peak_mib"}
        for name, (least, most) in by_name.items():
            medians = [median(sample[name]) for sample in raw if sample["nodes"] == int(size)]
            assert [least, most] == [round(min(medians), 3), round(max(medians), 3)]


@pytest.mark.parametrize("size", election.SIZES)
def test_the_constellations_are_seeded_and_every_node_has_four_neighbours(size: int) -> None:
    made = election.view(size, 1, random.Random(3))
    assert made == election.view(size, 1, random.Random(3))
    pairs = {frozenset(link[:2]) for link in made.topology.links}
    assert len(pairs) == 2 * size
    assert set(Counter(node for pair in pairs for node in pair).values()) == {4}


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    figures = {"sizes": {"1000": {"recompute_ms": 3.5, "answer_us": 6.0, "http_ms": 1.2, "peak_mib": 1.5}}}
    monkeypatch.setattr(election, "measure", lambda **_: (figures, []))
    ran = CliRunner().invoke(cli, ["bench", "election", *(["--json"] if as_json else [])])
    assert ran.exit_code == 0
    if as_json:
        assert json.loads(ran.stdout) == figures
    else:
        row = next(line for line in ran.stdout.splitlines() if line.strip().startswith("1,000"))
        assert row.split() == ["1,000", "3.5", "6", "1.2", "1.5", "0.6", "100.0"]
