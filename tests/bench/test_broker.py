"""The measurement of the broker, shortened: real gunicorn, real Redis, real sender and subscriber."""

from __future__ import annotations

import json
import socket
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import broker
from libskylark.bench.load import Load, Passage
from libskylark.bench.results import Results
from libskylark.bench.traffic import traffic
from libskylark.cli.main import cli
from libskylark.errors import LabError

FIGURES: dict[str, Any] = {
    "runs": [{"concurrency": 64, "events_per_s": 4012.3, "p50_ms": 15.5, "p99_ms": 20.25, "cpu_us_per_event": 240.4}],
    "paced": {"rate": 200.0, "p50_ms": 0.8, "p99_ms": 1.4},
    "rss_mib": 66.4,
    "by_triggers": {"1": 240.1, "100": 241.6, "1000": 243.2},
    "lost": 0,
}
RAW = [{**FIGURES["runs"][0], "events_per_s": per_s} for per_s in (3900.0, 4012.3, 4100.0)]


def test_every_run_has_every_figure_and_no_event_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CONCURRENCIES", (1, 8))
    monkeypatch.setattr(broker, "TRIGGERS", (1, 3))
    monkeypatch.setattr(broker, "_WARM_UP_S", 0.1)
    seen: list[str] = []
    figures, raw = broker.measure(0.6, progress=seen.append)
    a_round = ["1 at once", "8 at once", "200 events a second"]
    assert seen[:9] == [f"{what}, round {number} of 3" for number in (1, 2, 3) for what in a_round]
    assert seen[9:] == [*["1 Triggers"] * 3, *["3 Triggers"] * 3]
    assert len(raw) == len(seen)
    for run, spread in zip(figures["runs"], broker.ranges(raw), strict=True):
        single = [found for found in raw if found.get("concurrency") == run["concurrency"]]
        for name in run.keys() - {"concurrency"}:
            assert sorted(found[name] for found in single) == [spread[name][0], run[name], spread[name][1]]
    assert figures.keys() == FIGURES.keys()
    assert [run["concurrency"] for run in figures["runs"]] == [1, 8]
    for run in figures["runs"]:
        assert run.keys() == FIGURES["runs"][0].keys()
        assert all(figure > 0 for figure in run.values())
        assert run["p50_ms"] <= run["p99_ms"]
    assert figures["paced"]["rate"] == 200.0
    assert 0 < figures["paced"]["p50_ms"] <= figures["paced"]["p99_ms"]
    assert figures["rss_mib"] > 0
    assert list(figures["by_triggers"]) == ["1", "3"]
    assert all(cpu_us > 0 for cpu_us in figures["by_triggers"].values())
    assert figures["lost"] == 0
    assert json.loads(json.dumps(figures)) == figures


def test_percentiles_are_of_sorted_times() -> None:
    passage = Passage(100, 100, 0, 2.0, array("d", range(100)))
    assert (passage.events_per_s, passage.percentile_ms(0.5), passage.percentile_ms(0.99)) == (50.0, 50.0, 99.0)
    assert Passage(1, 1, 0, 1.0, array("d", [7.0])).percentile_ms(0.99) == 7.0


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n\r\n", "did not take an event: HTTP/1.1 429"),
        (b"", "did not take an event: a connection was lost"),
        (b"HTTP/1.1 202 Accepted\r\n\r\n", "none of 1 accepted events was delivered"),
    ],
)
def test_a_broker_that_does_not_work_is_told(answer: bytes, fault: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, traffic() as measured:

        def serve() -> None:
            sender, _ = listener.accept()
            with sender:
                sender.recv(4096)
                sender.sendall(answer)
                while answer and sender.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(LabError, match=fault):
            measured.run(Load(0.1, stragglers_s=0.1), listener.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool) -> None:
    asked: list[float] = []

    def measure(seconds: float, **_: Any) -> Any:
        asked.append(seconds)
        return FIGURES, RAW

    monkeypatch.setattr(broker, "measure", measure)
    command = ["bench", "broker", "--seconds", "2", "--results", str(tmp_path), *(["--json"] if as_json else [])]
    ran = CliRunner().invoke(cli, command)
    assert ran.exit_code == 0
    assert asked == [2.0]
    assert Results(tmp_path).read_raw("broker") == RAW
    kept = json.loads((tmp_path / "broker.json").read_text())
    assert kept["ranges"][0]["events_per_s"] == [3900.0, 4100.0]
    assert (tmp_path / "broker.csv").is_file()
    if as_json:
        assert json.loads(ran.stdout) == FIGURES
    else:
        rows = [line.split() for line in ran.stdout.splitlines()]
        assert ["64", "4,012", "15.50", "20.25", "240"] in rows
        assert ["paced", "200", "0.80", "1.40"] in rows
        assert "240 with 1, 242 with 100, 243 with 1,000" in ran.stdout


def test_a_lost_event_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "measure", lambda *_, **__: ({**FIGURES, "lost": 3}, []))
    ran = CliRunner().invoke(cli, ["bench", "broker", "--json"])
    assert json.loads(ran.stdout)["lost"] == 3
    assert isinstance(ran.exception, LabError)
    assert "3 events were accepted and not delivered" in str(ran.exception)
