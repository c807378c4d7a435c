"""`skylark check`: every fault of a project's YAML and functions, with file and line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from libskylark.cli.options import console, json_option, print_json, project_option
from libskylark.errors import DocumentError, Fault
from libskylark.eventing.notices import Notice
from libskylark.project import read_project, stale_triggers


@click.command()
@project_option
@json_option
@click.pass_context
def check(context: click.Context, project: Path, as_json: bool) -> None:
    """Validate a project without running it.

    Reads functions/*/function.py, brokers/, triggers/ and deployment/constellation.yaml, and names every fault
    with file, line and field: what Knative would refuse, references to nothing, loops, generated Triggers that
    no longer follow from the constellation. Exits with 2 where there is any. What Knative takes and the embedded
    broker has no use for is told as a notice.
    """
    faults: list[Fault] = []
    notices: list[Notice] = []
    counts: dict[str, int] = {}
    try:
        found = read_project(project)
        faults += stale_triggers(found)
        objects = found.objects
        notices = objects.notices
        counts = {
            "functions": len(found.functions),
            "brokers": len(objects.brokers),
            "triggers": len(objects.triggers),
            "ping_sources": len(objects.ping_sources),
            "nodes": len(found.constellation.nodes),
        }
    except DocumentError as error:
        faults += error.faults
    if as_json:
        told = {"faults": [asdict(fault) for fault in faults], "notices": [asdict(notice) for notice in notices]}
        print_json({"ok": not faults, **told, **counts})
    else:
        _tell(faults, notices, counts)
    context.exit(2 if faults else 0)


def _tell(faults: list[Fault], notices: list[Notice], counts: dict[str, int]) -> None:
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    for fault in faults:
        click.echo(str(fault), err=True)
    if faults:
        console(quiet=True).print(f"[red]{len(faults)} fault{'s' if len(faults) > 1 else ''}[/red]")
    else:
        told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        console().print(f"[green]no faults[/green] in {told}")
