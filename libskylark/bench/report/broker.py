"""The broker by itself: events per second, their time, and what they cost, beside Knative's."""

from __future__ import annotations

from typing import Final

from pydantic import Field

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
    number,
    with_ranges,
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


class LoadRange(Rows):
    """From the least to the most of the rounds."""

    concurrency: int
    events_per_s: Interval
    p50_ms: Interval
    p99_ms: Interval
    cpu_us_per_event: Interval


class BrokerFigures(Figures):
    runs: list[Load]
    ranges: list[LoadRange] = Field(default_factory=list)
    paced: Paced
    rss_mib: float
    by_triggers: dict[int, float]
    lost: int


def _broker_tables(figures: BrokerFigures) -> list[Table]:
    head = ["at once", "events/s", "p50, ms", "p99, ms", "CPU, us per event"]
    spread = {found.concurrency: found for found in figures.ranges}
    rows = [_load_row(run, spread.get(run.concurrency)) for run in figures.runs]
    paced = figures.paced
    rows.append(
        [f"{paced.rate:g} a second", number(paced.rate), number(paced.p50_ms), number(paced.p99_ms), number(None)]
    )
    triggers = [[number(count), number(cpu_us)] for count, cpu_us in figures.by_triggers.items()]
    return [
        Table(f"Events of 1 KiB{OF_ROUNDS if spread else ''}", head, rows),
        Table("By Triggers, one of which takes the events", ["Triggers", "CPU, us per event"], triggers),
    ]


def _load_row(run: Load, spread: LoadRange | None) -> list[str]:
    names = ("events_per_s", "p50_ms", "p99_ms", "cpu_us_per_event")
    return [number(run.concurrency), *with_ranges(run, spread, names)]


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
    spread = {found.concurrency: found.events_per_s for found in figures.ranges}
    rates = [run.events_per_s for run in figures.runs]
    rate = Series("skylark", at_once, rates, [spread.get(concurrency) for concurrency in at_once])
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
