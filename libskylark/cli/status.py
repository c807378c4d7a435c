"""`skylark status`: what runs in the lab, on which node, and how full its queues are."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libskylark.cli.options import console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.cli.waiting import ask_all, require_an_answer
from libskylark.clock import Ticks
from libskylark.errors import StoreUnavailable
from libskylark.lab.census import count_node, count_orphans
from libskylark.lab.record import node_stores
from libskylark.store import Store

_TITLES = ("node", "type", "address", "alive", "waiting", "moving", "dead", "orphans", "reads")
_LEGEND = "dead: dead letters; reads: of state from the event, from the node itself, from another node"
_UNKNOWN = "?"
_WITHOUT_METRICS = "redis"


@click.command()
@project_option
@click.option("--targets", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Only write where Prometheus finds the metrics of all processes (file_sd).")  # fmt: skip
@json_option
def status(project: Path, targets: Path | None, as_json: bool) -> None:
    """Show the running lab of a project: nodes, processes, the epoch, queues and dead letters.

    Waiting are events in a node's broker, moving are jobs of its mover; orphans are bundles of state that are kept
    although nobody will read them any more.
    """
    lab = RunningLab(project)
    if targets is not None:
        targets.write_text(json.dumps(_targets(lab), indent=1) + "\n", encoding="utf-8")
        return
    tick_s = lab.record["tick_s"]
    epoch = Ticks(tick_s).epoch_at(time.time())
    stores, silent = ask_all(node_stores(lab.constellation), console(quiet=True))
    access = lab.constellation.access(epoch)
    nodes = [_node(lab, node, stores.get(node) or silent[node], node == access) for node in lab.constellation.nodes]
    orphans = _orphans(lab, stores, nodes)
    report: dict[str, Any] = {
        "pid": lab.record["pid"],
        "tick_s": tick_s,
        "epoch": epoch,
        "access": access,
        "next_access": lab.constellation.access(epoch + 1),
        "orphans": None if orphans is None else sum(orphans.values()),
        "nodes": [{**node, "orphans": None if orphans is None else orphans[node["node"]]} for node in nodes],
    }
    if as_json:
        print_json(report)
    else:
        _show(console(), report)
    require_an_answer(stores, silent)


def _targets(lab: RunningLab) -> list[dict[str, Any]]:
    """Prometheus' file_sd: every process that answers at /metrics, with its name."""
    found = [process for process in lab.record["processes"] if process["role"] != _WITHOUT_METRICS]
    return [
        {"targets": [process["url"].removeprefix("http://")], "labels": {"process": process["name"]}}
        for process in found
    ]


def _node(lab: RunningLab, name: str, store: Store | str, above: bool) -> dict[str, Any]:
    """What is known of a node; with a reason in place of a store, that is its fault."""
    node = lab.constellation.nodes[name]
    processes = [
        {**process, "alive": psutil.pid_exists(process["pid"])}
        for process in lab.record["processes"]
        if process["node"] == name
    ]
    found: dict[str, Any] = {"waiting": None, "dead_letters": None, "moving": None, "reads": {}}
    try:
        found |= {"fault": store} if isinstance(store, str) else asdict(count_node(store))
    except StoreUnavailable as error:
        found["fault"] = str(error)
    return {"node": name, "type": node.type, "host": node.ip, "above": above, "processes": processes, **found}


def _orphans(lab: RunningLab, stores: Mapping[str, Store], nodes: list[dict[str, Any]]) -> dict[str, int] | None:
    """Per node; None while a store does not answer, since what waits there may be what reads the state."""
    if any("fault" in node for node in nodes):
        return None
    try:
        return count_orphans(stores, lab.constellation.functions)
    except StoreUnavailable:
        return None


def _show(screen: Console, report: dict[str, Any]) -> None:
    screen.print(
        f"epoch {report['epoch']} of {report['tick_s']:g} s: [bold]{report['access']}[/bold] is above, "
        f"{report['next_access']} comes next"
    )
    table = Table(box=None)
    for title in _TITLES:
        table.add_column(title, no_wrap=True)
    for node in report["nodes"]:
        alive = sum(process["alive"] for process in node["processes"])
        name = f"[bold]{node['node']}[/bold]" if node["above"] else node["node"]
        reads = "/".join(str(count) for count in node["reads"].values()) or _UNKNOWN
        total = len(node["processes"])
        shown = f"{alive}/{total}" if alive == total else f"[red]{alive}/{total}[/red]"
        counts = [_count(node[name]) for name in ("waiting", "moving", "dead_letters", "orphans")]
        table.add_row(name, node["type"], node["host"], shown, *counts, reads)
    screen.print(table)
    screen.print(f"[dim]{_LEGEND}[/dim]")
    for node in report["nodes"]:
        if "fault" in node:
            screen.print(f"[red]{node['node']}[/red]: {escape(node['fault'])}")
    if report["orphans"] is None:
        screen.print("orphans: cannot be told while a node's Redis does not answer")
    else:
        screen.print(f"orphans: {report['orphans']} bundles of state that nobody will read any more")


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)
