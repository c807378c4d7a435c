"""The measurement of handovers on small memories and a short link: two real servers, the relay in its process."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import handover, nodes
from libskylark.bench.writer import Writer
from libskylark.cli.main import cli
from libskylark.errors import LabError
from libskylark.handover import Handover
from libskylark.lab.links import Figures
from libskylark.memory import Committed, Effects, MemoryKeys, MemoryName, RedisLedger, known_owner
from libskylark.ownership import Ownership
from libskylark.store import Stores

NAME = MemoryName("bench", "area-1")
SETUP = handover.Setup(latency_ms=2.0, bandwidth_mbps=100.0, writes_per_s=200.0, runs=1)
FIGURES = {
    "precopy_bytes": 1_001_332,
    "delta_bytes": 41,
    "unwritable_ms": 23.2,
    "ci_unwritable_ms": [22.5, 25.0],
    "baseline_unwritable_ms": 232.0,
    "ci_baseline_unwritable_ms": [231.0, 240.0],
    "round_trip_ms": 20.8,
    "delta_ms": 0.008,
    "writes": 288,
    "writes_lost": 0,
}


def test_every_size_has_every_figure_and_no_write_is_lost() -> None:
    seen: list[int] = []
    figures, raw = handover.measure((1_000, 50_000), SETUP, progress=seen.append)
    assert [(trial["bytes"], trial["way"]) for trial in raw] == [
        (size, way) for size in (1_000, 50_000) for way in ("skylark", "stop-and-copy")
    ]
    assert seen == [1_000, 50_000]
    assert figures["link"] == {"latency_ms": 2.0, "bandwidth_mbps": 100.0}
    assert (figures["writes_per_s"], figures["runs"]) == (200.0, 1)
    assert list(figures["sizes"]) == ["1000", "50000"]
    for size, measured in figures["sizes"].items():
        assert measured.keys() == FIGURES.keys()
        assert measured["precopy_bytes"] >= int(size) // 16 * 16
        assert measured["delta_bytes"] < measured["precopy_bytes"]
        assert measured["delta_ms"] == round(measured["delta_bytes"] * 8 / 100_000, 3)
        assert measured["round_trip_ms"] >= 4.0  # the link is never faster than asked for
        assert min(measured["unwritable_ms"], measured["baseline_unwritable_ms"]) > 2.0
        for name in ("unwritable_ms", "baseline_unwritable_ms"):
            assert measured[f"ci_{name}"] == [measured[name]] * 2  # of a single run
        assert measured["writes"] >= 2 * (1 + 16 + 2 * 10)
        assert measured["writes_lost"] == 0
    assert json.loads(json.dumps(figures)) == figures


@pytest.fixture
def two(stores: Stores) -> tuple[Writer, Handover]:
    """A writer on a memory that `here` owns, and its handover to `there`, without a link between them."""
    Ownership("here", stores, lambda: "here").find(NAME, epoch=1)
    ledgers = {"here": RedisLedger(stores.local), "there": RedisLedger(stores.of("there"))}
    writer = Writer(NAME, ledgers, 100, random.Random(1))
    return writer, Handover(NAME, "here", "there", stores.local, stores.of("there"))


def test_the_writer_follows_the_memory(two: tuple[Writer, Handover], stores: Stores) -> None:
    writer, moving = two
    writer.write("part-0")
    with writer.writing(per_s=500):
        writer.wait_for(5)
        assert moving.fence(2) == 2
        moving.commit()
        moving.retire(2)
        writer.wait_for(5)
    assert [write.node for write in writer.written] == sorted(write.node for write in writer.written)
    assert {write.node for write in writer.written} == {"here", "there"}
    owner = known_owner(stores.of("there"), NAME)
    assert owner is not None
    assert owner.serves("there")
    assert writer.lost() == 0
    assert writer.gap_ms(0.0) > 0


@pytest.mark.parametrize("key", [MemoryKeys(NAME).replies, MemoryKeys(NAME).memory])
def test_a_write_that_is_missing_is_counted(two: tuple[Writer, Handover], stores: Stores, key: str) -> None:
    writer, _ = two
    for part in ("part-0", "part-1", ""):
        writer.write(part)
    assert writer.lost() == 0
    field = "part-1" if key.startswith("memory") else "/bench 2"
    assert stores.local.run(lambda client: client.hdel(key, field)) == 1
    assert writer.lost() == 1


def test_what_fails_in_the_writer_is_raised(stores: Stores) -> None:
    class Failing(RedisLedger):
        def commit(self, effects: Effects) -> Committed:
            raise RuntimeError("no commit")

    Ownership("here", stores, lambda: "here").find(NAME, epoch=1)
    writer = Writer(NAME, {"here": Failing(stores.local)}, 100, random.Random(1))
    with pytest.raises(RuntimeError, match="no commit"), writer.writing(per_s=100):
        writer.wait_for(1)


def test_two_nodes_reach_each_other_over_the_link_only() -> None:
    with nodes.two_nodes(Figures(latency_ms=1.0), most_bytes=1) as two:
        remote = two.here.of("there")
        assert remote.address != two.there.local.address
        remote.run(lambda client: client.set("a", "1"))
        assert two.there.local.run(lambda client: client.get("a")) == b"1"
        assert two.there.local.run(lambda client: client.config_get("appendonly")) == {"appendonly": "yes"}
        assert two.here.local.run(lambda client: client.dbsize()) == 0
        two.flush()
        assert two.there.local.run(lambda client: client.dbsize()) == 0
        assert two.round_trip_ms(3) >= 2.0


def test_a_server_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_command(binary: Path, host: str, port: int, directory: Path) -> list[str]:
        directory.mkdir()
        return ["sh", "-c", "echo no room left; exit 1"]

    monkeypatch.setattr(nodes, "redis_command", failing_command)
    starting = nodes.two_nodes(Figures(), most_bytes=1)
    with pytest.raises(LabError, match=r"redis-here did not start: [^$]*no room left"), starting:
        pass


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    figures = {"sizes": {"1000000": FIGURES}}
    asked: list[Any] = []

    def measure(sizes: tuple[int, ...], setup: handover.Setup, **_: Any) -> tuple[Mapping[str, Any], list[Any]]:
        asked.extend([sizes, setup])
        return figures, []

    monkeypatch.setattr(handover, "measure", measure)
    ran = CliRunner().invoke(cli, ["bench", "handover", "--sizes", "1000000, 7", *(["--json"] if as_json else [])])
    assert ran.exit_code == 0
    assert asked == [(1_000_000, 7), handover.DEFAULT]
    if as_json:
        assert json.loads(ran.stdout) == figures
    else:
        row = next(line for line in ran.stdout.splitlines() if line.strip().startswith("1,000,000"))
        assert row.split() == ["1,000,000", "1,001,332", "41", "23.2", "41.6", "232.0", "10.0", "0", "of", "288"]


def test_a_lost_write_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {"sizes": {"10000": {**FIGURES, "writes_lost": 2}}}
    monkeypatch.setattr(handover, "measure", lambda *_, **__: (lost, []))
    ran = CliRunner().invoke(cli, ["bench", "handover", "--json"])
    assert json.loads(ran.stdout)["sizes"]["10000"]["writes_lost"] == 2
    assert isinstance(ran.exception, LabError)
    assert "2 acknowledged writes" in str(ran.exception)


@pytest.mark.parametrize("sizes", ["", "0", "-5", "10KB", "1,,2"])
def test_sizes_are_numbers_of_bytes(sizes: str) -> None:
    ran = CliRunner().invoke(cli, ["bench", "handover", "--sizes", sizes])
    assert ran.exit_code == 2
    assert "expected bytes such as" in ran.stderr
