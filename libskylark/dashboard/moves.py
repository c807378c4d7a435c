"""Moves of memory and state between nodes: the last ones as the page shows them, and how many there were."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

from libskylark.jobs import MoveRecord

_MOST_KEPT: Final = 60  # of memory, and as many of state


class Moves:
    """Not safe for several threads. A move of memory is a handover, one of state a push."""

    def __init__(self) -> None:
        self._handovers: deque[dict[str, Any]] = deque(maxlen=_MOST_KEPT)
        self._pushes: deque[dict[str, Any]] = deque(maxlen=_MOST_KEPT)
        self.counters = {"handovers": 0, "pushes": 0, "violations": 0}

    def add(self, record: MoveRecord) -> dict[str, Any]:
        """The move as JSON has it."""
        move = _move_json(record)
        is_memory = record.kind == "memory"
        (self._handovers if is_memory else self._pushes).append(move)
        self.counters["handovers" if is_memory else "pushes"] += 1
        self.counters["violations"] += record.met is False
        return move

    def handovers(self) -> list[dict[str, Any]]:
        """The last ones, the latest first."""
        return sorted(self._handovers, key=_finished_s, reverse=True)

    def of(self, node: str) -> list[dict[str, Any]]:
        """The last moves from a node or to it, the latest first."""
        found = [move for move in [*self._handovers, *self._pushes] if node in (move["source"], move["target"])]
        return sorted(found, key=_finished_s, reverse=True)


def _finished_s(move: dict[str, Any]) -> float:
    return float(move["finished_s"])


def _move_json(record: MoveRecord) -> dict[str, Any]:
    """The record, but that JSON has no infinity; with an id by which it is known again."""
    return {
        "id": f"{record.source} {record.what} {record.finished_s:.6f}",
        **vars(record),
        "predicted_ms": record.predicted_ms if math.isfinite(record.predicted_ms) else None,
        "refused": [{"node": node, "reason": reason} for node, reason in record.refused],
    }
