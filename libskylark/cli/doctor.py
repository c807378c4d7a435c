"""`skylark doctor`: whether this machine can run the lab of a project, and the next step where it cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.markup import escape

from libskylark.cli.options import console, json_option, network_option, print_json, project_option
from libskylark.cli.wording import counted
from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.errors import DocumentError, LabError
from libskylark.eventing.loading import Objects
from libskylark.lab.checkup import Finding, examine_addresses, examine_machine, examine_page
from libskylark.lab.plan import LabOptions, Plan
from libskylark.lab.process import ProcessSpec
from libskylark.lab.record import LabRecord
from libskylark.project import ALONE, Project, read_project

_SIGNS: Final = {"good": "[green]good[/green]  ", "notice": "[yellow]notice[/yellow]", "bad": "[red]bad[/red]   "}

_WIDTH: Final = len("Redis server")  # the longest name of a finding


@click.command()
@network_option
@project_option
@json_option
@click.pass_context
def doctor(context: click.Context, network: str, project: Path, as_json: bool) -> None:
    """Look at what a lab needs of this machine: Python, Redis, addresses, ports, files, memory, disk, clock.

    Each line says what was found; where that is not right, what would be, and the next step. The addresses and
    ports are those of the project in this folder, or of a single node where there is none. Exits with 1 where a
    lab would not start, or not last; a notice is no fault.
    """
    findings = []
    screen = console()
    for finding in _examine(project, network):
        findings.append(finding)
        if not as_json:
            _show(screen, finding)
    sick = any(finding.verdict == "bad" for finding in findings)
    if as_json:
        print_json({"ok": not sick, "findings": [asdict(finding) for finding in findings]})
    context.exit(1 if sick else 0)


def _examine(root: Path, network: str) -> Iterator[Finding]:
    project, finding = _project(root)
    specs: list[ProcessSpec] = []
    pages: list[ProcessSpec] = []
    fault = ""
    try:
        specs, pages = _specs(project, network)
    except LabError as error:
        fault = str(error)
    yield from examine_machine(len(specs))
    yield finding
    running = LabRecord(root).read()
    if running is not None:
        known = {urlsplit(process["url"]).hostname for process in running["processes"]}
        if not known or known & {spec.host for spec in specs}:  # none is known while it starts
            told = f"held by the lab that runs here (process {running['pid']})"
            yield Finding("ports", "good", told, "this lab, or none")
            return
        told = f"one of this project runs at other addresses (process {running['pid']})"
        yield Finding("lab", "notice", told, "none: a project has one at a time", "stop it before starting another")
    if fault:
        step = "give the node another address, or another --network"
        yield Finding("loopback", "bad", fault, "a loopback address for each node", step)
    else:
        yield from examine_addresses(specs)
        yield from (examine_page(page, specs) for page in pages)


def _project(root: Path) -> tuple[Project, Finding]:
    """The project in a folder, or a single node without functions where it has none, or one with faults."""
    expected = "a project: functions/NAME/function.py, triggers/*.yaml"
    try:
        project = read_project(root)
        told = f"{counted(len(project.functions), 'function')} on {counted(len(project.constellation.nodes), 'node')}"
        return project, Finding("project", "good", told, expected)
    except DocumentError as error:
        alone = Project(root, {}, Objects(), Constellation(ConstellationSpec(nodes=[ALONE])))
        if not (root / "functions").is_dir():
            step = "to run one, call it in its folder; docs/tutorial.md makes one"
            return alone, Finding("project", "notice", f"none in {root.absolute()}", expected, step)
        told = f"one with {counted(len(error.faults), 'fault')}"
        return alone, Finding("project", "notice", told, expected, "run `skylark check`")


def _specs(project: Project, network: str) -> tuple[list[ProcessSpec], list[ProcessSpec]]:
    """The processes that `skylark up` would start, and beside them that of the live page."""
    with tempfile.TemporaryDirectory(prefix="skylark-doctor-") as folder:
        plan = Plan(project, LabOptions(Path(folder), Path("redis-server"), network=network, dashboard=True))
        return [spec for spec in plan.all_specs() if spec.role != "dashboard"], plan.dashboard()


def _show(screen: Console, finding: Finding) -> None:
    screen.print(f"{_SIGNS[finding.verdict]} {finding.name:{_WIDTH}}  {escape(finding.found)}")
    if finding.verdict != "good":
        indent = " " * (_WIDTH + 9)
        screen.print(f"{indent}[dim]expected {escape(finding.expected)}[/dim]")
        screen.print(f"{indent}next: {escape(finding.next_step)}")
