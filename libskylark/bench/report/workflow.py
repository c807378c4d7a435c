"""The workflow of four stages, one at a time: policies and baselines of one run side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from libskylark.bench.report.chains import ORIGINAL, OURS, STATELESS, Run, Unended, WorkflowFigures
from libskylark.bench.report.section import (
    Chart,
    Experiment,
    Goal,
    Panel,
    Series,
    Table,
    covering,
    number,
    percent,
    unmeasured,
    with_interval,
)

_PINNED: Final = {True: "pinned", False: "unpinned"}
_LOCAL: Final = {True: 0.79, False: 0.95}
_BEST, _EVERY = 66, 50  # per cent below Stateless
_FROM_MB: Final = 1
_NEAR_LIMIT: Final = 1.15
_NEAR_LIMIT_FROM_MB: Final = 5


def _tables(figures: WorkflowFigures) -> list[Table]:
    head = ["MB", "policy", "time, ms", "times the limit", "read, ms", "write, ms", "local", "at once", "hops"]
    head += ["MB over links", "violations predicted", "measured"]
    tables = []
    for pinned in figures.placements:
        runs = [run for policy in figures.policies for run in figures.of(policy, pinned).values()]
        rows = [(run.size_mb, _row(run)) for run in runs]
        rows += [(none.size_mb, _unended(none, len(head))) for none in figures.unended if none.pinned == pinned]
        coverage = covering(min(run.coverage for run in runs))
        caption = f"Chain {_PINNED[pinned]}: medians{coverage}; violations of all hand-overs"
        tables.append(Table(caption, head, [cells for _, cells in sorted(rows, key=lambda row: row[0])]))
    return tables


def _row(run: Run) -> list[str]:
    return [
        number(run.size_mb),
        run.policy,
        with_interval(run.time_ms, run.ci_ms),
        f"{run.time_ms / run.limit_ms:.2f}" if run.limit_ms else number(None),
        *map(number, (run.read_ms, run.write_ms)),
        percent(run.local_availability),
        number(None) if run.local_at_once is None else percent(run.local_at_once),
        number(run.hops),
        number(run.bytes / 1e6),
        f"{run.violations_predicted} of {run.hand_overs}",
        f"{run.violations_measured} of {run.hand_overs}",
    ]


def _unended(none: Unended, columns: int) -> list[str]:
    return [number(none.size_mb), none.policy, f"none of {none.runs} ended", *[number(None)] * (columns - 3)]


def _goals(figures: WorkflowFigures) -> list[Goal]:
    goals = []
    for pinned in figures.placements:
        for baseline in STATELESS:
            if figures.of(baseline, pinned):
                goals += _against_stateless(figures, pinned, baseline)
        if figures.of(ORIGINAL, pinned):
            goals.append(_against_original(figures, pinned))
        if any(run.limit_ms for run in figures.of(OURS, pinned).values()):
            goals.append(_near_limit(figures, pinned))
        goals += [_local(figures, pinned), _violations(figures, pinned)]
    return [*goals, _ended(figures)]


def _against_stateless(figures: WorkflowFigures, pinned: bool, baseline: str) -> list[Goal]:
    lower = {
        size_mb: 100 * (1 - time_ms / base_ms)
        for size_mb, time_ms, base_ms in _paired(figures, pinned, baseline, lambda run: run.time_ms)
        if size_mb >= _FROM_MB
    }
    chain, name = _PINNED[pinned], STATELESS[baseline]
    best = f"{chain}: end-to-end time at least {_BEST} % below {name} at the best size"
    every = f"{chain}: at least {_EVERY} % below {name} at every size from {_FROM_MB} MB up"
    if not lower:
        return [unmeasured(best), unmeasured(every)]
    most, least = max(lower, key=lower.__getitem__), min(lower, key=lower.__getitem__)
    return [
        Goal(best, f"{lower[most]:.1f} % at {number(most)} MB", lower[most] >= _BEST),
        Goal(every, f"{lower[least]:.1f} % at {number(least)} MB, the least", lower[least] >= _EVERY),
    ]


def _against_original(figures: WorkflowFigures, pinned: bool) -> Goal:
    text = f"{_PINNED[pinned]}: faster than the original at every size"
    times = {
        size_mb: base_ms / time_ms
        for size_mb, time_ms, base_ms in _paired(figures, pinned, ORIGINAL, lambda run: run.time_ms)
    }
    if not times:
        return unmeasured(text)
    told = ", ".join(f"{factor:.2f} at {number(size_mb)} MB" for size_mb, factor in times.items())
    return Goal(text, f"times as fast: {told}", min(times.values()) > 1)


def _near_limit(figures: WorkflowFigures, pinned: bool) -> Goal:
    text = f"{_PINNED[pinned]}: at most {_NEAR_LIMIT} times the physical limit from {_NEAR_LIMIT_FROM_MB} MB up"
    times = {
        size_mb: run.time_ms / run.limit_ms
        for size_mb, run in figures.of(OURS, pinned).items()
        if size_mb >= _NEAR_LIMIT_FROM_MB and run.limit_ms
    }
    if not times:
        return unmeasured(text)
    worst = max(times, key=times.__getitem__)
    return Goal(text, f"{times[worst]:.2f} at {number(worst)} MB, the most", times[worst] <= _NEAR_LIMIT)


def _local(figures: WorkflowFigures, pinned: bool) -> Goal:
    text = f"{_PINNED[pinned]}: at least {percent(_LOCAL[pinned])} of reads local, over all sizes"
    runs = list(figures.of(OURS, pinned).values())
    if not runs:
        return unmeasured(text)
    shares = [run.local_availability for run in runs]
    mean, told = statistics.fmean(shares), f"least: {percent(min(shares))}"
    if at_once := [run.local_at_once for run in runs if run.local_at_once is not None]:
        told += f"; there when the event came: {percent(statistics.fmean(at_once))}"
    return Goal(text, f"{percent(mean)} ({told})", mean >= _LOCAL[pinned])


def _violations(figures: WorkflowFigures, pinned: bool) -> Goal:
    text = f"{_PINNED[pinned]}: no measured violation of the objective where the physical limit allows none"
    runs = figures.of(OURS, pinned)
    if not runs:
        return unmeasured(text)
    able = {size_mb: run for size_mb, run in runs.items() if run.can_keep_objective}
    told = [f"{run.violations_measured} of {run.hand_overs} at {number(mb)} MB" for mb, run in able.items()]
    if unable := [number(size_mb) for size_mb in runs if size_mb not in able]:
        told.append(f"the limit itself is above the objective at {', '.join(unable)} MB")
    met = all(not run.violations_measured for run in able.values()) if able else None
    return Goal(text, "; ".join(told), met)


def _ended(figures: WorkflowFigures) -> Goal:
    ours = [run for run in (*figures.rows, *figures.unended) if run.policy == OURS]
    failed, runs = sum(run.failed for run in ours), sum(run.runs for run in ours)
    return Goal("every chain ends", f"{failed} of {runs} did not", failed == 0 if runs else None)


def _paired(
    figures: WorkflowFigures, pinned: bool, baseline: str, of: Callable[[Run], float]
) -> list[tuple[float, float, float]]:
    """Size in MB, ours, the baseline's, of each size that both have."""
    ours, theirs = figures.of(OURS, pinned), figures.of(baseline, pinned)
    return [(size_mb, of(run), of(theirs[size_mb])) for size_mb, run in ours.items() if size_mb in theirs]


def _charts(name: str, figures: WorkflowFigures) -> list[Chart]:
    return [
        Chart(
            name,
            "End-to-end time over the size of the state, for each policy, beside the physical limit of the route.",
            [_time_panel(figures, pinned) for pinned in figures.placements],
        ),
        Chart(
            f"{name}-local",
            "Share of reads of state that their own node served, over the size of the state, for each policy.",
            [_local_panel(figures, pinned) for pinned in figures.placements],
        ),
    ]


def _time_panel(figures: WorkflowFigures, pinned: bool) -> Panel:
    series = []
    for policy in figures.policies:
        runs = list(figures.of(policy, pinned).values())
        times_ms = [run.time_ms for run in runs]
        series.append(Series(policy, [run.size_mb for run in runs], times_ms, [run.ci_ms for run in runs]))
    limits = [run for run in figures.of(OURS, pinned).values() if run.limit_ms]
    limit = Series("physical limit", [run.size_mb for run in limits], [run.limit_ms for run in limits], style="limit")
    title = f"Chain {_PINNED[pinned]}"
    return Panel(title, "state, MB", "end-to-end time, ms", [*series, limit], log_x=True, log_y=True)


def _local_panel(figures: WorkflowFigures, pinned: bool) -> Panel:
    series = []
    for policy in figures.policies:
        runs = list(figures.of(policy, pinned).values())
        series.append(Series(policy, [run.size_mb for run in runs], [100 * run.local_availability for run in runs]))
    sizes = sorted({run.size_mb for run in figures.rows if run.pinned == pinned})
    goal = Series("goal", sizes, [100 * _LOCAL[pinned]] * len(sizes), style="limit")
    return Panel(f"Chain {_PINNED[pinned]}", "state, MB", "local reads, %", [*series, goal], log_x=True)


def _experiment(name: str, title: str, question: str, **how: Any) -> Experiment[WorkflowFigures]:
    return Experiment(name, title, question, WorkflowFigures, _tables, partial(_charts, name), _goals, **how)


WORKFLOW: Final = _experiment(
    "workflow",
    "One workflow of four stages",
    "How long does a chain of four stages take from its first event to its last, where its stages are pinned to nodes "
    "and where the successor is elected, and how near is that to what the links allow?",
)
LINE: Final = _experiment(
    "workflow-line",
    "The workflow on the original's line",
    "What becomes of the comparison where the satellites are a line and their links as slow as the original's, so that "
    "the original's election takes nodes on the chain's own path?",
    bench="workflow",
    options={"constellation": Path("benchmarks/line/constellation.yaml")},
)
