"""`skylark elect`: who succeeds a node now, asked of its elect service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import requests
from rich.table import Table

from libskylark.cli.options import complete_nodes, console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.errors import ElectionError
from libskylark.sender import reason_of


@click.command()
@click.option("--node", metavar="NODE", shell_complete=complete_nodes,
              help="Whose elect to ask.  [default: the one above the ground area]")  # fmt: skip
@click.option("--size", "size_bytes", type=click.IntRange(min=0), default=1_000_000, show_default=True,
              metavar="BYTES", help="How much state would move.")  # fmt: skip
@click.option("--policy", type=click.Choice(["skylark", "random", "stateless"]), default="skylark", show_default=True)
@click.option("--destination", metavar="NODE", help="Where the chain ends.  [default: the constellation's]")
@project_option
@json_option
def elect(
    node: str | None, size_bytes: int, policy: str, destination: str | None, project: Path, as_json: bool
) -> None:
    """Ask a node of the running lab where it would keep state of a given size now, and why."""
    lab = RunningLab(project)
    port = lab.settings.elect_port
    name = node or _access(f"http://{lab.host(None)}:{port}")
    answer = _get(
        f"http://{lab.host(name)}:{port}/storage-node",
        {"size": size_bytes, "policy": policy, **({"destination": destination} if destination else {})},
    )
    if as_json:
        print_json({"from": name, **answer})
        return
    screen = console()
    screen.print(
        f"{size_bytes:,} bytes on [bold]{name}[/bold] go to [bold green]{answer['node']}[/bold green] "
        f"({answer['host']}): predicted {answer['predicted_ms']:.0f} ms, epoch {answer['epoch']}"
    )
    table = Table("candidate", "hops", "latency ms", "bottleneck Mbit/s", "predicted ms", "refused because", box=None)
    reasons = {refusal["node"]: refusal["reason"] for refusal in answer["refused"]}
    for rung in answer["ladder"]:
        cells = [rung["hops"], rung["latency_ms"], rung["bottleneck_mbps"] or "-", round(rung["predicted_ms"])]
        table.add_row(rung["node"], *map(str, cells), reasons.get(rung["node"], ""))
    screen.print(table)


def _access(url: str) -> str:
    return str(_get(f"{url}/successor", {"type": ""})["access"])


def _get(url: str, query: dict[str, Any]) -> dict[str, Any]:
    try:
        response = requests.get(url, params=query, headers={"Accept": "application/json"}, timeout=5)
        answer = response.json()
    except (requests.RequestException, ValueError) as error:
        reason = reason_of(error) if isinstance(error, requests.RequestException) else "what it says is no JSON"
        raise ElectionError(f"{url} did not answer: {reason}; see `skylark status`") from None
    if not response.ok:
        raise ElectionError(f"{url}: {answer.get('detail', response.status_code)}")
    return dict(answer)
