"""`skylark moves`: which state and memory went where, how long that took, and how long it was predicted to take."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from libskylark.cli.options import complete_nodes, console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.cli.waiting import ask_all, require_an_answer
from libskylark.clock import rfc3339
from libskylark.jobs import MOVES_CAP, MoveRecord
from libskylark.lab.moves import MovesSummary, collect_moves, summarise
from libskylark.lab.record import node_stores

_TITLES = ("time", "kind", "what", "from → to", "sent bytes", "hops", "policy", "predicted ms", "measured ms")
_OBJECTIVE = "objective ms"
_RIGHT = {"sent bytes", "hops", "predicted ms", "measured ms"}
_SHORT_CHARS = 8  # of an id, as people read it


@click.command()
@click.option("--node", metavar="NODE", shell_complete=complete_nodes,
              help="Only what this node has sent.  [default: all nodes]")  # fmt: skip
@click.option("--count", type=click.IntRange(1, MOVES_CAP), default=50, show_default=True, metavar="N",
              help="How many moves, the latest ones.")  # fmt: skip
@project_option
@json_option
def moves(node: str | None, count: int, project: Path, as_json: bool) -> None:
    """Show the latest moves of the running lab's nodes, oldest first, and how their predictions held.

    A move runs from the moment when the state was captured to the other node's acknowledgement. Its objective is
    met where the time that was measured met it, whatever had been predicted.
    """
    lab = RunningLab(project)
    stores = node_stores(lab.constellation)
    if node is not None:
        lab.host(node)
        stores = {node: stores[node]}
    errors = console(quiet=True)
    answering, silent = ask_all(stores, errors)
    require_an_answer(answering, silent)
    found, faults = collect_moves(answering, count)
    summary = summarise(found)
    for name, reason in {**silent, **faults}.items():
        errors.print(f"[yellow]{name} tells no moves[/yellow]: {escape(reason)}")
    if as_json:
        print_json({"moves": [_to_json(move) for move in found], "summary": summary.to_json()})
        return
    screen = console()
    if found:
        _print_table(screen, found)
    screen.print(_told(summary))


def _to_json(move: MoveRecord) -> dict[str, Any]:
    """The record, but that JSON has no infinity."""
    fields = {
        name: None if isinstance(value, float) and math.isinf(value) else value for name, value in asdict(move).items()
    }
    return {**fields, "refused": [{"node": node, "reason": reason} for node, reason in move.refused]}


def _print_table(screen: Console, found: list[MoveRecord]) -> None:
    """A line per move; under it, where candidates were refused, a line that is no row of the table."""
    rows = [_cells(move) for move in found]
    widths = [max(map(len, column)) for column in zip(_TITLES, *rows, strict=True)]
    screen.print(Text(f"{_line(_TITLES, widths)}  {_OBJECTIVE}", style="bold"))
    for move, cells in zip(found, rows, strict=True):
        screen.print(Text(f"{_line(cells, widths)}  ").append_text(_verdict(move)))
        if move.refused:
            reasons = "; ".join(f"{node} ({reason})" for node, reason in move.refused)
            screen.print(Text(f"    refused {reasons}", style="dim"))


def _cells(move: MoveRecord) -> tuple[str, ...]:
    return (
        rfc3339(move.finished_s)[11:19],
        move.kind,
        ":".join(_short(part) for part in move.what.split(":")),
        f"{move.source} → {move.target}",
        f"{move.sent_bytes:,}",
        str(move.hops),
        move.policy,
        f"{move.predicted_ms:,.1f}",
        f"{move.measured_ms:,.1f}",
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    aligned = (
        cell.rjust(width) if title in _RIGHT else cell.ljust(width)
        for title, cell, width in zip(_TITLES, cells, widths, strict=True)
    )
    return "  ".join(aligned)


def _verdict(move: MoveRecord) -> Text:
    if move.met is None or move.objective_ms is None:
        return Text("-")
    met = ("met", "green") if move.met else ("missed", "red")
    return Text.assemble(f"{move.objective_ms:,.0f} ", met)


def _short(text: str) -> str:
    """An id cut short; a name as it is."""
    return text if len(text) <= 2 * _SHORT_CHARS else f"{text[:_SHORT_CHARS]}…"


def _told(summary: MovesSummary) -> str:
    told = f"{summary.count:,} move{'s' if summary.count != 1 else ''}"
    if summary.objectives:
        share = summary.objectives_met / summary.objectives
        told += f"; objective met {summary.objectives_met:,} of {summary.objectives:,} times ({share:.0%})"
    if summary.median_ratio is not None:
        told += f"; measured time is {summary.median_ratio:.2f} times the predicted (median)"
    return told
