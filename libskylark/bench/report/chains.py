"""Figures of the workflow of four stages, as `skylark bench workflow` keeps them, and the names of its policies."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from pydantic import Field, model_validator

from libskylark.bench.report.section import Figures, Interval, Rows

OURS: Final = "skylark"
ORIGINAL: Final = "original"
#: What state is always stored at the chain's destination by: our policy of that name, and the original's.
STATELESS: Final = {"stateless": "Stateless", "original-stateless": "the original's Stateless"}


class Unended(Rows):
    """A policy at a size of which no run came to its end."""

    policy: str
    pinned: bool
    size_mb: float
    runs: int
    failed: int


class Run(Unended):
    """Medians of one policy at one size; `violations_*` are sums over all `hand_overs`; `limit_ms` is 0 for none.

    `local_availability` is the share of reads that the reader's own store served, `local_at_once` of those that did
    not have to wait there for the push.
    """

    time_ms: float
    ci_ms: Interval
    coverage: float
    limit_ms: float
    objective_ms: float
    read_ms: float
    write_ms: float
    local_availability: float = Field(ge=0, le=1)
    local_at_once: float | None = Field(default=None, ge=0, le=1)
    hops: float
    bytes: float
    hand_overs: int
    violations_predicted: int
    violations_measured: int

    @property
    def can_keep_objective(self) -> bool:
        """False where the hand-overs of a chain cannot all be within the objective, however fast everything is."""
        return self.limit_ms <= self.objective_ms * self.hand_overs / max(1, self.runs - self.failed)


class WorkflowFigures(Figures):
    rows: tuple[Run, ...]
    unended: tuple[Unended, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, content: Any) -> Any:
        """Rows of which no run ended have no times."""
        rows = content.get("rows") if isinstance(content, Mapping) else None
        if not isinstance(rows, list):
            return content
        unended = [row for row in rows if isinstance(row, Mapping) and row.get("runs", 0) == row.get("failed")]
        return {**content, "rows": [row for row in rows if row not in unended], "unended": unended}

    def of(self, policy: str, pinned: bool) -> dict[float, Run]:
        """By size in MB."""
        found = (run for run in self.rows if run.policy == policy and run.pinned == pinned)
        return {run.size_mb: run for run in sorted(found, key=lambda run: run.size_mb)}

    @property
    def policies(self) -> list[str]:
        return ordered({run.policy for run in self.rows})

    @property
    def placements(self) -> list[bool]:
        return [pinned for pinned in (True, False) if any(run.pinned == pinned for run in self.rows)]


def ordered(policies: Set[str]) -> list[str]:
    """Ours first, so that a policy has one colour in all charts."""
    return sorted(policies, key=lambda policy: (policy != OURS, policy))
