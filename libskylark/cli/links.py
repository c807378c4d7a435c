"""`skylark links`: the emulated links of the running lab, to look at, to cut and to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import click
from rich.console import Console
from rich.table import Table

from libskylark.cli.options import console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.errors import LabError
from libskylark.lab.link_server import LabLinks
from libskylark.lab.links import CutMode, Figures, Scope

_TITLES: Final = ("state", "ms", "jitter ms", "Mbit/s", "flows")
_FIGURES: Final = ("latency_ms", "jitter_ms", "bandwidth_mbps")

_pair_option = click.option(
    "--pair", "as_pair", is_flag=True, help="Only what the two nodes send each other, although a link joins them."
)


@click.group(invoke_without_command=True)
@project_option
@json_option
@click.pass_context
def links(context: click.Context, project: Path, as_json: bool) -> None:
    """List the links of a lab that runs with --links; cut, heal and change them.

    \b
    skylark links
    skylark links cut pi5u2 pi5u3
    skylark links set pi5u2 pi5u3 --latency-ms 80
    skylark links heal --all

    Two nodes that a link of the constellation joins, in whatever epoch, stand for that link, and for all traffic that
    is led over it. Any other two nodes stand for what they send each other, whatever way it takes.

    The environment of `skylark up` tells more: SKYLARK_LINKS_SEED another order of jitter, SKYLARK_LINKS_REROUTE=break
    that connections are reset when a tick gives them another way, SKYLARK_LINKS_NO_ROUTE=silent that nodes which no
    way joins hear nothing, where a router would refuse.
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"project": project, "as_json": as_json}}
        return
    found = _links(RunningLab(project))
    listed = {"links": found.links(), "pairs": found.status()}
    if as_json:
        print_json(listed)
    else:
        _show(console(), listed["links"], listed["pairs"])


@links.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--mode", type=click.Choice(get_args(CutMode)), default="silent", show_default=True,
              help="silent: nobody is told, as over a lost radio link; reset: connections break at once.")  # fmt: skip
@_pair_option
@project_option
@json_option
def cut(a: str, b: str, mode: CutMode, as_pair: bool, project: Path, as_json: bool) -> None:
    """Let nothing pass between A and B.

    It holds for either direction, until they are healed. Traffic whose way is a link that is cut takes another way
    from the next tick on, where there is one; until then, and where there is none, it waits or breaks by the mode.
    What waited is delivered when it can be.
    """
    part = _Part(project, a, b, as_pair)
    part.links.cut(a, b, mode, part.scope)
    part.tell(as_json, f"cut ({mode})")


@links.command()
@click.argument("nodes", metavar="[A B]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All links and all pairs of nodes.")
@project_option
@json_option
def heal(nodes: tuple[str, ...], every: bool, project: Path, as_json: bool) -> None:
    """Undo a cut between A and B, or all of them.

    What waits is delivered at once; traffic that has taken another way comes back at the next tick.
    """
    if every == bool(nodes) or len(nodes) not in (0, 2):
        raise click.UsageError(f"found {' '.join(nodes) or 'no nodes'}, expected two nodes or --all")
    if every:
        _links(RunningLab(project)).heal_all()
        if as_json:
            print_json({"healed": "all"})
        else:
            console().print("all links and pairs are healed")
        return
    a, b = nodes
    part = _Part(project, a, b)
    for scope in part.scopes:
        part.links.heal(a, b, scope)
    part.tell(as_json, "healed")


@links.command("set")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--latency-ms", type=click.FloatRange(min=0), metavar="MS", help="Of one way.")
@click.option("--jitter-ms", type=click.FloatRange(min=0), metavar="MS", help="The most that is added to it.")
@click.option("--bandwidth-mbps", type=click.FloatRange(min=0, min_open=True), metavar="MBPS", help="Each way.")
@_pair_option
@project_option
@json_option
def set_figures(a: str, b: str, as_pair: bool, project: Path, as_json: bool, **asked: float | None) -> None:
    """Give a link, or two nodes, other figures.

    They last until `unset`; what is not named stays as it is. What a link has may lead traffic another way from the
    next tick on. Two nodes get a bandwidth of their own.
    """
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        raise click.UsageError("found nothing to set, expected --latency-ms, --jitter-ms or --bandwidth-mbps")
    part = _Part(project, a, b, as_pair)
    before = {name: value for name, value in part.state().items() if name in _FIGURES and value is not None}
    part.links.set(a, b, replace(Figures(**before), **changes), part.scope)
    part.tell(as_json, "set")


@links.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@project_option
@json_option
def unset(a: str, b: str, project: Path, as_json: bool) -> None:
    """Go back to the figures of the constellation."""
    part = _Part(project, a, b)
    for scope in part.scopes:
        part.links.unset(a, b, scope)
    part.tell(as_json, "unset")


class _Part:
    """What two nodes stand for: the link between them where there is one, else, or if `as_pair`, the pair.

    `scopes` are all that there are between them. Raises LabError where no lab with links runs, click's error for a
    node that is none.
    """

    def __init__(self, project: Path, a: str, b: str, as_pair: bool = False) -> None:
        lab = RunningLab(project)
        self.links = _links(lab)
        for node in (a, b):
            lab.host(node)
        if a == b:
            raise click.UsageError(f"found {a!r} twice, expected two nodes")
        self.nodes = (a, b)
        self.scopes: list[Scope] = ["link", "pair"] if self._find(self.links.links()) else ["pair"]
        self.scope: Scope = "pair" if as_pair else self.scopes[0]

    def state(self) -> dict[str, Any]:
        found = self._find(self.links.links() if self.scope == "link" else self.links.status())
        if found is None:
            raise LabError(f"nothing is relayed between {' and '.join(self.nodes)}: neither offers a service")
        return found

    def tell(self, as_json: bool, done: str) -> None:
        state = self.state()
        if as_json:
            print_json({"scope": self.scope, **state})
            return
        a, b = state["nodes"]
        what = f"link {a} - {b}" if self.scope == "link" else f"{a} and {b}, whatever the way between them"
        console().print(f"{done}: {what}; now {_state(state)}, {_told_figures(state)}")

    def _find(self, states: list[dict[str, Any]]) -> dict[str, Any] | None:
        return next((state for state in states if set(state["nodes"]) == set(self.nodes)), None)


def _links(lab: RunningLab) -> LabLinks:
    for process in lab.record["processes"]:
        if process["role"] == "links":
            return LabLinks(process["url"])
    raise LabError("the lab of this project emulates no links; stop it, and start it with `skylark up --links`")


def _show(screen: Console, links: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
    table = Table("link", *_TITLES, "MB →", "MB ←", box=None)
    for link in links:
        carried = (f"{carried_bytes / 1e6:,.2f}" for carried_bytes in link["carried_bytes"])
        table.add_row(" - ".join(link["nodes"]), *_cells(link), *carried)
    screen.print(table)
    apart = [pair for pair in pairs if pair["state"] != "open" or pair["pinned"]]
    if apart:
        table = Table("nodes", *_TITLES, "way", box=None)
        for pair in apart:
            table.add_row(" - ".join(pair["nodes"]), *_cells(pair), " ".join(pair["path"] or ()))
        screen.print(table)
    screen.print(
        "[dim]ms: latency. flows: connections. MB: carried, either way. *: set by hand. down: not in this epoch.[/dim]"
    )


def _cells(state: dict[str, Any]) -> tuple[str, ...]:
    limit_mbps = state["bandwidth_mbps"]
    figures = (f"{state['latency_ms']:g}", f"{state['jitter_ms']:g}", "-" if limit_mbps is None else f"{limit_mbps:g}")
    return (_state(state), *figures, str(state["connections"]))


def _state(state: dict[str, Any]) -> str:
    if "up" in state:
        told = "up" if state["up"] else "down"
        told = f"{told}, cut ({state['cut']})" if state["cut"] else told
    else:
        reason = "" if state["state"] == "open" else " (cut)" if state["cut"] else " (way cut)"
        told = state["state"] + (reason if state["routed"] else " (no route)")
    return f"{told} *" if state["pinned"] else told


def _told_figures(state: dict[str, Any]) -> str:
    limit = "no limit" if state["bandwidth_mbps"] is None else f"{state['bandwidth_mbps']:g} Mbit/s"
    return f"{state['latency_ms']:g} ms, jitter {state['jitter_ms']:g} ms, {limit}"
