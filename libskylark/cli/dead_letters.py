"""`skylark dead-letters`: what no subscriber took, on all nodes of the running lab: listed, shown, delivered again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from libskylark.cli.mailbox import Mail, Mailbox, Replayer
from libskylark.cli.options import complete_nodes, console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.cli.wording import brief, counted, cut, name_silent, short
from libskylark.errors import LabError, SkylarkError
from libskylark.event import Event, to_http
from libskylark.eventing.entry import DEFAULT_TTL

_TEXT_CHARS = 2000  # of an event's data, as much as is shown
_HEX_BYTES = 64
_ROW_BYTES = 16
_KEPT = ("number", "trigger", "outcome", "arrived")  # names of what is kept beside the event


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show and replay events that a Trigger's subscriber did not take.

    \b
    skylark dead-letters list
    skylark dead-letters show 1
    skylark dead-letters replay 1

    A letter is named by its number in the list, or by its id, which stays the same when others are gone. Events
    that went to a Trigger's own dead letter sink are not among them.
    """


@dead_letters.command("list")
@click.option("--node", metavar="NODE", shell_complete=complete_nodes,
              help="Only those of this node.  [default: all nodes]")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), default=50, show_default=True, metavar="N",
              help="How many, the latest ones.")  # fmt: skip
@project_option
@json_option
def list_command(node: str | None, count: int, project: Path, as_json: bool) -> None:
    """List the dead letters of all nodes, oldest first."""
    lab = RunningLab(project)
    if node is not None:
        lab.host(node)
    box = _open(lab)
    mails = [mail for mail in box.mails if node in (None, mail.node)]
    shown = mails[-count:]
    dropped = sum(number for name, number in box.dropped.items() if node in (None, name))
    if as_json:
        letters = [mail.to_json() for mail in shown]
        print_json({"total": len(mails), "dropped": dropped, "letters": letters, "silent": box.silent})
        return
    screen = console()
    width = len(str(shown[-1].number)) if shown else 0
    for mail in shown:
        _print_lines(screen, mail, width)
    left = f", the latest {len(shown):,} of them above" if len(shown) < len(mails) else ""
    screen.print(f"{counted(len(mails), 'dead letter')}{left}")
    if dropped:
        screen.print(
            f"{counted(dropped, 'older one')} gave way: a node keeps so many (SKYLARK_BROKER_DEAD_LETTERS_MAX)"
        )


@dead_letters.command()
@click.argument("name", metavar="N")
@project_option
@json_option
def show(name: str, project: Path, as_json: bool) -> None:
    """Show everything that is kept of a dead letter, with the event's attributes and data.

    With --json, "cloudevent" is the event in the JSON format of CloudEvents, as `skylark send` takes it.
    """
    box = _open(RunningLab(project))
    mail = box.find(name)
    event = box.event(mail)
    if event is None:
        raise LabError(f"dead letter {mail.id} is no longer there")
    if as_json:
        print_json({**mail.to_json(), "cloudevent": json.loads(to_http(event, structured=True)[1])})
    else:
        _print_whole(console(), mail, event)


@dead_letters.command()
@click.argument("names", metavar="N...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that there are.")
@click.option("--ttl", type=click.IntRange(1, DEFAULT_TTL), metavar="N",
              help="How many answers may follow one another from now on.  [default: as many as were left]")  # fmt: skip
@project_option
@click.pass_context
def replay(context: click.Context, names: tuple[str, ...], every: bool, ttl: int | None, project: Path) -> None:
    """Deliver dead letters again, each to its own Trigger only, and take them off the list.

    A letter is taken off once a broker has stored its event; where the subscriber refuses it again, there is a
    new one. The event is the same as before, with its headers, so a function that has handled it meanwhile knows it.

    A letter stays where its Trigger is gone or takes no such event any more, where the event has expired, and where
    a loop of Triggers has used up its TTL, unless it gets another one; exits with 1 then.
    """
    if every == bool(names):
        raise click.UsageError("expected N, or --all")
    lab = RunningLab(project)
    box = _open(lab)
    mails = box.mails if every else list(dict.fromkeys(box.find_surely(name) for name in names))
    replayer = Replayer(lab, box, project, ttl)
    screen, errors = console(), console(quiet=True)
    failed = 0
    for mail in mails:
        try:
            takers = replayer.replay(mail)
        except SkylarkError as error:
            failed += 1
            errors.print(f"[red]{mail.id} stays[/red]: {escape(str(error))}")
            continue
        if takers is None:
            screen.print(f"{mail.id} is no longer there")
        else:
            told = f" {mail.id}: event {mail.event.id} for " + ", ".join(f"{name} by {node}" for name, node in takers)
            screen.print(Text.assemble(("taken", "green"), told))
    if every and not mails:
        screen.print("there are no dead letters")
    context.exit(1 if failed or (every and box.silent) else 0)


def _open(lab: RunningLab) -> Mailbox:
    box = Mailbox(lab)
    name_silent(box.silent, "its dead letters")
    return box


def _print_lines(screen: Console, mail: Mail, width: int) -> None:
    letter = mail.letter
    first = Text.assemble(
        (f"{mail.number:>{width}}", "bold"), f"  {mail.id}  {_moment(letter.time)}  {brief(letter.trigger)}  "
    )
    screen.print(first.append_text(_failure(mail)))
    event = f"{mail.event.type} {short(mail.event.id)}"
    screen.print(Text(f"{'':{width}}  {event}: {cut(letter.reason)}", style="dim"))


def _failure(mail: Mail) -> Text:
    letter = mail.letter
    tries = counted(letter.attempts, "attempt")
    return Text.assemble((str(letter.status) if letter.status else "no answer", "red"), f" after {tries}")


def _moment(time: str) -> str:
    return time[:19].replace("T", " ")


def _print_whole(screen: Console, mail: Mail, event: Event) -> None:
    letter = mail.letter
    width = max(map(len, (*_KEPT, *event.attributes, *letter.headers)))
    kept = {"number": str(mail.number), "id": mail.id, "time": letter.time, "trigger": letter.trigger}
    _print_pairs(screen, kept, width)
    screen.print(Text(f"{'outcome':{width}}  ").append_text(_failure(mail)).append(f": {letter.reason}"))
    if letter.receivers != (letter.trigger,):
        _print_pairs(screen, {"for": ", ".join(letter.receivers)}, width)
    _print_pairs(screen, {"arrived": letter.arrived, "chain": letter.chain}, width)
    if letter.ttl is not None:
        note = "  spent: replay it with --ttl N" if letter.is_spent else ""
        _print_pairs(screen, {"ttl": f"{letter.ttl}{note}"}, width)
    for title, pairs in (("attributes", event.attributes), ("headers", letter.headers)):
        if pairs:
            screen.print(Text(f"\n{title}", style="bold"))
            _print_pairs(screen, pairs, width)
    screen.print(Text(f"\n{len(event.data):,} bytes of data", style="bold"))
    if event.data:
        screen.print(Text(_told(event.data)))


def _print_pairs(screen: Console, pairs: Mapping[str, str | None], width: int) -> None:
    for name, text in pairs.items():
        if text is not None:
            screen.print(Text(f"{name:{width}}  {text}"))


def _told(data: bytes) -> str:
    """Text as it is, other data as rows of hexadecimal numbers; the first part of what is long."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _hexadecimal(data)
    if not text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return _hexadecimal(data)
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}…"


def _hexadecimal(data: bytes) -> str:
    head = data[:_HEX_BYTES]
    rows = [head[start : start + _ROW_BYTES] for start in range(0, len(head), _ROW_BYTES)]
    width = 3 * _ROW_BYTES
    lines = [f"{row.hex(' '):{width}} {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}" for row in rows]
    return "\n".join([*lines, *(["…"] if len(data) > _HEX_BYTES else [])])
