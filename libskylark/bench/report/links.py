"""How true emulated links are: latency, jitter and rates as asked and as measured, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from libskylark.bench.report.section import Chart, Experiment, Figures, Goal, Panel, Rows, Series, Table, number

#: What ran beside the link, by `load`.
_BESIDE: Final = {"idle": "nothing", "loaded": "busy processes"}


class Latency(Rows):
    """`direct_ms` is the same measurement past the relay."""

    kind: Literal["latency"]
    load: Literal["idle", "loaded"]
    asked_ms: float
    measured_ms: float
    error_ms: float
    p99_ms: float
    round_trip_ms: float
    set_up_ms: float
    direct_ms: float
    met: bool


class Jitter(Rows):
    """Spreads are from the 5th to the 95th percentile."""

    kind: Literal["jitter"]
    load: Literal["idle", "loaded"]
    latency_ms: float
    asked_ms: float
    spread_ms: float
    true_spread_ms: float
    least_ms: float
    most_ms: float


class Rate(Rows):
    """Of so many flows together."""

    kind: Literal["rate"]
    load: Literal["idle", "loaded"]
    flows: int
    asked_mbps: float
    measured_mbps: float
    error_percent: float
    share_error_percent: float
    cpu_ms_per_mb: float
    met: bool


class Ceiling(Rows):
    """One flow, faster and faster."""

    kind: Literal["ceiling"]
    load: Literal["idle", "loaded"]
    asked_mbps: float
    measured_mbps: float
    error_percent: float
    cpu_ms_per_mb: float
    met: bool


class LinkGoals(Rows):
    latency_error_ms: float
    rate_error_percent: float


class LinkFigures(Figures):
    goals: LinkGoals
    runs: int
    rows: tuple[Annotated[Latency | Jitter | Rate | Ceiling, Field(discriminator="kind")], ...]
    ceiling_mbps: float | None

    def of(self, kind: type[Any]) -> list[Any]:
        return [row for row in self.rows if isinstance(row, kind)]


def _tables(figures: LinkFigures) -> list[Table]:
    return [
        _latencies(figures.of(Latency), figures.runs),
        _jitters(figures.of(Jitter)),
        _rates(figures.of(Rate)),
        _ceilings(figures.of(Ceiling)),
    ]


def _latencies(rows: Sequence[Latency], runs: int) -> Table:
    head = ["beside it", "asked", "measured, median", "error", "99th percentile", "round trip", "set-up"]
    cells = [
        [
            _BESIDE[row.load],
            *map(number, (row.asked_ms, row.measured_ms, row.error_ms, row.p99_ms, row.round_trip_ms, row.set_up_ms)),
            number(row.direct_ms),
        ]
        for row in rows
    ]
    return Table(f"Latency one way, ms, medians of {runs} runs", [*head, "past the relay"], cells)


def _jitters(rows: Sequence[Jitter]) -> Table:
    head = ["beside it", "latency", "asked", "spread", "true spread", "least", "most"]
    cells = [
        [
            _BESIDE[row.load],
            *map(number, (row.latency_ms, row.asked_ms, row.spread_ms, row.true_spread_ms, row.least_ms, row.most_ms)),
        ]
        for row in rows
    ]
    return Table("Jitter, ms: spread from the 5th to the 95th percentile", head, cells)


def _rates(rows: Sequence[Rate]) -> Table:
    head = ["beside it", "asked, Mbit/s", "flows", "measured, Mbit/s", "error", "of the worst share", "CPU, ms per MB"]
    cells = [
        [
            _BESIDE[row.load],
            *map(number, (row.asked_mbps, row.flows, row.measured_mbps)),
            *(f"{error:+.1f} %" for error in (row.error_percent, row.share_error_percent)),
            number(row.cpu_ms_per_mb),
        ]
        for row in rows
    ]
    return Table("Rate of all flows over one link", head, cells)


def _ceilings(rows: Sequence[Ceiling]) -> Table:
    head = ["beside it", "asked, Mbit/s", "measured, Mbit/s", "error", "CPU, ms per MB"]
    cells = [
        [
            _BESIDE[row.load],
            *map(number, (row.asked_mbps, row.measured_mbps)),
            f"{row.error_percent:+.1f} %",
            number(row.cpu_ms_per_mb),
        ]
        for row in rows
    ]
    return Table("One flow, faster and faster", head, cells)


def _goals(figures: LinkFigures) -> list[Goal]:
    goals = list[Goal]()
    with_load = "" if figures.setting is None else f" (load {figures.setting.load_average:g} before)"
    for load, beside in _BESIDE.items():
        latencies = [row for row in figures.of(Latency) if row.load == load]
        rates = [row for row in figures.of(Rate) if row.load == load]
        asked = " and ".join(number(row.asked_ms) for row in latencies)
        errors = ", ".join(f"{row.error_ms:+.3f} ms at {number(row.asked_ms)} ms" for row in latencies)
        text = f"beside {beside}{with_load}: latency within {figures.goals.latency_error_ms:g} ms at {asked} ms"
        goals.append(Goal(text, errors, all(row.met for row in latencies) if latencies else None))
        worst = max(rates, key=lambda row: max(abs(row.error_percent), abs(row.share_error_percent)), default=None)
        text = f"beside {beside}{with_load}: rates within {figures.goals.rate_error_percent:g} %, each flow its share"
        figure = f"{worst.error_percent:+.1f} %, worst share {worst.share_error_percent:+.1f} %" if worst else ""
        if worst:
            figure += f" ({worst.flows} at {number(worst.asked_mbps)} Mbit/s, the furthest off)"
        goals.append(Goal(text, figure, all(row.met for row in rates) if rates else None))
    return goals


def _charts(figures: LinkFigures) -> list[Chart]:
    latencies: Sequence[Latency] = figures.of(Latency)
    ceilings: Sequence[Ceiling] = figures.of(Ceiling)
    errors = Series("error", range(len(latencies)), [row.error_ms for row in latencies])
    labels = [f"{number(row.asked_ms)} ms, beside {_BESIDE[row.load]}" for row in latencies]
    asked = [row.asked_mbps for row in ceilings]
    rate = Series("one flow", asked, [row.measured_mbps for row in ceilings])
    true = Series("as asked", asked, asked, style="limit")
    panels = [
        Panel("Latency", "measured less asked, ms", "", [errors], bars=labels),
        Panel("Ceiling", "asked, Mbit/s", "measured, Mbit/s", [rate, true], log_x=True, log_y=True),
    ]
    alt = "How far measured latency is from what was asked; and the rate of one flow over the rate that was asked."
    return [Chart("links", alt, panels)]


LINKS: Final = Experiment(
    "links",
    "Emulated links",
    "How near do emulated links come to the latency, jitter and rate that they are asked for, by themselves and "
    "beside busy processes, what do they cost, and what is the fastest link that can be emulated?",
    LinkFigures,
    _tables,
    _charts,
    _goals,
)
