"""`skylark status`: what runs in the lab, on which node, and how full its queues are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import psutil
from rich.table import Table

from libskylark.cli.options import console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.clock import Ticks
from libskylark.errors import StoreUnavailable
from libskylark.eventing.stream import DEAD_LETTERS, EVENTS
from libskylark.lab.lab import node_stores
from libskylark.memory import COUNTERS
from libskylark.store import Store


@click.command()
@project_option
@json_option
def status(project: Path, as_json: bool) -> None:
    """Show the running lab of a project: nodes, processes, the epoch, queues and dead letters."""
    lab = RunningLab(project)
    tick_s = lab.record["tick_s"]
    epoch = Ticks(tick_s).epoch_at(time.time())
    stores = node_stores(lab.constellation)
    access = lab.constellation.access(epoch)
    nodes = [_node(lab, node, stores[node], node == access) for node in lab.constellation.nodes]
    report: dict[str, Any] = {
        "pid": lab.record["pid"],
        "tick_s": tick_s,
        "epoch": epoch,
        "access": access,
        "next_access": lab.constellation.access(epoch + 1),
        "nodes": nodes,
    }
    if as_json:
        print_json(report)
        return
    screen = console()
    screen.print(f"epoch {epoch} of {tick_s:g} s: [bold]{access}[/bold] is above, {report['next_access']} comes next")
    table = Table(
        "node", "type", "address", "processes", "waiting", "dead letters", "reads inline/local/remote", box=None
    )
    for node in nodes:
        alive = sum(process["alive"] for process in node["processes"])
        name = f"[bold]{node['node']}[/bold]" if node["above"] else node["node"]
        reads = "/".join(str(node["reads"].get(place, 0)) for place in ("inline", "local", "remote"))
        total = len(node["processes"])
        shown = f"{alive} of {total}" if alive == total else f"[red]{alive} of {total}[/red]"
        table.add_row(name, node["type"], node["host"], shown, str(node["waiting"]), str(node["dead_letters"]), reads)
    screen.print(table)


def _node(lab: RunningLab, name: str, store: Store, above: bool) -> dict[str, Any]:
    node = lab.constellation.nodes[name]
    processes = [
        {**process, "alive": psutil.pid_exists(process["pid"])}
        for process in lab.record["processes"]
        if process["node"] == name
    ]
    found: dict[str, Any] = {"waiting": None, "dead_letters": None, "reads": {}}
    try:
        found = _counts(store)
    except StoreUnavailable as error:
        found["fault"] = str(error)
    return {"node": name, "type": node.type, "host": node.ip, "above": above, "processes": processes, **found}


def _counts(store: Store) -> dict[str, Any]:
    def read(client: Any) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.xlen(EVENTS)
        pipeline.xlen(DEAD_LETTERS)
        pipeline.hgetall(COUNTERS)
        return list(pipeline.execute())

    waiting, dead_letters, counters = store.run(read)
    named = {name.decode(): int(count) for name, count in counters.items()}
    reads = {name.removeprefix("reads:"): count for name, count in named.items() if name.startswith("reads:")}
    return {"waiting": waiting, "dead_letters": dead_letters, "reads": reads}
