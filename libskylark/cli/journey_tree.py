"""The journey of a chain as a tree on the screen: below each event its deliveries, below those what came of them.

Where an event has one delivery only, that is told with the event, so that a long chain needs half the width.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Final

from rich.text import Text
from rich.tree import Tree

from libskylark.cli.wording import brief, counted, cut, short, time_of_day, told_attempts, told_ms, told_size
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.lineage import Delivery, Visit, replayed
from libskylark.timing import Timing

_DEPTH: Final = 12  # levels, of four columns each
_COLOURS: Final = {
    "delivered": "green",
    "replied": "green",
    "readdressed": "yellow",
    "dead-lettered": "red",
    "expired": "red",
}
_PLACES: Final = {  # where state was read; memory is always that of the node
    "inline": " in the event",
    "local": " on {}",
    "waited": " on {}, once its push was there,",
    "remote": " over the link from {}",
}

Filtered = Callable[[str, Accepted], list[str] | None]
"""The Triggers that filtered what a node's broker accepted; None where that is not known any more."""


class JourneyTree:
    """Draws visits below a heading; `tree` is for rich to print. With `names` it names Triggers that filtered.

    `other_chains` has the chain of every event that roots name as their cause, where a journal tells it.
    """

    def __init__(
        self,
        heading: Text,
        roots: list[Visit],
        filtered: Filtered,
        other_chains: Mapping[str, str],
        names: bool = False,
    ) -> None:
        self.tree = Tree(heading, guide_style="dim")
        self._filtered = filtered
        self._other_chains = other_chains
        self._names = names
        self._continued = 0
        # (above, its depth, visit). Not by recursion: a chain may be longer than Python's stack is deep.
        self._left = deque((self.tree, 0, visit) for visit in roots)
        while self._left:
            self._draw(*self._left.popleft())

    def _draw(self, above: Tree, depth: int, visit: Visit) -> None:
        lines = [_visit_line(visit), *self._notes(visit)]
        if depth >= _DEPTH:  # rich leaves out what does not fit the screen
            self._continued += 1
            above.add(f"goes on below, at ({self._continued})")
            above, depth = self.tree, 0
            lines[0] = Text(f"({self._continued}) ").append_text(lines[0])
        if len(visit.deliveries) == 1:
            (first, *more), below = _delivery_lines(visit.deliveries[0])
            lines += [Text("▸ ").append_text(first), *(Text("  ").append_text(line) for line in more)]
            self._queue(above.add(_joined(lines)), depth + 1, [*below, *visit.caused])
            return
        branch = above.add(_joined(lines))
        for delivery in visit.deliveries:
            told, below = _delivery_lines(delivery)
            self._queue(branch.add(_joined(told)), depth + 2, below)
        self._queue(branch, depth + 1, visit.caused)

    def _queue(self, branch: Tree, depth: int, visits: list[Visit]) -> None:
        self._left.extend((branch, depth, visit) for visit in visits)

    def _notes(self, visit: Visit) -> list[Text]:
        """What else there is to say of an event, each on a line of its own."""
        notes, accepted = list[Text](), visit.accepted
        if accepted is None:
            notes.append(Text("accepted before the journal begins", style="yellow"))
        elif visit.parent is None:
            notes.append(self._origin(accepted))
        if accepted is not None and (filter_note := self._filter_note(visit.node, accepted)):
            notes.append(Text(filter_note, style="dim"))
        for duplicate in visit.again:
            notes.append(Text(f"came again at {time_of_day(duplicate.time)}, suppressed as a duplicate", style="dim"))
        return notes

    def _origin(self, accepted: Accepted) -> Text:
        line = Text(f"from {accepted.source}", style="dim")
        if accepted.hop:
            line.append(", handed over, no journal tells by whom", style="yellow")
        elif accepted.cause and accepted.cause in self._other_chains:
            line.append(f", caused by {short(accepted.cause)} in chain {short(self._other_chains[accepted.cause])}")
        elif accepted.cause:
            line.append(f", caused by {short(accepted.cause)}, which is not in the journals", style="yellow")
        return line

    def _filter_note(self, node: str, accepted: Accepted) -> str:
        filtered = self._filtered(node, accepted)
        if not filtered:
            return "" if accepted.to else "no Trigger takes it"
        told = f"filtered by {'' if accepted.to else 'all '}{counted(len(filtered), 'Trigger')}"
        return f"{told}: {', '.join(map(brief, filtered))}" if self._names else told


def _joined(lines: list[Text]) -> Text:
    return Text("\n").join(lines)


def _carried_on(delivery: Delivery) -> Visit | None:
    forwarded = delivery.outcome is not None and delivery.outcome.outcome == "forwarded"
    if forwarded and len(delivery.onward) == 1 and len(delivery.onward[0].deliveries) == 1:
        return delivery.onward[0]
    return None


def _visit_line(visit: Visit) -> Text:
    place = f"  {time_of_day(visit.time)}  {visit.node}"
    above = visit.parent
    if above is not None and visit.hop:
        again = any(replayed(delivery, visit) for delivery in above.deliveries if visit in delivery.onward)
        return Text(("replayed" if again else "handed over") + place)
    if above is not None and above.event == visit.event:  # an answer that is the event itself, with another address
        return Text("the same event" + place)
    return Text.assemble((visit.type, "bold"), f" {short(visit.event)}", place)


def _delivery_lines(delivery: Delivery) -> tuple[list[Text], list[Visit]]:
    """What is to be told of a delivery, and what came of it.

    The node that an event was forwarded to is named in the same line, if that is all that there is to say of it.
    """
    line, below = Text(brief(delivery.trigger)), list[Visit]()
    while (hop := _carried_on(delivery)) is not None and delivery.outcome is not None:
        line.append(f" → {hop.node}{_effort(delivery.outcome)},")
        below += hop.caused
        delivery = hop.deliveries[0]
    lines = [line.append(" ").append_text(_ending(delivery))]
    if delivery.outcome is not None:
        lines += _timing_lines(delivery.outcome.timings)
    return lines, [*delivery.onward, *([delivery.reply] if delivery.reply is not None else []), *below]


def _ending(delivery: Delivery) -> Text:
    outcome = delivery.outcome
    if outcome is None:
        return Text("no outcome yet", style="yellow")
    line = Text.assemble((outcome.outcome, _COLOURS.get(outcome.outcome, "")))
    if sink := outcome.dead_letter_to:
        line.append(f"{'' if outcome.outcome == 'dead-lettered' else ', dead-lettered'} to {cut(sink)}")
    if outcome.status and not outcome.reason.startswith(f"answered {outcome.status}"):
        line.append(f" {outcome.status}")
    line.append(_effort(outcome))
    if outcome.outcome == "forwarded" and not delivery.onward:
        line.append(", no journal tells what came of it", style="yellow")
    if outcome.dead_letter_to == "":
        line.append(", kept in the dead letters")
    if outcome.reply_chain:
        line.append(f", began chain {short(outcome.reply_chain)}")
    if outcome.reason:
        line.append(f": {cut(outcome.reason)}", style="dim")
    return line


def _effort(outcome: Outcome) -> str:
    return f"{told_attempts(outcome)} in {told_ms(outcome.duration_ms)}"


def _timing_lines(timings: tuple[Timing, ...]) -> list[Text]:
    """`state 1.1 KiB in the event`, `memory 1.6 KiB in 0.4 ms, commit in 1.1 ms`; nothing for a commit alone."""
    groups: dict[tuple[str, str], list[Timing]] = defaultdict(list)
    for timing in sorted(timings, key=lambda timing: timing.what != "state"):
        groups[timing.what, _PLACES.get(timing.place, "").format(timing.node)].append(timing)
    commit = groups.pop(("commit", ""), [])
    lines = [f"{what} {_size(each)}{place}{_took(each)}" for (what, place), each in groups.items()]
    if lines and commit:
        lines[-1] += f", commit{_took(commit)}"
    return [Text(line, style="dim") for line in lines]


def _size(timings: list[Timing]) -> str:
    return told_size(sum(timing.size_bytes for timing in timings))


def _took(timings: list[Timing]) -> str:
    """` in 0.4 ms`; nothing for what was in the event."""
    ms = sum(timing.ms for timing in timings)
    reads = f" ({len(timings)} reads)" if len(timings) > 1 and timings[0].what == "state" else ""
    return f" in {told_ms(ms)}{reads}" if ms else ""
