"""Metrics: what is counted of moves and handovers, and that several processes answer as one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from libskylark.jobs import MoveRecord
from libskylark.metrics import FunctionMetrics, exposition, new_registry
from libskylark.policy import Candidate, Decision, Ladder, Terms
from libskylark.services.metrics import ElectMetrics
from libskylark.timing import Timing
from tests.conftest import ROOT


def move(kind: str, met: bool | None, **details: float) -> MoveRecord:
    return MoveRecord(
        kind=kind,  # type: ignore[arg-type]
        what="k",
        source="a",
        target="b",
        policy="skylark",
        size_bytes=2000,
        sent_bytes=1500,
        hops=1,
        predicted_ms=40.0,
        measured_ms=60.0,
        objective_ms=50.0,
        met=met,
        refused=(),
        finished_s=1.0,
        details=details,
    )


def test_a_move_is_counted_with_what_was_predicted_and_measured() -> None:
    registry = new_registry()
    metrics = ElectMetrics(registry, "here")
    for met in (True, False, False):
        metrics.note_move(move("state", met))
    metrics.note_move(move("memory", None, unwritable_ms=20.0))
    told = exposition(registry).decode()
    for line in (
        'skylark_moves_total{kind="state",node="here",objective="kept",policy="skylark"} 1.0',
        'skylark_moves_total{kind="state",node="here",objective="violated",policy="skylark"} 2.0',
        'skylark_moves_total{kind="memory",node="here",objective="none",policy="skylark"} 1.0',
        'skylark_moved_bytes_total{kind="state",node="here"} 4500.0',
        'skylark_move_predicted_seconds_bucket{kind="state",le="0.05",node="here"} 3.0',
        'skylark_move_measured_seconds_bucket{kind="state",le="0.05",node="here"} 0.0',
        'skylark_move_measured_seconds_bucket{kind="state",le="0.1",node="here"} 3.0',
        'skylark_handover_unwritable_seconds_count{node="here"} 1.0',
    ):
        assert line in told.splitlines()


def test_elections_and_what_was_refused_are_counted_by_policy() -> None:
    registry = new_registry()
    metrics = ElectMetrics(registry, "here")
    candidate = Candidate("a", "127.0.0.1", 0.0, None, 0)
    terms = Terms(0, 0.0, ())
    metrics.count_election(Decision("skylark", candidate, 0.0, terms, Ladder((candidate, candidate)), passed=1))
    metrics.count_election(Decision("random", candidate, 0.0, terms, Ladder((candidate,)), passed=0))
    told = exposition(registry).decode().splitlines()
    assert 'skylark_elections_total{node="here",policy="skylark"} 1.0' in told
    assert 'skylark_election_refusals_total{node="here",policy="skylark"} 1.0' in told
    assert 'skylark_election_refusals_total{node="here",policy="random"} 0.0' in told


def test_a_queue_that_is_empty_again_says_so() -> None:
    registry = new_registry()
    metrics = ElectMetrics(registry, "here")
    metrics.look(3, 1, {"b": 2})
    assert 'skylark_move_queue_jobs{node="here",target="b"} 2.0' in exposition(registry).decode()
    metrics.look(4, 0, {})
    told = exposition(registry).decode().splitlines()
    assert 'skylark_move_queue_jobs{node="here",target="b"} 0.0' in told
    assert 'skylark_epoch{node="here"} 4.0' in told


def test_round_trips_to_stores_are_told_by_what_and_where() -> None:
    metrics = FunctionMetrics("count", "here")
    metrics.count_unanswered()
    metrics.note_timings([Timing("state", 12.0, "remote", "b", 1000), Timing("commit", 1.0)])
    told = metrics.text().decode().splitlines()
    place = 'function="count",node="here",place="remote",what="state"'
    assert f"skylark_state_read_bytes_total{{{place}}} 1000.0" in told
    assert 'skylark_store_seconds_bucket{function="count",le="0.01",node="here",what="state"} 0.0' in told
    assert 'skylark_store_seconds_bucket{function="count",le="0.025",node="here",what="state"} 1.0' in told
    assert 'skylark_store_seconds_count{function="count",node="here",what="commit"} 1.0' in told
    assert 'skylark_elect_unanswered_events_total{function="count",node="here"} 1.0' in told


@pytest.mark.parametrize("shared", [True, False])
def test_processes_that_share_a_folder_answer_as_one(tmp_path: Path, shared: bool) -> None:
    script = (
        "from libskylark.metrics import FunctionMetrics\n"
        "metrics = FunctionMetrics('count', 'here')\n"
        "metrics.count_event('handled')\n"
        "print(metrics.text().decode())"
    )
    environment = {"PATH": "/usr/bin", **({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if shared else {})}
    told = [
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    count = 2 if shared else 1
    assert f'skylark_events_total{{function="count",node="here",outcome="handled"}} {count}.0' in told[1].splitlines()
