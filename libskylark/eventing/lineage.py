"""Lineage: what came of what in one chain, read from the journals of all nodes as a tree by cause."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from libskylark.event import derived_id
from libskylark.eventing.journal import Accepted, Duplicate, Outcome, Record
from libskylark.eventing.journey import Step

_PREFIX_CHARS = 4  # of an id, at least, to stand for the whole


@dataclass(eq=False, slots=True)
class Visit:
    """An event in the broker of one node; `accepted` is None where the journal no longer has that record."""

    node: str
    event: str
    type: str
    accepted: Accepted | None
    deliveries: list[Delivery] = field(default_factory=list)
    caused: list[Visit] = field(default_factory=list)
    """Events that name this one as their cause, and came as the answer of no delivery."""
    again: list[Duplicate] = field(default_factory=list)
    """When the event came to this broker again, and was suppressed."""
    parent: Visit | None = None

    @property
    def hop(self) -> bool:
        """Whether it was handed over for one Trigger, by the broker of another node or out of the dead letters."""
        return self.accepted is not None and self.accepted.hop

    @property
    def time(self) -> str:
        """When it was accepted, else when the first thing that is known of it happened (RFC 3339)."""
        if self.accepted is not None:
            return self.accepted.time
        known = [delivery.outcome.time for delivery in self.deliveries if delivery.outcome]
        return min(known + [duplicate.time for duplicate in self.again])


@dataclass(eq=False, slots=True)
class Delivery:
    """Of an event to one Trigger; `outcome` is None while there is none."""

    trigger: str
    outcome: Outcome | None
    onward: list[Visit] = field(default_factory=list)
    """Where the event was handed over for this Trigger; more than once where an answer was lost, or it was replayed."""
    reply: Visit | None = None


def find_chains(steps: list[Step], name: str) -> dict[str, Step]:
    """The chains that `name` means, each with the first step that it was found by.

    `name` is the id of a chain, or else of an event, or else the first characters of either.
    """
    tests: list[Callable[[Record], bool]] = [
        lambda record: record.chain == name,
        lambda record: record.event == name,
        lambda record: record.chain.startswith(name) and len(name) >= _PREFIX_CHARS,
        lambda record: record.event.startswith(name) and len(name) >= _PREFIX_CHARS,
    ]
    for means in tests:
        found: dict[str, Step] = {}
        for step in steps:
            if means(step.record):
                found.setdefault(step.record.chain, step)
        if found:
            return {_first_name(steps, chain): step for chain, step in found.items()}
    return {}


def steps_of(steps: list[Step], chain: str) -> list[Step]:
    """The steps of a chain.

    An answer without a `correlationid` belongs to the chain of its request where it was given; handed over to
    another node it has no chain but its own, whose steps are among these.
    """
    names, new = set[str](), {chain}
    while new:
        names |= new
        records = (step.record for step in steps if step.record.chain in new)
        new = {_own_chain(record) for record in records if isinstance(record, Accepted)} - names
    return [step for step in steps if step.record.chain in names]


def _first_name(steps: list[Step], chain: str) -> str:
    """The chain whose event was handed over and began `chain`; `chain` itself where it began on its own."""
    records = [step.record for step in steps if isinstance(step.record, Accepted)]
    known = [chain]
    while True:
        begun = {r.event for r in records if r.hop and r.chain == known[-1] == _own_chain(r)}
        earlier = (r.chain for r in records if r.event in begun and r.chain not in known and _own_chain(r) == known[-1])
        if (first := next(earlier, None)) is None:
            return known[-1]
        known.append(first)


def _own_chain(record: Accepted) -> str:
    return derived_id(record.source, record.event)


def grow(steps: Iterable[Step]) -> list[Visit]:
    """The visits of a chain that came of no other, as far as its steps tell; each node's steps are in its own order."""
    by_node: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_node[step.node].append(step)
    tree = _Tree()
    for own in by_node.values():
        tree.read(own)
    tree.hand_over()
    tree.find_causes()
    return tree.roots()


class _Tree:
    """Grows from the surest to the least sure: outcomes and their answers, hops, causes."""

    def __init__(self) -> None:
        self._visits: list[Visit] = []

    def read(self, steps: list[Step]) -> None:
        """The journal of one node: every outcome is that of the first acceptance which still waits for it."""
        waiting: dict[tuple[str, str], list[tuple[Visit, Delivery]]] = defaultdict(list)
        lost: dict[str, Visit] = {}
        taken: dict[tuple[str, str, str], Visit] = {}
        unanswered: dict[str, list[Visit]] = defaultdict(list)
        for step in steps:
            record = step.record
            if isinstance(record, Accepted):
                visit = self._add(Visit(step.node, record.event, record.type, record))
                visit.deliveries = [Delivery(trigger, None) for trigger in record.to]
                for delivery in visit.deliveries:
                    waiting[record.event, delivery.trigger].append((visit, delivery))
                if not record.hop:
                    unanswered[record.event].append(visit)
                    taken[record.event, record.source, record.broker] = visit
                continue
            if isinstance(record, Duplicate):
                first = taken.get((record.event, record.source, record.broker))
                (first or self._lost(lost, step)).again.append(record)
                continue
            if queue := waiting[record.event, record.trigger]:
                visit, delivery = queue.pop(0)
                delivery.outcome = record
            else:
                visit, delivery = self._lost(lost, step), Delivery(record.trigger, record)
                visit.deliveries.append(delivery)
            # An answer is stored together with the outcome that it led to, and before it.
            answers = unanswered[record.reply] if record.reply else []
            if answers and _attach(visit, answers[-1]):
                delivery.reply = answers.pop()

    def _lost(self, lost: dict[str, Visit], step: Step) -> Visit:
        """The visit whose acceptance the journal no longer has."""
        record = step.record
        if record.event not in lost:
            lost[record.event] = self._add(Visit(step.node, record.event, record.type, None))
        return lost[record.event]

    def _by_event(self) -> dict[str, list[Visit]]:
        by_event: dict[str, list[Visit]] = defaultdict(list)
        for visit in self._visits:
            by_event[visit.event].append(visit)
        return by_event

    def _add(self, visit: Visit) -> Visit:
        self._visits.append(visit)
        return visit

    def hand_over(self) -> None:
        """Events that were handed over go below the delivery that did it, or whose dead letter was replayed."""
        by_event = self._by_event()
        for hop in sorted((visit for visit in self._visits if visit.hop), key=lambda visit: visit.time):
            givers = [(v, d) for v in by_event[hop.event] for d in v.deliveries if _gave(v, d, hop)]
            for visit, delivery in sorted(givers, key=lambda giver: (bool(giver[1].onward), giver[0].time)):
                if _attach(visit, hop):
                    delivery.onward.append(hop)
                    break

    def find_causes(self) -> None:
        """What no delivery answered goes below the event that it names as its cause."""
        by_event = self._by_event()
        for visit in self._visits:
            if visit.parent is not None or visit.accepted is None or visit.hop or not visit.accepted.cause:
                continue
            causes = [cause for cause in by_event[visit.accepted.cause] if cause.time <= visit.time]
            for cause in sorted(causes, key=lambda cause: cause.time, reverse=True):
                if _attach(cause, visit):
                    cause.caused.append(visit)
                    break

    def roots(self) -> list[Visit]:
        for visit in self._visits:
            visit.caused.sort(key=lambda caused: caused.time)
        return sorted((visit for visit in self._visits if visit.parent is None), key=lambda visit: visit.time)


def _gave(visit: Visit, delivery: Delivery, hop: Visit) -> bool:
    assert hop.accepted is not None, "a hop is known from its acceptance"
    if visit is hop or delivery.trigger not in hop.accepted.to or visit.time > hop.time:
        return False
    if visit.node != hop.node and not visit.hop:
        return True
    return replayed(delivery, hop)


def replayed(delivery: Delivery, hop: Visit) -> bool:
    """Whether a visit came of the dead letter that a delivery left."""
    outcome = delivery.outcome
    return outcome is not None and outcome.outcome == "dead-lettered" and outcome.time <= hop.time


def _attach(parent: Visit, child: Visit) -> bool:
    """Makes a visit the child of another; False where it is an ancestor of it (an id that came twice)."""
    above: Visit | None = parent
    while above is not None:
        if above is child:
            return False
        above = above.parent
    child.parent = parent
    return True


def walk(roots: Iterable[Visit]) -> Iterator[Visit]:
    """Every visit of some trees, parents first."""
    left = deque(roots)
    while left:  # not by recursion: a chain may be longer than Python's stack is deep
        visit = left.popleft()
        yield visit
        for delivery in visit.deliveries:
            left.extend(delivery.onward)
            if delivery.reply is not None:
                left.append(delivery.reply)
        left.extend(visit.caused)
