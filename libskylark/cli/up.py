"""`skylark up`: run a project's whole constellation on this machine until Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import click

from libskylark.cli.live import starting, watching
from libskylark.cli.options import (
    Tick,
    console,
    dashboard_options,
    links_option,
    network_option,
    project_option,
    wants_page,
)
from libskylark.lab.lab import Lab
from libskylark.lab.process import ProcessEvent
from libskylark.project import read_project


@click.command()
@click.option("--tick", "tick_s", type=Tick(), metavar="DURATION",
              help="Length of an epoch, at least 0.5s.  [default: the constellation's, 60s]")  # fmt: skip
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Keep the stores' files here between runs.  [default: forget them]")  # fmt: skip
@dashboard_options
@links_option
@network_option
@project_option
def up(
    tick_s: float | None,
    data: Path | None,
    dashboard: bool | None,
    dashboard_port: int | None,
    links: bool,
    network: str,
    project: Path,
) -> None:
    """Run the project in this folder: every node, its Redis, broker, elect, node-info and functions.

    Where the folder has no deployment/constellation.yaml, one node at 127.0.0.1 runs everything. Ctrl-C
    drains what is under way and stops; no process and no temporary file stays behind. In a terminal, a table
    follows the nodes: processes, events that wait, moves, dead letters.
    """
    has_page = wants_page(dashboard, dashboard_port, otherwise=False)
    found = read_project(project)
    screen = console()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    def on_event(event: ProcessEvent) -> None:
        if event.kind == "restarted" and not stopping.is_set():
            screen.print(f"[yellow]restarted[/yellow] {event.name}")
        elif event.kind == "gave-up":
            screen.print(f"[red]gave up[/red] {event.name}")

    started_s = time.monotonic()
    lab = Lab(
        found,
        tick_s,
        network,
        data=data,
        on_event=on_event,
        links=links,
        dashboard=has_page,
        dashboard_port=dashboard_port,
    )
    with lab:
        with starting(screen, lab) as ready:
            lab.start_nodes(ready)
            lab.start_clock(on_ready=ready)
        took_s = time.monotonic() - started_s
        nodes = len(lab.plan.constellation.nodes)
        processes = len(lab.supervisor.processes())
        screen.print(
            f"[green]ready[/green] after {took_s:.1f} s: {nodes} node{'s' if nodes > 1 else ''}, "
            f"{processes} processes, a tick every {lab.plan.tick_s:g} s"
        )
        if links:
            screen.print("what one node sends another passes emulated links: the constellation's latency and bandwidth")
        if lab.invitation:
            screen.print(lab.invitation)
        screen.print(f"send events to {lab.broker_url(lab.plan.home)}; Ctrl-C stops")
        with watching(screen, lab):
            stopping.wait()
        screen.print("draining and stopping")
