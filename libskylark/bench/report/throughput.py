"""Many workflows at once: how many end each second, under each policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libskylark.bench.report.chains import OURS, STATELESS, ordered
from libskylark.bench.report.section import (
    Chart,
    Experiment,
    Figures,
    Goal,
    Interval,
    Panel,
    Rows,
    Series,
    Table,
    covering,
    number,
    unmeasured,
    with_interval,
)

_AT_ONCE, _TIMES = 50, 1.5


class Crowd(Rows):
    """So many workflows at once under one policy; no times where none of them ended."""

    policy: str
    workflows: int
    per_s: float
    ci_per_s: Interval
    coverage: float
    p50_ms: float | None
    p95_ms: float | None
    failed: int


class ThroughputFigures(Figures):
    rows: tuple[Crowd, ...]
    unpinned_rows: tuple[Crowd, ...] = ()
    size_mb: float

    @property
    def by_placement(self) -> dict[str, tuple[Crowd, ...]]:
        """Those that were measured."""
        both = {"pinned": self.rows, "unpinned": self.unpinned_rows}
        return {placement: crowds for placement, crowds in both.items() if crowds}


def _tables(figures: ThroughputFigures) -> list[Table]:
    head = ["at once", "policy", "workflows/s", "p50, ms", "p95, ms", "failed"]
    tables = []
    for placement, crowds in figures.by_placement.items():
        coverage = covering(min(crowd.coverage for crowd in crowds))
        rows = [
            [
                number(crowd.workflows),
                crowd.policy,
                with_interval(crowd.per_s, crowd.ci_per_s),
                *map(number, (crowd.p50_ms, crowd.p95_ms, crowd.failed)),
            ]
            for crowd in sorted(crowds, key=lambda crowd: crowd.workflows)
        ]
        caption = f"Chain {placement}, {number(figures.size_mb)} MB each: workflows that end per second{coverage}"
        tables.append(Table(caption, head, rows))
    return tables


def _goals(figures: ThroughputFigures) -> list[Goal]:
    return [
        _against(crowds, placement, baseline)
        for placement, crowds in figures.by_placement.items()
        for baseline in STATELESS
        if any(crowd.policy == baseline for crowd in crowds)
    ]


def _against(crowds: Sequence[Crowd], placement: str, baseline: str) -> Goal:
    text = f"{placement}, {_AT_ONCE} at once: at least {_TIMES} times the workflows per second of {STATELESS[baseline]}"
    per_s = {crowd.policy: crowd.per_s for crowd in crowds if crowd.workflows == _AT_ONCE}
    if not {OURS, baseline} <= per_s.keys():
        return unmeasured(text)
    figure = f"{number(per_s[OURS])} against {number(per_s[baseline])} per second"
    if not per_s[baseline]:
        return Goal(text, figure, per_s[OURS] > 0)
    times = per_s[OURS] / per_s[baseline]
    return Goal(text, f"{times:.2f} times ({figure})", times >= _TIMES)


def _charts(figures: ThroughputFigures) -> list[Chart]:
    policies = ordered({crowd.policy for crowds in figures.by_placement.values() for crowd in crowds})
    rates, times = list[Panel](), list[Panel]()
    for placement, crowds in figures.by_placement.items():
        by_policy = {policy: [crowd for crowd in crowds if crowd.policy == policy] for policy in policies}
        rate = [
            Series(policy, [at.workflows for at in found], [at.per_s for at in found], [at.ci_per_s for at in found])
            for policy, found in by_policy.items()
        ]
        time = [
            Series(policy, [at.workflows for at in found if at.p95_ms], [at.p95_ms for at in found if at.p95_ms])
            for policy, found in by_policy.items()
        ]
        rates.append(Panel(f"Chain {placement}", "workflows at once", "workflows ended per second", rate))
        times.append(Panel(f"Chain {placement}", "workflows at once", "95th percentile of time, ms", time))
    return [
        Chart("throughput", "Workflows that end per second, over the number at once, for each policy.", rates),
        Chart("throughput-time", "Time that 95 % of workflows stay below, over the number at once.", times),
    ]


THROUGHPUT: Final = Experiment(
    "throughput",
    "Many workflows at once",
    "How many workflows end each second while 5 to 50 of them share the links?",
    ThroughputFigures,
    _tables,
    _charts,
    _goals,
)
