"""What libskylark adds to a bare Flask function, in time and in memory."""

from __future__ import annotations

from typing import Final

from libskylark.bench.report.section import (
    Chart,
    Experiment,
    Figures,
    Interval,
    Panel,
    Rows,
    Series,
    Table,
    covering,
    number,
    with_interval,
)
from libskylark.bench.statistics import coverage_of


class Kind(Rows):
    """One kind of function, in process and over HTTP; what is added is against the first kind, None for itself."""

    kind: str
    call_us: float
    ci_call_us: Interval
    http_us: float
    ci_http_us: Interval
    http_cpu_us: float
    rss_mib: float
    added_us: float | None
    added_http_us: float | None
    added_mib: float | None


class OverheadFigures(Figures):
    runs: int
    calls: int
    rows: tuple[Kind, ...]


def _tables(figures: OverheadFigures) -> list[Table]:
    head = ["function", "in process, us", "added", "over HTTP, us", "added", "CPU over HTTP, us", "MiB", "added"]
    rows = [
        [
            row.kind,
            with_interval(row.call_us, row.ci_call_us),
            number(row.added_us),
            with_interval(row.http_us, row.ci_http_us),
            *map(number, (row.added_http_us, row.http_cpu_us, row.rss_mib, row.added_mib)),
        ]
        for row in figures.rows
    ]
    worth = covering(coverage_of(figures.runs))
    caption = f"Per call: medians of {figures.runs} blocks of {figures.calls} calls{worth}"
    return [Table(caption, head, rows)]


def _charts(figures: OverheadFigures) -> list[Chart]:
    labels, places = [row.kind for row in figures.rows], range(len(figures.rows))
    call = Series("in process", places, [row.call_us for row in figures.rows], [row.ci_call_us for row in figures.rows])
    memory = Series("resident", places, [row.rss_mib for row in figures.rows])
    panels = [
        Panel("In process", "per call, us", "", [call], bars=labels),
        Panel("Memory", "resident, MiB", "", [memory], bars=labels),
    ]
    return [Chart("overhead", "Time per call and resident memory of each kind of function.", panels)]


OVERHEAD: Final = Experiment(
    "overhead",
    "What libskylark adds to a function",
    "How much slower and larger is a function made with libskylark than the same handler in bare Flask?",
    OverheadFigures,
    _tables,
    _charts,
)
