"""Functions fused in one process against each on its own: what that saves of the time to read and write state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

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
    medians_of,
    number,
    unmeasured,
    with_interval,
)

_PLACES: Final = {"local": "on the same node", "remote": "over the link"}
_REMOTE: Final = "remote"
_DEPTH, _SIZE_MB, _SAVING = 5, 1.0, 20.0


class Cell(Rows):
    """So many functions with state of one size each; `place` is where the state lies, "local" or "remote"."""

    place: Literal["local", "remote"]
    depth: int
    size_mb: float
    runs: int
    single_ms: float
    bundled_ms: float
    ci_single_ms: Interval
    ci_bundled_ms: Interval
    saving_percent: float
    ci_saving_percent: Interval


class Link(Rows):
    """What remote state passes."""

    latency_ms: float
    jitter_ms: float
    bandwidth_mbps: float

    def __str__(self) -> str:
        return f"{self.latency_ms:g} ms and up to {self.jitter_ms:g} more, {self.bandwidth_mbps:g} Mbit/s"


class FusionFigures(Figures):
    link: Link
    rows: list[Cell]

    @property
    def places(self) -> list[str]:
        return list(dict.fromkeys(cell.place for cell in self.rows))


def _tables(figures: FusionFigures) -> list[Table]:
    head = ["depth", "MB", "single, ms", "bundled, ms", "saved"]
    tables = []
    for place in figures.places:
        link = f" ({figures.link})" if place == _REMOTE else ""
        cells = _cells(figures, place)
        caption = f"Storage time of state {_PLACES[place]}{link}: {_medians(cells)}; savings with those of 95 %"
        tables.append(Table(caption, head, [_row(cell) for cell in cells]))
    return tables


def _medians(cells: Sequence[Cell]) -> str:
    runs = sorted({cell.runs for cell in cells})
    return medians_of(" to ".join(map(str, (runs if len(runs) == 1 else (runs[0], runs[-1])))), runs[0])


def _cells(figures: FusionFigures, place: str) -> list[Cell]:
    found = [cell for cell in figures.rows if cell.place == place]
    return sorted(found, key=lambda cell: (cell.depth, cell.size_mb))


def _row(cell: Cell) -> list[str]:
    return [
        number(cell.depth),
        number(cell.size_mb),
        with_interval(cell.single_ms, cell.ci_single_ms),
        with_interval(cell.bundled_ms, cell.ci_bundled_ms),
        f"{cell.saving_percent:.1f} % ({cell.ci_saving_percent[0]:.1f} to {cell.ci_saving_percent[1]:.1f})",
    ]


def _goals(figures: FusionFigures) -> list[Goal]:
    text = (
        f"depth {_DEPTH}, {_SIZE_MB:g} MB, state {_PLACES[_REMOTE]}: storage time at least {_SAVING:g} % below single"
    )
    for cell in figures.rows:
        if (cell.place, cell.depth, cell.size_mb) == (_REMOTE, _DEPTH, _SIZE_MB):
            return [Goal(text, _row(cell)[-1], cell.saving_percent >= _SAVING)]
    return [unmeasured(text)]


def _charts(figures: FusionFigures) -> list[Chart]:
    panels = [_panel(figures, place) for place in figures.places]
    alt = "What bundling saves of the storage time, over the size of the state, for each depth; below zero it costs."
    return [Chart("fusion", alt, panels)]


def _panel(figures: FusionFigures, place: str) -> Panel:
    cells = _cells(figures, place)
    series = []
    for depth in sorted({cell.depth for cell in cells}):
        found = [cell for cell in cells if cell.depth == depth]
        savings, intervals = [cell.saving_percent for cell in found], [cell.ci_saving_percent for cell in found]
        series.append(Series(f"depth {depth}", [cell.size_mb for cell in found], savings, intervals))
    sizes = sorted({cell.size_mb for cell in cells})
    none = Series("no difference", sizes, [0.0] * len(sizes), style="limit")
    return Panel(
        f"State {_PLACES[place]}", "state of each function, MB", "storage time saved, %", [*series, none], log_x=True
    )


FUSION: Final = Experiment(
    "fusion",
    "Fused functions",
    "How much of the time to store and fetch state is saved where functions that run in one process read and write "
    "the state of all of them at once, and where does it not pay?",
    FusionFigures,
    _tables,
    _charts,
    _goals,
)
