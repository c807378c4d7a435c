"""Moves as the page shows them: which there were, between whom, and what JSON can say of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from libskylark.dashboard.moves import Moves
from libskylark.jobs import MoveRecord

PUSH = MoveRecord(
    kind="state",
    what="chain:there:task",
    source="here",
    target="there",
    policy="skylark",
    size_bytes=400,
    sent_bytes=100,
    hops=1,
    predicted_ms=math.inf,
    measured_ms=5.0,
    objective_ms=1.0,
    met=False,
    refused=(("far", "too slow"),),
    finished_s=1.0,
)
HANDOVER = replace(PUSH, kind="memory", what="detect:area-1", target="far", objective_ms=None, met=None, finished_s=2.0)


def test_moves_are_counted_by_what_was_moved_and_kept_the_latest_first() -> None:
    moves = Moves()
    for record in (PUSH, HANDOVER, replace(HANDOVER, finished_s=3.0)):
        moves.add(record)
    assert moves.counters == {"handovers": 2, "pushes": 1, "violations": 1}
    assert [move["finished_s"] for move in moves.handovers()] == [3.0, 2.0]
    assert [move["finished_s"] for move in moves.of("here")] == [3.0, 2.0, 1.0]
    assert [move["kind"] for move in moves.of("there")] == ["state"]
    assert moves.of("nowhere") == []


def test_a_move_is_json_without_infinity() -> None:
    move = json.loads(json.dumps(Moves().add(PUSH), allow_nan=False))
    assert (move["id"], move["predicted_ms"]) == ("here chain:there:task 1.000000", None)
    assert move["refused"] == [{"node": "far", "reason": "too slow"}]


def test_of_each_kind_the_last_sixty_are_kept_and_all_are_counted() -> None:
    moves = Moves()
    for number in range(70):
        moves.add(replace(HANDOVER, finished_s=float(number)))
    assert [move["finished_s"] for move in moves.handovers()] == [float(number) for number in range(69, 9, -1)]
    assert moves.counters["handovers"] == 70
