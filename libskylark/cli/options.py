"""Options and output that several commands share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from libskylark.config import is_http_url, parse_duration_s
from libskylark.errors import SkylarkError
from libskylark.lab.dashboard import PORT

Command = TypeVar("Command", bound=Callable[..., Any])

MIN_TICK_S = 0.5


class Duration(click.ParamType[float]):
    """A duration such as 500ms, 2s or 1m, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration_s(value)
        except ValueError as error:
            self.fail(f"found {value!r}, {error}", param, ctx)


class Tick(Duration):
    """The length of an epoch: long enough for a tick to be delivered before the next one."""

    name = "tick"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        tick_s = super().convert(value, param, ctx)
        if tick_s < MIN_TICK_S:
            self.fail(f"found {value!r}, expected at least {MIN_TICK_S:g}s", param, ctx)
        return tick_s


class Network(click.ParamType[str]):
    """The first two numbers of loopback addresses, such as 127.5."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        first, _, second = str(value).partition(".")
        if first != "127" or not second.isdecimal() or int(second) > 255 or second != str(int(second)):
            self.fail(f"found {value!r}, expected 127.N with N from 0 to 255", param, ctx)
        return str(value)


class Url(click.ParamType[str]):
    """An address over HTTP."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return is_http_url(str(value))
        except ValueError as error:
            self.fail(f"found {value!r}, {error}", param, ctx)


def project_option(command: Command) -> Command:
    """--project: the folder of the project, the current one unless given."""
    return click.option(
        "--project",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=Path(),
        metavar="DIR",
        help="The project's folder.  [default: the current one]",
    )(command)


def json_option(command: Command) -> Command:
    """--json: one JSON object on standard output, and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def network_option(command: Command) -> Command:
    """--network: other loopback addresses, for a second lab beside the first."""
    return click.option(
        "--network",
        type=Network(),
        default="127.0",
        show_default=True,
        metavar="127.N",
        help="First half of the nodes' loopback addresses; another N lets two labs run side by side.",
    )(command)


def links_option(command: Command) -> Command:
    """--links: between nodes, the constellation's latency and bandwidth instead of this machine's own."""
    return click.option(
        "--links",
        is_flag=True,
        help="Let what one node sends another pass links with the latency and bandwidth of the constellation.",
    )(command)


def dashboard_options(command: Command) -> Command:
    """--dashboard / --no-dashboard and --dashboard-port, for `wants_page`."""
    for option in (
        click.option("--dashboard-port", type=click.IntRange(1, 65535), default=None, metavar="PORT",
                     help=f"Serve the live page at this port.  [default: {PORT}, or the next one that is free]"),
        click.option("--dashboard/--no-dashboard", default=None,
                     help="Serve the live page, which shows the constellation moving, on this machine's loopback "
                          "address."),
    ):  # fmt: skip
        command = option(command)
    return command


def wants_page(dashboard: bool | None, port: int | None, otherwise: bool) -> bool:
    """Whether to serve the live page: a port asks for it as well; `otherwise` where nothing is said of it."""
    if dashboard is False and port is not None:
        raise click.UsageError("found both --no-dashboard and --dashboard-port, expected one of them")
    return (otherwise or port is not None) if dashboard is None else dashboard


def results_option(command: Command) -> Command:
    """--results: where the figures of an experiment are kept, for `skylark bench report`; None for nowhere."""
    return click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        default=None,
        metavar="DIR",
        callback=_make_folder,
        help="Keep the figures in this folder too, such as benchmarks/results.",
    )(command)


def _make_folder(context: click.Context, parameter: click.Parameter, folder: Path | None) -> Path | None:
    """Before the experiment: its figures, which may have taken minutes, must not be lost for want of a folder."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    return folder


def complete_nodes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For Tab: the nodes of the project's constellation; none where that cannot be read."""
    from libskylark.constellation import read_constellation
    from libskylark.project import CONSTELLATION

    try:
        nodes = read_constellation((context.params.get("project") or Path()) / CONSTELLATION).nodes
    except SkylarkError:
        return []
    return [name for name in nodes if name.startswith(incomplete)]


def print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2))


def console(quiet: bool = False) -> Console:
    """For what people read; to standard error where standard output is for JSON."""
    return Console(stderr=quiet, highlight=False, soft_wrap=True)
