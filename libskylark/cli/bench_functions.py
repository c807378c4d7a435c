"""`skylark bench fusion` and `skylark bench overhead`: what storing a bundle saves, what libskylark adds to Flask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from libskylark.bench import fusion as fusions
from libskylark.bench import overhead as overheads
from libskylark.bench.results import Setting, keep
from libskylark.cli.options import console, json_option, print_json, project_option, results_option
from libskylark.project import read_project

_LINK = fusions.SAT_CLOUD


@click.command()
@click.option("--quick", is_flag=True, help="Depths 1 and 5 of 0.5 and 1 MB, twice: to see that everything works.")
@click.option("--depth", "depths", type=click.IntRange(1, 64), multiple=True, metavar="N",
              help="Functions in a bundle; can be given several times.  [default: 1 to 5]")  # fmt: skip
@click.option("--size", "sizes_mb", type=click.FloatRange(0.001, 10.0), multiple=True, metavar="MB",
              help="State of each function; can be given several times.  [default: 0.5, 1, 2, 5, 10]")  # fmt: skip
@click.option("--runs", type=click.IntRange(min=1), default=None, metavar="N",
              help="Of each remote cell; local ones have four times as many.  [default: 6]")  # fmt: skip
@click.option("--latency-ms", type=click.FloatRange(min=0), default=_LINK.latency_ms, show_default=True,
              metavar="MS", help="Of the link, one way.")  # fmt: skip
@click.option("--jitter-ms", type=click.FloatRange(min=0), default=_LINK.jitter_ms, show_default=True,
              metavar="MS", help="Of the link: up to so much more.")  # fmt: skip
@click.option("--bandwidth-mbps", type=click.FloatRange(min=0, min_open=True), default=_LINK.bandwidth_mbps,
              show_default=True, metavar="MBPS", help="Of the link, each way.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=fusions.SEED, show_default=True,
              help="Another order of the cells, and other jitter.")  # fmt: skip
@project_option
@results_option
@json_option
def fusion(
    quick: bool,
    depths: tuple[int, ...],
    sizes_mb: tuple[float, ...],
    runs: int | None,
    latency_ms: float,
    jitter_ms: float,
    bandwidth_mbps: float,
    seed: int,
    project: Path,
    results: Path | None,
    as_json: bool,
) -> None:
    """How long functions take to read and store their state: one by one (single) or as one bundle, near and far.

    Runs functions/single, bundled and write_data of the project on two nodes: two Redis servers, and an emulated link
    between them.
    """
    screen, setting = console(quiet=as_json), Setting.now(seed)
    chosen = fusions.QUICK if quick else fusions.DEFAULT
    setup = replace(
        chosen,
        depths=depths or chosen.depths,
        sizes_mb=sizes_mb or chosen.sizes_mb,
        runs=runs or chosen.runs,
        link=replace(_LINK, latency_ms=latency_ms, jitter_ms=jitter_ms, bandwidth_mbps=bandwidth_mbps),
    )
    with screen.status("measuring") as status:
        figures, trials = fusions.measure(
            read_project(project), setup, seed, lambda what: status.update(f"measuring: {what}")
        )
    keep(results, "fusion", figures, setting, raw=trials)
    if as_json:
        print_json(figures)
    else:
        _show_fusion(screen, figures)


def _show_fusion(screen: Console, figures: dict[str, Any]) -> None:
    table = Table("place", "depth", "MB", "single", "read", "bundled", "read", "saved", "interval", box=None)
    for row in figures["rows"]:
        times = (f"{row[name]:,.1f}" for name in ("single_ms", "single_read_ms", "bundled_ms", "bundled_read_ms"))
        low, high = row["ci_saving_percent"]
        cells = (row["place"], str(row["depth"]), f"{row['size_mb']:g}", *times, f"{row['saving_percent']:.1f} %")
        table.add_row(*cells, f"{low:.1f} to {high:.1f} %")
    screen.print(table)
    link = figures["link"]
    screen.print(f"Medians of {figures['runs']} runs in ms (local: more), of reading and storing, and of reading.")
    screen.print("Saved: by bundling, with its 95 % interval; below 0 it costs time.")
    screen.print(
        f"Remote: {link['latency_ms']:g} ms one way and up to {link['jitter_ms']:g} more, "
        f"{link['bandwidth_mbps']:g} Mbit/s."
    )


@click.command()
@click.option("--quick", is_flag=True, help="Fewer and smaller blocks: to see that everything works.")
@click.option("--runs", type=click.IntRange(min=1), default=None, metavar="N",
              help="Blocks of calls, of each kind.  [default: 12]")  # fmt: skip
@click.option("--calls", type=click.IntRange(min=1), default=None, metavar="N",
              help="Calls of a block, in process and over HTTP.  [default: 300]")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=overheads.SEED, show_default=True,
              help="Another order of the blocks.")  # fmt: skip
@results_option
@json_option
def overhead(quick: bool, runs: int | None, calls: int | None, seed: int, results: Path | None, as_json: bool) -> None:
    """What libskylark adds to a bare Flask function: time of a call, processor time, memory.

    The same handler in Flask, with the CloudEvents SDK, and as a function without state, with state, with memory.
    """
    screen, setting = console(quiet=as_json), Setting.now(seed)
    chosen = overheads.QUICK if quick else overheads.DEFAULT
    setup = overheads.Setup(runs or chosen.runs, calls or chosen.calls)
    with screen.status("measuring") as status:
        figures, blocks = overheads.measure(setup, seed, lambda what: status.update(f"measuring: {what}"))
    keep(results, "overhead", figures, setting, raw=blocks)
    if as_json:
        print_json(figures)
    else:
        _show_overhead(screen, figures)


_SHOWN = ("call_us", "added_us", "cpu_us", "http_us", "added_http_us")


def _show_overhead(screen: Console, figures: dict[str, Any]) -> None:
    table = Table("function", "call us", "added", "CPU us", "HTTP us", "added", "MiB", "added", box=None)
    for row in figures["rows"]:
        times = ("" if row[name] is None else f"{row[name]:,.0f}" for name in _SHOWN)
        added_mib = "" if row["added_mib"] is None else f"{row['added_mib']:.1f}"
        table.add_row(row["kind"], *times, f"{row['rss_mib']:.1f}", added_mib)
    screen.print(table)
    screen.print(f"Medians of {figures['runs']} blocks of {figures['calls']} calls. Call: in process, through WSGI.")
    screen.print("CPU: of that process; Redis works beside it. MiB: what a worker of gunicorn occupies in the end.")
