"""`skylark bench links`: how true the emulated links are on this machine, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from libskylark.bench import links as links_bench
from libskylark.bench.results import Setting, keep
from libskylark.cli.options import console, json_option, print_json, results_option

Row = Mapping[str, Any]
_Cells = Callable[[Row], tuple[str, ...]]

_RATE_TITLES: Final = ("asked Mbit/s", "measured", "error %", "worst share %", "CPU ms per MB", "goal")


def _rate_cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row['asked_mbps']:g}",
        f"{row['measured_mbps']:.1f}",
        f"{row['error_percent']:+.2f}",
        f"{row['share_error_percent']:+.2f}",
        f"{row['cpu_ms_per_mb']:.1f}",
        _met(row),
    )


def _met(row: Row) -> str:
    return "[green]met[/green]" if row["met"] else "[red]missed[/red]"


#: By kind of row: titles, and the cells under them.
_TABLES: Final[Mapping[str, tuple[tuple[str, ...], _Cells]]] = {
    "latency": (
        ("asked ms", "measured", "error", "p99", "round trip", "set-up and answer", "without link", "goal"),
        lambda row: (
            f"{row['asked_ms']:g}",
            f"{row['measured_ms']:.2f}",
            f"{row['error_ms']:+.2f}",
            *(f"{row[name]:.1f}" for name in ("p99_ms", "round_trip_ms", "set_up_ms")),
            f"{row['direct_ms']:.2f}",
            _met(row),
        ),
    ),
    "jitter": (
        ("latency ms", "jitter", "spread, 90 %", "true", "least", "most"),
        lambda row: (
            *(f"{row[name]:g}" for name in ("latency_ms", "asked_ms")),
            *(f"{row[name]:.1f}" for name in ("spread_ms", "true_spread_ms", "least_ms", "most_ms")),
        ),
    ),
    "rate": (("flows", *_RATE_TITLES), lambda row: (str(row["flows"]), *_rate_cells(row))),
    "ceiling": (_RATE_TITLES, _rate_cells),
}


@click.command()
@click.option("--runs", type=click.IntRange(min=1), default=links_bench.DEFAULT.runs, show_default=True, metavar="N",
              help="Of each measurement.")  # fmt: skip
@results_option
@json_option
def links(runs: int, results: Path | None, as_json: bool) -> None:
    """How true the emulated links are: asked against measured latency, jitter and rate, cost and ceiling.

    One link, its two ends and its relay, by themselves and beside a busy process for each core; medians of the runs.
    A goal that is missed is told in the output and is no failure: what can be kept depends on the machine. Takes about
    three minutes.
    """
    screen, setting = console(quiet=as_json), Setting.now()
    with screen.status("measuring") as status:
        asked = replace(links_bench.DEFAULT, runs=runs)
        figures, raw = links_bench.measure(asked, progress=lambda what: status.update(f"measuring: {what}"))
    keep(results, "links", figures, setting, raw=raw)
    if as_json:
        print_json(figures)
    else:
        _show(screen, figures)


def _show(screen: Console, figures: dict[str, Any]) -> None:
    for kind, (titles, cells) in _TABLES.items():
        table = Table(kind, *titles, box=None)
        for row in figures["rows"]:
            if row["kind"] == kind:
                table.add_row(row["load"], *cells(row))
        screen.print(table)
        screen.print()
    goals, ceiling_mbps = figures["goals"], figures["ceiling_mbps"]
    missed = sum(row.get("met") is False and row["kind"] != "ceiling" for row in figures["rows"])
    screen.print(
        f"goals: latency within {goals['latency_error_ms']:g} ms, rate and shares within "
        f"{goals['rate_error_percent']:g} %; {missed or 'none'} missed"
    )
    screen.print(f"ceiling: {'none was met' if ceiling_mbps is None else f'{ceiling_mbps:g} Mbit/s of one flow'}")
    screen.print(
        f"medians of {figures['runs']} runs; idle: with nothing of ours beside it; loaded: beside "
        f"{figures['busy_processes']} busy processes"
    )
    screen.print(f"the links have {'priority' if figures['priority'] else 'no priority'}")
