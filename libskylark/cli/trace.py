"""`skylark trace`: the journey of an event, or of a whole chain, as a tree of what came of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from libskylark.cli.journey_tree import Filtered, JourneyTree
from libskylark.cli.options import console, json_option, print_json, project_option
from libskylark.cli.running import RunningLab
from libskylark.cli.waiting import ask_all, require_an_answer
from libskylark.cli.wording import counted, name_silent, print_tree, told_ms
from libskylark.errors import LabError
from libskylark.eventing.generations import read_generations
from libskylark.eventing.journal import CAP, Outcome
from libskylark.eventing.journey import Journals, Journey, read_journals
from libskylark.eventing.lineage import Visit, find_chains, grow, steps_of, walk
from libskylark.lab.record import node_stores

_CHAINS_SHOWN: Final = 10


@click.command()
@click.argument("name", metavar="ID|CHAIN")
@click.option("--filtered", "names", is_flag=True, help="Name the Triggers that filtered an event, not only how many.")
@project_option
@json_option
def trace(name: str, names: bool, project: Path, as_json: bool) -> None:
    """Show the journey of an event, or of a whole chain, through the nodes of the running lab.

    ID is that of an event, CHAIN that of a chain; their first characters will do where no other begins alike.
    Below each event are the Triggers that took it, how its delivery to each of them ended, and what came of that.
    Where a function says so, there follow its reads of state and memory: how much, from where, how long.

    Triggers that an event's broker had and that did not take it have filtered it; `skylark match` tells of each
    which clause does so. All is read from the journals of the nodes, which keep the last 20,000 records or so each.
    """
    lab = RunningLab(project)
    stores, silent = ask_all(node_stores(lab.constellation), console(quiet=True))
    require_an_answer(stores, silent)
    journals = read_journals(stores)
    journals.silent.update(silent)
    name_silent(journals.silent, "its journal")
    journey = Journey(_the_chain(journals, name))
    for step in steps_of(journals.steps, journey.chain):
        journey.add(step)
    roots = grow(journey.steps)
    others = _chains_of_causes(journals, roots)
    late = [root for root in roots if _begins_late(root, others)]
    filtered = read_generations(stores, {visit.node for visit in walk(roots)}).filtered
    if as_json:
        report = {"chain": journey.chain, "ended": journey.ended, "complete": not late}
        print_json({**report, "silent": journals.silent, "visits": _visits_json(roots, filtered)})
        return
    print_tree(JourneyTree(_heading(journey, roots), roots, filtered, others, names).tree)
    screen = console()
    for node, since in _gone(journals, roots, bool(late)).items():
        lost = f"some {CAP:,} records are kept, on {node} those since {since}"
        screen.print(f"[yellow]the beginning is no longer there[/yellow]: {lost}")


def _the_chain(journals: Journals, name: str) -> str:
    """Raises LabError where no journal has it, and click's error where several chains have."""
    found = find_chains(journals.steps, name)
    if len(found) == 1:
        return next(iter(found))
    if found:
        lines = [f"  {chain}  {s.record.time} {s.record.type} on {s.node}" for chain, s in found.items()]
        more = ["  ..."] if len(lines) > _CHAINS_SHOWN else []
        words = f"{len(found)} chains have {name!r}; name one of them:"
        raise click.BadParameter("\n".join([words, *lines[:_CHAINS_SHOWN], *more]))
    words = f"no journal of the lab's nodes has {name!r}"
    if journals.full:
        since = min(journals.full.values())
        words += f"; some {CAP:,} records are kept, the first of them of {since}"
    raise LabError(f"{words}; name an event or chain as `skylark send` prints them")


def _chains_of_causes(journals: Journals, roots: list[Visit]) -> dict[str, str]:
    """The chains of the events of which other chains came, as far as the journals tell."""
    causes = {root.accepted.cause for root in roots if root.accepted and root.accepted.cause}
    return {step.record.event: step.record.chain for step in journals.steps if step.record.event in causes}


def _begins_late(root: Visit, other_chains: Mapping[str, str]) -> bool:
    """Whether a tree begins with what must have come of something that is not to be found."""
    accepted = root.accepted
    return accepted is None or accepted.hop or (accepted.cause is not None and accepted.cause not in other_chains)


def _gone(journals: Journals, roots: list[Visit], late: bool) -> dict[str, str]:
    """The nodes whose journal has dropped, or may have, what a tree came of -> since when it has records."""
    lost = {visit.node for visit in walk(roots) if visit.accepted is None}
    if late:
        lost |= journals.full.keys()
    first = {step.node: step.record.time for step in reversed(journals.steps)}
    return {node: first[node] for node in sorted(lost)}


def _heading(journey: Journey, roots: list[Visit]) -> Text:
    times = [datetime.fromisoformat(step.record.time) for step in journey.steps]
    took_ms = (max(times) - min(times)).total_seconds() * 1000
    events = len({visit.event for visit in walk(roots)})
    told = f"\n{min(times).date()}, {counted(events, 'event')} in {told_ms(took_ms)}, "
    state = ("ended", "green") if journey.ended else ("not ended yet", "yellow")
    return Text.assemble("chain ", (journey.chain, "bold"), told, state)


def _visits_json(roots: list[Visit], filtered: Filtered) -> list[dict[str, Any]]:
    """Every visit, with those it came of, and what came of it, by their places in the list."""
    visits = list(walk(roots))
    places = {visit: place for place, visit in enumerate(visits)}
    return [
        {
            "event": visit.event,
            "type": visit.type,
            "node": visit.node,
            "time": visit.time,
            "source": visit.accepted.source if visit.accepted else None,
            "cause": visit.accepted.cause if visit.accepted else None,
            "broker": (visit.accepted and visit.accepted.broker) or None,
            "filtered": filtered(visit.node, visit.accepted) if visit.accepted else None,
            "duplicates": [duplicate.time for duplicate in visit.again],
            "handed_over": visit.hop,
            "parent": None if visit.parent is None else places[visit.parent],
            "deliveries": [
                {
                    "trigger": delivery.trigger,
                    **(_outcome_json(delivery.outcome) if delivery.outcome else {"outcome": None}),
                    "handed_over_as": [places[onward] for onward in delivery.onward],
                    "replied_as": None if delivery.reply is None else places[delivery.reply],
                }
                for delivery in visit.deliveries
            ],
        }
        for visit in visits
    ]


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    told = ("outcome", "status", "attempts", "duration_ms", "time", "reason", "reply", "reply_chain", "dead_letter_to")
    return {**{name: getattr(outcome, name) for name in told}, "timings": [asdict(each) for each in outcome.timings]}
