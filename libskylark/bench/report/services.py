"""The parts of a node by themselves: election, and the start of each role."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from libskylark.bench.election import ORIGINAL_MS
from libskylark.bench.report.section import (
    OF_ROUNDS,
    Chart,
    Experiment,
    Figures,
    Goal,
    Interval,
    Panel,
    Rows,
    Series,
    Table,
    medians_of,
    number,
    with_interval,
    with_ranges,
)

_ANSWER_US, _TABLE_MS, _TABLE_NODES = 10.0, 30.0, 10_000


class Elected(Rows):
    """Medians in a constellation of one size."""

    recompute_ms: float
    answer_us: float
    http_ms: float
    peak_mib: float


class ElectedRange(Rows):
    """From the least to the most of the rounds' medians."""

    recompute_ms: Interval
    answer_us: Interval
    http_ms: Interval


class ElectionFigures(Figures):
    sizes: dict[int, Elected]
    ranges: dict[int, ElectedRange] = Field(default_factory=dict)


def _election_tables(figures: ElectionFigures) -> list[Table]:
    head = ["nodes", "table, ms", "answer, us", "answer over HTTP, ms", "peak, MiB", "original, one query, us"]
    rows = [
        [
            number(nodes),
            *with_ranges(elected, figures.ranges.get(nodes), ("recompute_ms", "answer_us", "http_ms")),
            number(elected.peak_mib),
            number(ORIGINAL_MS[nodes] * 1000 if nodes in ORIGINAL_MS else None),
        ]
        for nodes, elected in figures.sizes.items()
    ]
    return [Table(f"Medians{OF_ROUNDS if figures.ranges else ''}", head, rows)]


def _election_goals(figures: ElectionFigures) -> list[Goal]:
    slowest = max(figures.sizes, key=lambda nodes: figures.sizes[nodes].answer_us)
    answer_us = figures.sizes[slowest].answer_us
    answered = Goal(
        f"an answer in at most {_ANSWER_US:g} us at every size",
        f"{number(answer_us)} us at {slowest:,} nodes, the most",
        answer_us <= _ANSWER_US,
    )
    table = figures.sizes.get(_TABLE_NODES)
    text = f"a table of {_TABLE_NODES:,} nodes in at most {_TABLE_MS:g} ms"
    table_ms = table.recompute_ms if table else None
    return [answered, Goal(text, f"{number(table_ms)} ms", None if table_ms is None else table_ms <= _TABLE_MS)]


def _election_charts(figures: ElectionFigures) -> list[Chart]:
    nodes = sorted(figures.sizes)
    answers_us = [figures.sizes[size].answer_us for size in nodes]
    known = [size for size in nodes if size in ORIGINAL_MS]
    original = Series("original, one query", known, [ORIGINAL_MS[size] * 1000 for size in known])
    tables_us = [figures.sizes[size].recompute_ms * 1000 for size in nodes]
    series = [Series("skylark, one answer", nodes, answers_us), original, Series("skylark, table", nodes, tables_us)]
    alt = "Time of an answer, of the original's query, and of an epoch's table, over the number of nodes."
    panel = Panel("", "nodes", "time, us", series, log_x=True, log_y=True)
    return [Chart("election", alt, [panel])]


ELECTION: Final = Experiment(
    "election",
    "Election",
    "How long does it take to elect the node for a state, in constellations of 10 to 10,000 satellites?",
    ElectionFigures,
    _election_tables,
    _election_charts,
    _election_goals,
)


class Started(Rows):
    """One role: from its command to its first answer."""

    ready_ms: float
    ci_ready_ms: Interval | None = None
    slowest_ms: float
    rss_mib: float


class StartFigures(Figures):
    runs: int
    roles: dict[str, Started]


def _start_tables(figures: StartFigures) -> list[Table]:
    rows = [
        [role, with_interval(at.ready_ms, at.ci_ready_ms), *map(number, (at.slowest_ms, at.rss_mib))]
        for role, at in figures.roles.items()
    ]
    return [
        Table(
            medians_of(figures.runs, figures.runs).capitalize(),
            ["role", "ready, ms", "slowest, ms", "resident, MiB"],
            rows,
        )
    ]


def _start_charts(figures: StartFigures) -> list[Chart]:
    started = list(figures.roles.values())
    places = list(range(len(started)))
    series = Series("median", places, [at.ready_ms for at in started], [at.ci_ready_ms for at in started])
    panel = Panel("", "from the command to the first answer, ms", "", [series], bars=list(figures.roles))
    return [Chart("start", "Time from the start of each role to its first answer.", [panel])]


START: Final = Experiment(
    "start",
    "Cold start",
    "How long does an event wait for a role that has to be started first?",
    StartFigures,
    _start_tables,
    _start_charts,
)
