"""`skylark demo`: the fire-watch chain over a few ticks, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from libskylark.cli.options import (
    Tick,
    console,
    dashboard_options,
    json_option,
    links_option,
    network_option,
    print_json,
    project_option,
    wants_page,
)
from libskylark.errors import LabError
from libskylark.eventing.journal import Accepted
from libskylark.eventing.journey import Step
from libskylark.lab.demo import Demo, DemoOptions, DemoReport
from libskylark.lab.tally import ALARM_TYPE, FRAME_TYPE, Tally
from libskylark.project import Project, read_project


@click.command()
@click.option("--frames", type=click.IntRange(1, 1000), default=12, show_default=True, help="How many ticks to watch.")
@click.option("--tick", "tick_s", type=Tick(), default="2s", show_default=True, metavar="DURATION",
              help="Length of an epoch.")  # fmt: skip
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Watch these images (GeoTIFF, PNG, JPEG) instead of the synthetic scene.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Another synthetic scene.")
@dashboard_options
@links_option
@network_option
@project_option
@json_option
@click.pass_context
def demo(
    context: click.Context,
    frames: int,
    tick_s: float,
    images: Path | None,
    seed: int | None,
    dashboard: bool | None,
    dashboard_port: int | None,
    links: bool,
    network: str,
    project: Path,
    as_json: bool,
) -> None:
    """Run the fire-watch chain: camera, preprocess, detect, alarm, on nine nodes that move.

    Starts the constellation, lets the satellite above the area capture a frame at each tick, follows every
    frame to the alarm's decision, and stops everything again. Exits with 1 where a frame was lost or decided
    twice, or state was left that nobody will read. While it runs, a live page shows it, unless --json is given.
    """
    screen = console(quiet=as_json)
    has_page = wants_page(dashboard, dashboard_port, otherwise=not as_json)
    options = DemoOptions(frames, tick_s, images, seed, network, links, has_page, dashboard_port)
    with screen.status("starting the nodes") as status:

        def say(text: str) -> None:
            screen.print(text)
            status.update(progress(Tally(), frames))

        def on_step(step: Step, tally: Tally) -> None:
            _tell(screen, step)
            status.update(progress(tally, frames))

        report = Demo(_read_chain(project), options, say, on_step).run()
    summary = report.to_json()
    if as_json:
        print_json(summary)
    else:
        _show(screen, report, summary)
    wrong = summary["frames_lost"] or summary["duplicate_decisions"] or summary["orphans"]
    context.exit(1 if wrong or not summary["frames_sent"] else 0)


def _read_chain(root: Path) -> Project:
    """The project in a folder; raises LabError where none is there at all, DocumentError where it has faults."""
    if not (root / "functions").is_dir():
        step = "run it in a clone of Skylark's repository, or name that with `--project`"
        raise LabError(f"the demo's project, the fire-watch chain, is not in {root.absolute()}; {step}")
    return read_project(root)


def progress(tally: Tally, frames: int) -> str:
    """How far the demo is: `3 of 12 frames sent, 2 decided`."""
    refused = f", {len(tally.refused)} refused" if tally.refused else ""
    return f"{len(tally.frames)} of {frames} frames sent, {tally.decided} decided{refused}"


def _tell(screen: Console, step: Step) -> None:
    record = step.record
    if isinstance(record, Accepted) and record.type == FRAME_TYPE:
        screen.print(f"[dim]{record.time[11:19]}[/dim] {step.node} captured a frame")
    elif isinstance(record, Accepted) and record.type == ALARM_TYPE:
        screen.print(f"[dim]{record.time[11:19]}[/dim] [bold red]alarm[/bold red] raised on {step.node}")


def _show(screen: Console, report: DemoReport, summary: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("frames", f"{summary['frames_sent']} sent, {summary['frames_decided']} decided, "
                  f"{summary['frames_lost']} lost, {summary['duplicate_decisions']} decided twice")  # fmt: skip
    table.add_row("above the area", " → ".join(summary["successors"]))
    reads = summary["reads"]
    table.add_row("state was read", f"{reads['inline']} times from the event, {reads['local']} locally, "
                  f"{reads['remote']} from another node")  # fmt: skip
    moves = summary["moves"]
    met = f", {moves['objectives_met']} of {moves['objectives']} objectives met" if moves["objectives"] else ""
    pushes = moves["count"] - moves["handovers"]
    table.add_row("memory", f"handed over {moves['handovers']} times")
    table.add_row("state was pushed", f"{pushes} times{met}; {summary['orphans'] or 'no'} orphans left")
    detection = summary["detection"]
    if detection["synthetic"]:
        shares = f"precision {_share(detection['precision'])}, recall {_share(detection['recall'])}"
        of = f"{detection['hotspots']} hotspots, {detection['fires']} fires in sight; synthetic scenes"
        table.add_row("detection", f"{shares} ({of})")
    table.add_row("alarms", f"{summary['alarms']}, of {len(report.incidents)} incidents still watched")
    table.add_row("lab", f"{summary['nodes']} nodes ready after {summary['startup_s']:.1f} s, "
                  f"{summary['memory_mib']:.0f} MiB, {summary['restarts']} processes restarted")  # fmt: skip
    screen.print()
    screen.print(table)
    for reason in report.tally.refused.values():
        screen.print(f"  [yellow]no frame[/yellow]: {reason}")
    for feature in report.alarm_features:
        where, what = feature["geometry"], feature["properties"]
        place = "{:.4f}, {:.4f}".format(*where["coordinates"]) if where else f"pixel {what['x']:.0f}, {what['y']:.0f}"
        screen.print(f"  [red]fire {what['id']}[/red] at {place}: {what['area_m2'] or 0:,.0f} m², "
                     f"seen in {what['frames_seen']} frames")  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
