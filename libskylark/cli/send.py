"""`skylark send`: an event to the broker of a running lab, or of any cluster."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from libskylark.cli.options import Duration, Url, complete_nodes, console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.cli.wording import brief, told_attempts, told_ms
from libskylark.client import Client, read_event
from libskylark.config import NodeSettings, from_environment
from libskylark.errors import SendError
from libskylark.eventing.journal import Accepted, Duplicate
from libskylark.eventing.journey import Journey
from libskylark.lab.record import node_stores
from libskylark.sender import broker_url


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--type", "event_type", metavar="TYPE", help="The event's type, where FILE is no event itself.")
@click.option("--node", metavar="NODE", shell_complete=complete_nodes,
              help="Send to this node's broker.  [default: where chains end]")  # fmt: skip
@click.option("--broker", type=Url(), metavar="URL", help="Send to this broker instead, say a cluster's.")
@click.option("--wait", "wait_s", type=Duration(), metavar="DURATION", help="Wait for the end of the chain.")
@project_option
@json_option
@click.pass_context
def send(
    context: click.Context,
    file: Path,
    event_type: str | None,
    node: str | None,
    broker: str | None,
    wait_s: float | None,
    project: Path,
    as_json: bool,
) -> None:
    """Send FILE to a broker: an event in JSON format, or an image (or any file, with --type).

    \b
    skylark send frame.tif --wait 10s
    skylark send order.json --type com.example.order
    """
    event, token = read_event(file, event_type), from_environment(NodeSettings).token
    if broker is not None:
        if wait_s is not None:
            raise click.UsageError("--wait needs the journals of a lab; it does not go with --broker")
        client = Client(broker, token=token)
    else:
        lab = RunningLab(project)
        url = broker_url(lab.host(node), lab.settings.broker_port)
        client = Client(url, node_stores(lab.constellation) if wait_s is not None else None, token)
    answer: dict[str, Any] = {"broker": client.url, "event": event.id, "chain": event.chain}
    if wait_s is None:
        client.send(event)
        _tell(answer, as_json)
        return
    with console(quiet=True).status("waiting for the end of the chain"):
        journey = client.send_and_wait(event, wait_s)
    _tell({**answer, "steps": steps_json(journey)}, as_json, journey)
    if journey.dead_lettered:
        last = journey.dead_lettered[-1]
        raise SendError(f"{last.trigger} did not take event {last.event}: {last.reason or last.status}")


def steps_json(journey: Journey) -> list[dict[str, Any]]:
    """The steps of a journey as plain values, for --json."""
    return [
        {"node": step.node, "kind": type(step.record).__name__.lower(), **asdict(step.record)} for step in journey.steps
    ]


def _tell(answer: dict[str, Any], as_json: bool, journey: Journey | None = None) -> None:
    if as_json:
        print_json(answer)
        return
    screen = console()
    screen.print(f"[green]accepted[/green] {answer['event']} by {answer['broker']}")
    screen.print(f"chain {answer['chain']}")
    for step in journey.steps if journey else []:
        record = step.record
        if isinstance(record, Accepted):
            screen.print(f"  {step.node:8} took {record.type} for {', '.join(map(brief, record.to)) or 'nobody'}")
        elif isinstance(record, Duplicate):
            screen.print(f"  {step.node:8} took {record.type} for a duplicate, and did nothing more")
        else:
            detail = f"{record.status or 'no answer'} in {told_ms(record.duration_ms)}"
            ending = f"{record.outcome}{told_attempts(record)} by {brief(record.trigger)} ({detail})"
            screen.print(f"  {step.node:8} {ending} {record.reason}".rstrip(), markup=False)
