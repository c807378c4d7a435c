"""How commands tell what several of them do: ids cut short, times, names of Triggers, trees, nodes without answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from rich.markup import escape
from rich.tree import Tree

from libskylark.cli.options import console
from libskylark.eventing.journal import Outcome

_SHORT_CHARS: Final = 8  # of an id, as people read it
_SAID_CHARS: Final = 200  # of a reason, where it is not alone on the screen
_PLAIN: Final = "default/"
_UNBROKEN: Final = 10_000  # columns, where a program reads


def short(name: str) -> str:
    """An id cut short; a name as it is."""
    return name if len(name) <= 2 * _SHORT_CHARS else f"{name[:_SHORT_CHARS]}…"


def brief(trigger: str) -> str:
    """A Trigger's name, without the namespace `default`."""
    return trigger.removeprefix(_PLAIN)


def time_of_day(time: str) -> str:
    """Hours to milliseconds of an RFC 3339 time in UTC."""
    return time[11:23]


def told_ms(duration_ms: float) -> str:
    """A duration as people read it: `0.4 ms`, `12 ms` or `1.2 s`."""
    if duration_ms >= 1000:
        return f"{duration_ms / 1000:,.1f} s"
    return f"{duration_ms:.0f} ms" if duration_ms >= 1 or not duration_ms else f"{duration_ms:.1f} ms"


def told_size(size_bytes: int) -> str:
    """A size as people read it: `18 B` or `1.6 KiB`."""
    return f"{size_bytes} B" if size_bytes < 1024 else f"{size_bytes / 1024:,.1f} KiB"


def counted(number: int, noun: str) -> str:
    """`1 Trigger`, `2 Triggers`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cut(text: str, chars: int = _SAID_CHARS) -> str:
    """The first part of what is long."""
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def told_attempts(outcome: Outcome) -> str:
    """` after 3 attempts`, or nothing where one was enough; where it was not, how many there were."""
    if outcome.attempts == 1 and outcome.outcome not in ("dead-lettered", "expired"):
        return ""
    return f" after {counted(outcome.attempts, 'attempt')}"


def print_tree(tree: Tree) -> None:
    """To the width of the screen; with each line whole where there is none, and none is asked for."""
    screen = console()
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen.width = _UNBROKEN
    screen.print(tree, soft_wrap=False)


def name_silent(silent: Mapping[str, str], what: str) -> None:
    """A line on standard error for every node that does not tell `what`."""
    errors = console(quiet=True)
    for node, reason in silent.items():
        errors.print(f"[yellow]{node} does not tell {what}[/yellow]: {escape(reason)}")
