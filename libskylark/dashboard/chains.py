"""The last chains, as the journals tell of them: a summary of each, and its journey as rows of a waterfall."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from libskylark.event import TICK_TYPE
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.journey import Journey, Step
from libskylark.eventing.lineage import Delivery, Visit, grow, walk
from libskylark.lab.tally import ELECTED_TYPE
from libskylark.services.completed import COMPLETED_TYPE

_MOST_CHAINS: Final = 300
_MOST_STEPS: Final = 1000  # of one chain: a loop of Triggers has thousands

_UNADDRESSED: Final = "unaddressed-"
_ADDRESSER: Final = "elect"

#: What the constellation does by itself: the page shows it when asked to.
CLOCKWORK: Final = frozenset({TICK_TYPE, ELECTED_TYPE, COMPLETED_TYPE})


def seconds(time: str) -> float:
    """Unix seconds of a record's RFC 3339 time."""
    return datetime.fromisoformat(time).timestamp()


def function_of(trigger: str, node: str) -> str:
    """What a Trigger is for, as people call it: without namespace, and without the node that says it anyway.

    What no node is named for goes to elect, whatever its type is (see render.py).
    """
    name = trigger.rpartition("/")[2]
    return _ADDRESSER if name.startswith(_UNADDRESSED) else name.removeprefix(f"{node}-")


@dataclass
class _Chain:
    journey: Journey
    type: str
    began_s: float
    last_s: float
    clockwork: bool
    nodes: list[str] = field(default_factory=list)
    events: int = 0
    retries: int = 0
    dead_letters: int = 0
    is_cut: bool = False

    def summary(self) -> dict[str, Any]:
        return {
            "id": self.journey.chain,
            "type": self.type,
            "began_s": self.began_s,
            "duration_ms": round((self.last_s - self.began_s) * 1000, 1),
            "ended": self.journey.ended and not self.is_cut,
            "clockwork": self.clockwork,
            "nodes": self.nodes,
            "events": self.events,
            "retries": self.retries,
            "dead_letters": self.dead_letters,
        }


class Chains:
    """The chains that had news last; not safe for several threads."""

    def __init__(self, most: int = _MOST_CHAINS) -> None:
        self._most = most
        self._chains: OrderedDict[str, _Chain] = OrderedDict()

    def add(self, step: Step) -> None:
        record = step.record
        time_s = seconds(record.time)
        chain = self._chains.get(record.chain)
        if chain is None:
            chain = _Chain(Journey(record.chain), record.type, time_s, time_s, record.type in CLOCKWORK)
            self._chains[record.chain] = chain
        self._chains.move_to_end(record.chain)
        while len(self._chains) > self._most:
            self._chains.popitem(last=False)
        if len(chain.journey.steps) >= _MOST_STEPS:
            chain.is_cut = True
            return
        chain.journey.add(step)
        chain.last_s = max(chain.last_s, time_s)
        if time_s < chain.began_s:  # nodes are read side by side: the first event may be heard of late
            chain.began_s, chain.type = time_s, record.type
        if step.node not in chain.nodes:
            chain.nodes.append(step.node)
        if isinstance(record, Accepted):
            chain.events += not record.hop
            chain.clockwork = chain.clockwork and record.type in CLOCKWORK
        elif isinstance(record, Outcome):
            chain.retries += max(0, record.attempts - 1)
            chain.dead_letters += record.outcome in ("dead-lettered", "expired")

    def summary(self, chain: str) -> dict[str, Any] | None:
        found = self._chains.get(chain)
        return found.summary() if found else None

    def summaries(self) -> list[dict[str, Any]]:
        """The latest first."""
        return [chain.summary() for chain in reversed(self._chains.values())]

    def journey(self, chain: str) -> dict[str, Any] | None:
        """The summary and the rows of a waterfall, in the order of time; None where it is none of the last chains."""
        found = self._chains.get(chain)
        if found is None:
            return None
        return {**found.summary(), "is_cut": found.is_cut, "visits": _rows(found.journey.steps, found.began_s)}


def _rows(steps: list[Step], began_s: float) -> list[dict[str, Any]]:
    visits = sorted(walk(grow(steps)), key=lambda visit: visit.time)
    places = {visit: place for place, visit in enumerate(visits)}
    return [_row(visit, places, began_s) for visit in visits]


def _row(visit: Visit, places: Mapping[Visit, int], began_s: float) -> dict[str, Any]:
    return {
        "event": visit.event,
        "type": visit.type,
        "node": visit.node,
        "start_ms": _ms(visit.time, began_s),
        "parent": None if visit.parent is None else places[visit.parent],
        "handed_over": visit.hop,
        "duplicates": len(visit.again),
        "deliveries": [_delivery(delivery, visit.node, began_s) for delivery in visit.deliveries],
    }


def _delivery(delivery: Delivery, node: str, began_s: float) -> dict[str, Any]:
    to = delivery.onward[-1].node if delivery.onward else None
    told: dict[str, Any] = {
        "trigger": delivery.trigger,
        "function": function_of(delivery.trigger, to or node),
        "to": to,
    }
    outcome = delivery.outcome
    if outcome is None:
        return {**told, "outcome": None}
    ended_ms = _ms(outcome.time, began_s)
    return {
        **told,
        "outcome": outcome.outcome,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "reason": outcome.reason,
        "start_ms": round(max(0.0, ended_ms - outcome.duration_ms), 3),
        "duration_ms": outcome.duration_ms,
        "timings": [asdict(timing) for timing in outcome.timings],
    }


def _ms(time: str, began_s: float) -> float:
    return round((seconds(time) - began_s) * 1000, 3)
