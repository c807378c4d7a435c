"""The `skylark` command and what all its parts share: the list of commands, exit codes, errors in plain words."""

from __future__ import annotations

import sys
from typing import Final

import click

import libskylark
from libskylark.cli.lazy import Lazy, LazyGroup
from libskylark.errors import ConfigError, InvalidEvent, SkylarkError

EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130  # as shells have it: 128 and the number of SIGINT

#: All commands, in the order of `skylark --help`; a command is imported when it is called.
COMMANDS: Final = {
    "up": Lazy("libskylark.cli.up:up", "Run the project in this folder until Ctrl-C."),
    "demo": Lazy("libskylark.cli.demo:demo", "Run the fire-watch chain, and tell what came of it."),
    "check": Lazy("libskylark.cli.check:check", "Name every fault of the project, with file and line."),
    "doctor": Lazy("libskylark.cli.doctor:doctor", "Say whether this machine can run a lab, and what to do if not."),
    "send": Lazy("libskylark.cli.send:send", "Send a file as an event, and wait for the end of its chain."),
    "trace": Lazy("libskylark.cli.trace:trace", "Show the journey of an event or a chain."),
    "match": Lazy("libskylark.cli.match:match", "Say which Triggers take an event, and what stops the others."),
    "dead-letters": Lazy("libskylark.cli.dead_letters:dead_letters", "List, show and replay what no subscriber took."),
    "status": Lazy("libskylark.cli.status:status", "Show nodes, processes, queues and dead letters."),
    "moves": Lazy("libskylark.cli.moves:moves", "Show what was moved where, and how long it took."),
    "links": Lazy("libskylark.cli.links:links", "List, cut, heal and change the links of a lab with --links."),
    "elect": Lazy("libskylark.cli.elect:elect", "Ask a node where it would keep state now, and why."),
    "render": Lazy("libskylark.cli.render:render", "Generate Triggers and manifests from constellation.yaml."),
    "cesql": Lazy("libskylark.cli.cesql:cesql", "Evaluate a CloudEvents SQL expression."),
    "bench": Lazy("libskylark.cli.bench:bench", "Measure Skylark on this machine."),
    "completion": Lazy("libskylark.cli.completion:completion", "Print the shell's script for completion by Tab."),
}


@click.group(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(libskylark.__version__, prog_name="skylark")
def cli() -> None:
    """Stateful serverless functions on moving nodes.

    Run a project (a folder with functions/, brokers/ and triggers/) on this machine with `skylark up`,
    send it events with `skylark send`, and see what became of them with `skylark trace`.
    Every command works in the folder that it is called in, and tells more with --help.

    Exit codes: 0 all went well, 1 something failed while running, 2 the input is wrong, 130 interrupted.
    """


def _sentence(error: click.ClickException) -> str:
    """A fault of the command line in one sentence that begins with the command and ends with the next step."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "skylark"
    message = error.format_message().rstrip(".")
    if isinstance(error, click.MissingParameter):  # click writes a line for each choice
        message = " ".join(message.replace(". Choose from:", ";", 1).split())
    return f"{path}: {message[:1].lower()}{message[1:]}; see `{path} --help`"


def main() -> None:
    """The entry point: a fault of Skylark's own kind is one message, not a stack trace."""
    try:
        code = cli(prog_name="skylark", standalone_mode=False)  # what a command gave to context.exit
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort as error:  # click makes it of Ctrl-C, and of an input that ends
        sys.exit(EXIT_INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else EXIT_FAILED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(_sentence(error), err=True)
        sys.exit(error.exit_code)
    except SkylarkError as error:
        click.echo(f"skylark: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT if isinstance(error, ConfigError | InvalidEvent) else EXIT_FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        reason = (error.strerror or str(error)).lower()
        step = "name another file or folder, or make it one that you may write to"
        click.echo(f"skylark: no use of {error.filename}: {reason}; {step}", err=True)
        sys.exit(EXIT_BAD_INPUT)
