"""`skylark bench`: what this machine makes of Skylark, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from libskylark.bench import broker as brokers
from libskylark.bench import election as elections
from libskylark.bench import handover as handovers
from libskylark.bench import start as starts
from libskylark.bench.results import Setting, keep, rows_of
from libskylark.cli.bench_experiments import throughput, workflow
from libskylark.cli.bench_faults import faults
from libskylark.cli.bench_functions import fusion, overhead
from libskylark.cli.bench_links import links
from libskylark.cli.bench_report import report, run_all
from libskylark.cli.options import console, json_option, print_json, project_option, results_option
from libskylark.errors import LabError
from libskylark.project import read_project


@click.group()
def bench() -> None:
    """Measure Skylark on this machine."""


for command in (faults, fusion, links, overhead, report, run_all, throughput, workflow):
    bench.add_command(command)


@bench.command()
@results_option
@json_option
def election(results: Path | None, as_json: bool) -> None:
    """How fast nodes are elected, in constellations of 10 to 10,000 satellites with four neighbours each."""
    screen, setting = console(quiet=as_json), Setting.now(elections.SEED)
    with screen.status("measuring") as status:
        figures, raw = elections.measure(progress=lambda size: status.update(f"measuring {size:,} nodes"))
    kept = {**figures, "ranges": elections.ranges(raw)}
    keep(results, "election", kept, setting, rows_of("nodes", figures["sizes"]), raw)
    if as_json:
        print_json(figures)
        return
    table = Table("nodes", "table ms", "answer us", "over HTTP ms", "peak MiB", "original, query ms", "times", box=None)
    for size, measured in figures["sizes"].items():
        original_ms = elections.ORIGINAL_MS[int(size)]
        ratio = original_ms * 1000 / measured["answer_us"]
        cells = [f"{measured[name]:g}" for name in ("recompute_ms", "answer_us", "http_ms", "peak_mib")]
        table.add_row(f"{int(size):,}", *cells, f"{original_ms:g}", f"{ratio:,.1f}")
    screen.print(table)
    screen.print("table: what a tick computes. answer: in process, a random destination and size of state.")
    screen.print("original: one query of the original's algorithm as native code; times: how many answers it took.")


class Sizes(click.ParamType[tuple[int, ...]]):
    """Numbers of bytes, joined by commas."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = value.split(",")
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            self.fail(f"found {value!r}, expected bytes such as 10000,1000000", param, ctx)
        return tuple(int(word) for word in words)


@bench.command()
@click.option("--sizes", type=Sizes(), default=",".join(map(str, handovers.SIZES)), show_default=True,
              metavar="BYTES,...", help="Sizes of the memory.")  # fmt: skip
@click.option("--latency-ms", type=click.FloatRange(min=0), default=handovers.DEFAULT.latency_ms, show_default=True,
              metavar="MS", help="Of the link, one way.")  # fmt: skip
@click.option("--bandwidth-mbps", type=click.FloatRange(min=0, min_open=True), show_default=True, metavar="MBPS",
              default=handovers.DEFAULT.bandwidth_mbps, help="Of the link, each way.")  # fmt: skip
@click.option("--writes-per-s", type=click.FloatRange(min=0, min_open=True), show_default=True, metavar="N",
              default=handovers.DEFAULT.writes_per_s, help="How often the memory is written meanwhile.")  # fmt: skip
@click.option("--runs", type=click.IntRange(min=1), default=handovers.DEFAULT.runs, show_default=True, metavar="N",
              help="Of either way, for each size.")  # fmt: skip
@results_option
@json_option
def handover(
    sizes: tuple[int, ...],
    latency_ms: float,
    bandwidth_mbps: float,
    writes_per_s: float,
    runs: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """How long memory cannot be written while it moves to another node, against stop-and-copy.

    Two Redis servers, an emulated link between them, and a function that writes at a steady rate. Exits with 1 where
    a write that was acknowledged is not at the new owner.
    """
    screen, setting = console(quiet=as_json), Setting.now(handovers.SEED)
    setup = handovers.Setup(latency_ms, bandwidth_mbps, writes_per_s, runs)
    with screen.status("measuring") as status:
        figures, raw = handovers.measure(sizes, setup, progress=lambda size: status.update(f"measuring {size:,} bytes"))
    keep(results, "handover", figures, setting, rows_of("bytes", figures["sizes"]), raw)
    if as_json:
        print_json(figures)
    else:
        screen.print(_handover_table(figures["sizes"]))
        screen.print("delta: bytes that follow the fence, of what was written since the copy. blocked: no node took a")
        screen.print("write. goal: two round trips, and the delta at the link's bandwidth. baseline: stop-and-copy.")
    if lost := sum(measured["writes_lost"] for measured in figures["sizes"].values()):
        raise LabError(f"{lost} acknowledged writes are not at the new owner, expected none")


def _handover_table(sizes: dict[str, Any]) -> Table:
    table = Table("bytes", "pre-copy", "delta", "blocked ms", "goal ms", "baseline ms", "times", "lost", box=None)
    for size, measured in sizes.items():
        unwritable_ms, baseline_ms = measured["unwritable_ms"], measured["baseline_unwritable_ms"]
        table.add_row(
            *(f"{int(number):,}" for number in (size, measured["precopy_bytes"], measured["delta_bytes"])),
            f"{unwritable_ms:.1f}",
            f"{2 * measured['round_trip_ms'] + measured['delta_ms']:.1f}",
            f"{baseline_ms:,.1f}",
            f"{baseline_ms / unwritable_ms:.1f}",
            f"{measured['writes_lost']} of {measured['writes']:,}",
        )
    return table


@bench.command()
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, metavar="N",
              help="Of each load, in three runs that take turns.")  # fmt: skip
@results_option
@json_option
def broker(seconds: float, results: Path | None, as_json: bool) -> None:
    """What the broker makes of 1 KiB events: through ingress, stream, filter and dispatch to a subscriber.

    One broker and its Redis, whose file is flushed every second; senders and subscriber on the same machine. Exits
    with 1 where an event that was accepted was not delivered.
    """
    screen, setting = console(quiet=as_json), Setting.now()
    with screen.status("measuring") as status:
        figures, raw = brokers.measure(seconds, progress=lambda what: status.update(f"measuring: {what}"))
    keep(results, "broker", {**figures, "ranges": brokers.ranges(raw)}, setting, figures["runs"], raw)
    if as_json:
        print_json(figures)
    else:
        _show_broker(screen, figures)
    if figures["lost"]:
        raise LabError(f"{figures['lost']} events were accepted and not delivered, expected none")


def _show_broker(screen: Console, figures: dict[str, Any]) -> None:
    table = Table("at once", "events/s", "p50 ms", "p99 ms", "CPU us per event", box=None)
    for run in figures["runs"]:
        times = (f"{run[name]:.2f}" for name in ("p50_ms", "p99_ms"))
        table.add_row(str(run["concurrency"]), f"{run['events_per_s']:,.0f}", *times, f"{run['cpu_us_per_event']:.0f}")
    paced = figures["paced"]
    times = (f"{paced[name]:.2f}" for name in ("p50_ms", "p99_ms"))
    table.add_row("paced", f"{paced['rate']:,.0f}", *times, "")
    screen.print(table)
    by_triggers = ", ".join(f"{us:.0f} with {int(count):,}" for count, us in figures["by_triggers"].items())
    screen.print(f"CPU us per event, by Triggers: {by_triggers}. Resident: {figures['rss_mib']:.0f} MiB.")
    screen.print(f"{figures['lost']} events lost. At once: events under way, from the request to the subscriber.")


@bench.command()
@click.option("--runs", type=click.IntRange(min=1), default=starts.RUNS, show_default=True, metavar="N",
              help="Of each role.")  # fmt: skip
@project_option
@results_option
@json_option
def start(runs: int, project: Path, results: Path | None, as_json: bool) -> None:
    """How long each role takes from the image's command to its first answer: what an event waits for on a cold start.

    One process at a time, beside a Redis of its own: node-info, elect, the broker, and each function.
    """
    screen, setting = console(quiet=as_json), Setting.now()
    with screen.status("measuring") as status:
        figures, raw = starts.measure(read_project(project), runs, lambda role: status.update(f"measuring: {role}"))
    keep(results, "start", figures, setting, rows_of("role", figures["roles"]), raw)
    if as_json:
        print_json(figures)
        return
    table = Table("role", "ready ms", "slowest ms", "resident MiB", box=None)
    for role, measured in figures["roles"].items():
        table.add_row(role, *(f"{measured[name]:,g}" for name in ("ready_ms", "slowest_ms", "rss_mib")))
    screen.print(table)
    screen.print(f"Median of {runs} runs, from `python -m libskylark.serving ROLE` to the first 200 of GET /ready.")
