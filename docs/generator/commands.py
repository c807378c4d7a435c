"""The page about commands: what --help tells, with all exit codes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from libskylark.cli.main import cli


def commands_page() -> str:
    """Every command with its options, as --help tells them."""
    lines = [
        "# Commands\n",
        "`skylark COMMAND --help` tells the same. Output is for people, with colours in a terminal unless",
        "`NO_COLOR` is set; with `--json`, standard output has one JSON object and nothing else, and what goes on",
        "is told on standard error. `skylark completion` prints the script with which a shell completes commands,",
        "options and values.\n",
        "| exit code | meaning |",
        "| --- | --- |",
        "| 0 | all went well |",
        "| 1 | something failed while running: no lab runs, a broker does not answer, an event became a dead letter |",
        "| 2 | the input is wrong: an option, a file, a setting; standard error says what would be right |",
        "| 130 | interrupted by Ctrl-C (`skylark up` ends with 0: Ctrl-C is how it is stopped) |",
    ]
    root = cli.make_context("skylark", [], resilient_parsing=True)
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        lines += _command(command, name, root)
    return "\n".join(lines) + "\n"


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield from ("", f"## {context.command_path}\n")
    yield f"`{context.command_path} {' '.join(command.collect_usage_pieces(context))}`\n"
    yield from _described(command.help or "")
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    if records:
        yield from ("", "| option | meaning |", "| --- | --- |")
        for option, meaning in records:
            cells = f"`{option}`", re.sub(r"\s+", " ", meaning)
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _command(found, inner, context)


def _described(text: str) -> Iterator[str]:
    """A command's own description; click's mark for lines that stay as they are makes a block of code."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ""
        kept = paragraph.startswith("\b\n")
        yield f"```text\n{paragraph[2:]}\n```" if kept else paragraph
