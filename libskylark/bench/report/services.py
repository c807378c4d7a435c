"""The parts of a node by themselves: election, broker, and the start of each role."""

from __future__ import annotations

from typing import Final

from libskylark.bench.election import ORIGINAL_MS
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
    number,
    with_interval,
)

_ANSWER_US, _TABLE_MS, _TABLE_NODES = 10.0, 30.0, 10_000


class Elected(Rows):
    """Medians in a constellation of one size."""

    recompute_ms: float
    answer_us: float
    http_ms: float
    peak_mib: float


class ElectionFigures(Figures):
    sizes: dict[int, Elected]


def _election_tables(figures: ElectionFigures) -> list[Table]:
    head = ["nodes", "table, ms", "answer, us", "answer over HTTP, ms", "peak, MiB", "original, one query, us"]
    rows = [
        [
            number(nodes),
            *map(number, (elected.recompute_ms, elected.answer_us, elected.http_ms, elected.peak_mib)),
            number(ORIGINAL_MS[nodes] * 1000 if nodes in ORIGINAL_MS else None),
        ]
        for nodes, elected in figures.sizes.items()
    ]
    return [Table("Medians", head, rows)]


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

#: Knative's broker on two such cores, not durable: events/s with 64 at once, from and to; ms at 200/s; MiB.
_KNATIVE_PER_S: Final = (1_200, 1_700)
_KNATIVE_P50_MS, _KNATIVE_P99_MS = 1.8, 6.0
_AT_ONCE, _TIMES, _MOST_MIB, _GROWTH = 64, 3, 80, 15


class Load(Rows):
    """So many events under way at all times."""

    concurrency: int
    events_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_event: float


class Paced(Rows):
    """So many events a second."""

    rate: float
    p50_ms: float
    p99_ms: float


class BrokerFigures(Figures):
    runs: list[Load]
    paced: Paced
    rss_mib: float
    by_triggers: dict[int, float]
    lost: int


def _broker_tables(figures: BrokerFigures) -> list[Table]:
    rows = [
        [
            number(run.concurrency),
            *map(number, (run.events_per_s, run.p50_ms, run.p99_ms, run.cpu_us_per_event)),
        ]
        for run in figures.runs
    ]
    paced = figures.paced
    rows.append(
        [f"{paced.rate:g} a second", number(paced.rate), number(paced.p50_ms), number(paced.p99_ms), number(None)]
    )
    triggers = [[number(count), number(cpu_us)] for count, cpu_us in figures.by_triggers.items()]
    return [
        Table("Events of 1 KiB", ["at once", "events/s", "p50, ms", "p99, ms", "CPU, us per event"], rows),
        Table("By Triggers, one of which takes the events", ["Triggers", "CPU, us per event"], triggers),
    ]


def _broker_goals(figures: BrokerFigures) -> list[Goal]:
    goals = []
    for run in figures.runs:
        if run.concurrency == _AT_ONCE:
            least, most = (run.events_per_s / per_s for per_s in reversed(_KNATIVE_PER_S))
            text = f"with {_AT_ONCE} at once, {_TIMES} times the events of Knative's broker ({_KNATIVE_PER_S[0]:,} to "
            text += f"{_KNATIVE_PER_S[1]:,} a second)"
            figure = f"{number(run.events_per_s)} a second: {least:.1f} to {most:.1f} times"
            goals.append(Goal(text, figure, least >= _TIMES))
    paced = figures.paced
    goals += [
        Goal(
            f"at {paced.rate:g} a second, p50 and p99 below Knative's {_KNATIVE_P50_MS:g} and {_KNATIVE_P99_MS:g} ms",
            f"{number(paced.p50_ms)} and {number(paced.p99_ms)} ms",
            paced.p50_ms < _KNATIVE_P50_MS and paced.p99_ms < _KNATIVE_P99_MS,
        ),
        Goal(f"under {_MOST_MIB} MiB", f"{number(figures.rss_mib)} MiB", figures.rss_mib < _MOST_MIB),
        Goal("no accepted event is lost", f"{figures.lost} lost", figures.lost == 0),
    ]
    fewest, most = min(figures.by_triggers), max(figures.by_triggers)
    growth = 100 * (figures.by_triggers[most] / figures.by_triggers[fewest] - 1)
    text = f"an event costs the same with {most:,} Triggers as with {fewest:,} (within {_GROWTH} %)"
    return [*goals, Goal(text, f"{growth:+.0f} %", growth <= _GROWTH)]


def _broker_charts(figures: BrokerFigures) -> list[Chart]:
    at_once = [run.concurrency for run in figures.runs]
    knative = [
        Series(f"Knative with {_AT_ONCE}, {word}", at_once, [per_s] * len(at_once), style="limit")
        for per_s, word in zip(_KNATIVE_PER_S, ("least", "most"), strict=True)
    ]
    rate = Series("skylark", at_once, [run.events_per_s for run in figures.runs])
    times = [
        Series("p50", at_once, [run.p50_ms for run in figures.runs]),
        Series("p99", at_once, [run.p99_ms for run in figures.runs]),
    ]
    panels = [
        Panel("Rate", "events at once", "events per second", [rate, *knative]),
        Panel("Time to the subscriber", "events at once", "time, ms", times),
    ]
    return [Chart("broker", "Events per second, and their time, over the number of events at once.", panels)]


BROKER: Final = Experiment(
    "broker",
    "Broker",
    "How many events does the broker pass, how long do they take, and what do they cost?",
    BrokerFigures,
    _broker_tables,
    _broker_charts,
    _broker_goals,
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
            f"Medians of {figures.runs} runs, with intervals in brackets",
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
