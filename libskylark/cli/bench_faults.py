"""`skylark bench faults`: what is lost while things break, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from libskylark.bench import faults as fault_bench
from libskylark.bench.results import Setting, keep, rows_of
from libskylark.cli.options import (
    Tick,
    console,
    json_option,
    network_option,
    print_json,
    project_option,
    results_option,
)
from libskylark.project import read_project


class Rate(click.ParamType[float]):
    """So many a second, such as 1/s or 0.5/s."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)/s", value.strip())
        if match is None or not float(match[1]):
            self.fail(f"found {value!r}, expected so many a second, such as 1/s", param, ctx)
        return float(match[1])


@click.command()
@click.option("--faults", type=click.IntRange(1, 1000), default=60, show_default=True, help="How many to inject.")
@click.option("--tick", "tick_s", type=Tick(), default="4s", show_default=True, metavar="DURATION",
              help="Length of an epoch: at each tick the memory of detect is handed over.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Another order of faults.")
@click.option("--rate", "rate_per_s", type=Rate(), default="1/s", show_default=True, metavar="N/s",
              help="Frames that are requested.")  # fmt: skip
@network_option
@project_option
@results_option
@json_option
@click.pass_context
def faults(
    context: click.Context,
    faults: int,
    tick_s: float,
    seed: int,
    rate_per_s: float,
    network: str,
    project: Path,
    results: Path | None,
    as_json: bool,
) -> None:
    """What is lost while processes are killed, links cut and a satellite dies, one after the other.

    Starts the constellation with emulated links. Exits with 1 where a frame or an update of memory was lost, one
    was applied twice, two nodes owned one memory, or a fault was not recovered from within a minute.
    """
    screen, setting = console(quiet=as_json), Setting.now(seed)
    options = fault_bench.FaultOptions(faults, tick_s, seed, rate_per_s, network)
    run = fault_bench.FaultBench(read_project(project), options, screen.print)
    figures = run.run()
    keep(results, "faults", figures, setting, rows_of("fault", figures["recovery_ms"]), raw=run.strikes)
    if as_json:
        print_json(figures)
    else:
        _show_faults(screen, figures)
    context.exit(1 if fault_bench.failed(figures) else 0)


def _show_faults(screen: Console, report: dict[str, Any]) -> None:
    table = Table("fault", "count", "recovery ms, median", "at most", "in the phase meant", box=None)
    for kind, recovery in report["recovery_ms"].items():
        meant = report["cuts_meant"].get(kind)
        in_phase = f"{report['cuts_in_phase'][kind]} of {meant}" if meant else ""
        table.add_row(kind, str(recovery["count"]), f"{recovery['median']:,.0f}", f"{recovery['max']:,.0f}", in_phase)
    screen.print(table)
    screen.print(
        f"{report['faults']} faults, {report['handovers']} handovers; {report['frames_sent']} frames sent, "
        f"{report['frames_decided']} decided, {report['lost']} lost"
    )
    screen.print(
        f"updates of memory lost: {report['memory_updates_lost']}, applied twice: {report['duplicates_applied']}; "
        f"owned twice: {report['double_owned']}"
    )
    for line in [*report["undecided"], *(f"not recovered: {what}" for what in report["unrecovered"])]:
        screen.print(f"  [red]{line}[/red]")
