"""One event through one handler: read, run, make what leaves, and commit all effects together or none."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from libskylark.clock import Clock, Ticks
from libskylark.config import NodeSettings
from libskylark.emission import NOTHING, Emitter, Reply
from libskylark.errors import CodecError, FunctionError, MemoryConflict, MemoryFenced
from libskylark.event import NODE, OWNER, Event
from libskylark.fields import Fields
from libskylark.jobs import Job, encode
from libskylark.memory import (
    Committed,
    Conflict,
    Effects,
    Ledger,
    MemoryName,
    Opened,
    Owner,
    memory_fields,
)
from libskylark.metering import Meter
from libskylark.nodeservices import Successors
from libskylark.state import IncomingState, States, incoming_state
from libskylark.timing import Timing

log = logging.getLogger("skylark.function")

Handler = Callable[..., Any]
PARAMETERS: Final = ("event", "state", "memory", "context")

# A handler whose memory was written by another run meanwhile starts over, at most so often.
_RUNS: Final = 5


class Services(Protocol):
    """What an execution asks of the node (see nodeservices.NodeServices)."""

    def successors(self, event_type: str) -> Successors | None: ...

    def access(self, epoch: int) -> str: ...


class Owners(Protocol):
    """Who owns an anchored memory (see ownership.Ownership)."""

    def find(self, name: MemoryName, epoch: int) -> Owner: ...


@dataclass(frozen=True)
class Context:
    """Where and when a handler runs."""

    node: str
    epoch: int
    services: Services

    @property
    def access(self) -> str:
        """The node above the ground area in this epoch."""
        return self.services.access(self.epoch)

    @property
    def is_above(self) -> bool:
        """Whether this node is the one above the ground area."""
        return self.access == self.node


@dataclass(frozen=True)
class Result:
    """The emitted event, if any; how it came about; where the state was read, and how long the stores took.

    `duplicate`: it is the recorded reply. `moved`: it is the incoming event, addressed to the node that owns the
    memory; the handler did not run, or nothing of its run was kept.
    """

    reply: Event | None
    duplicate: bool = False
    moved: bool = False
    reads: Mapping[str, int] = field(default_factory=dict)
    timings: Sequence[Timing] = ()


@dataclass(frozen=True)
class _Run:
    """One try of a handler: what it reads, and what it found when it began."""

    name: MemoryName
    event: Event
    context: Context
    state: IncomingState
    memory: Fields
    opened: Opened
    owner: Owner | None


class Execution:
    """Runs one function's handler for one event after the other; threads may share it."""

    def __init__(
        self,
        function: str,
        emits: str | None,
        settings: NodeSettings,
        ledger: Ledger,
        states: States,
        services: Services,
        clock: Clock,
        owners: Owners | None = None,
    ) -> None:
        """`owners` are asked where the function's memory is anchored; None: it is not."""
        self.function = function
        self.emits = emits
        self.settings = settings
        self.ledger = ledger
        self.states = states
        self.services = services
        self.clock = clock
        self.owners = owners
        self._emitter = Emitter(function, emits, settings, clock)
        self._ticks = Ticks(settings.tick_s)
        self._state_ttl_ms = int(settings.state_ttl_s * 1000)

    def run(self, handler: Handler, event: Event) -> Result:
        """Raises what the handler raises, MemoryConflict after several runs, MemoryFenced while the memory is on its
        way to another node, StoreError where a store fails, ElectionError while nobody can say who owns the memory.
        """
        name = MemoryName(self.function, event.partition or self.function)
        meter = Meter(self.settings.node, self.states, self.ledger)
        for _ in range(_RUNS):
            opened = self.ledger.open(name, event)
            if opened.reply is not None:
                return Result(_recorded(opened.reply), duplicate=True)
            owner = self._owner(name, opened.owner) if self.owners else None
            if owner is not None and not owner.serves(self.settings.node):
                return self._follow(name, event, owner)
            state = incoming_state(event, self.settings.node, meter.states)
            run = _Run(name, event, self.context(event), state, memory_fields(meter.ledger, name), opened, owner)
            returned = self._call(handler, run)
            reads = state.reads()  # before the rest of the state is fetched, only to be carried on
            meter.note_inline(event, state)
            outcome = meter.ledger.commit(self._kept(run, returned, reads))
            if isinstance(outcome, Committed):
                return Result(_recorded(outcome.reply), outcome.duplicate, reads=reads, timings=meter.timings)
            if isinstance(outcome, Conflict):
                log.info("memory %s changed under event %s: running it again", name, event.id)
                conflict = MemoryConflict(str(name), opened.version, outcome.found)
                continue
            return self._follow(name, event, outcome.owner, owner)
        raise conflict

    def _owner(self, name: MemoryName, known: Owner | None) -> Owner:
        assert self.owners is not None, "only asked where the memory is anchored"
        if known is not None and known.serves(self.settings.node):
            return known
        return self.owners.find(name, self._ticks.epoch_at(self.clock.now_s()))

    def _follow(self, name: MemoryName, event: Event, owner: Owner | None, presented: Owner | None = None) -> Result:
        """The event itself, addressed to the node that owns the memory: its broker takes it there."""
        if owner is not None and owner.phase == "moved":
            log.info("event %s follows memory %s to %s", event.id, name, owner.node)
            return Result(event.with_attributes(**{NODE: owner.node, OWNER: owner.node}), moved=True)
        phase, node, epoch = (owner.phase, owner.node, owner.epoch) if owner else ("", "", 0)
        raise MemoryFenced(str(name), presented.epoch if presented else None, phase, node, epoch)

    def context(self, event: Event) -> Context:
        """Node and epoch of an event: its own epoch, else that of its time, else the present one."""
        epoch = event.epoch
        if epoch is None:
            epoch = self._ticks.epoch_at(event.time.timestamp() if event.time else self.clock.now_s())
        return Context(self.settings.node, epoch, self.services)

    def _call(self, handler: Handler, run: _Run) -> Reply | None:
        offered = {
            "event": run.event,
            "state": run.state.fields,
            "memory": run.memory,
            "context": run.context,
        }
        returned = handler(**{name: offered[name] for name in inspect.signature(handler).parameters})
        return returned if returned is None or isinstance(returned, Reply) else Reply(returned)

    def _kept(self, run: _Run, returned: Reply | None, reads: Mapping[str, int]) -> Effects:
        try:
            written, removed = run.memory.written(), run.memory.removed()
            emission = NOTHING
            if returned is not None:
                ask, suspects = self.services.successors, run.opened.suspects
                emission = self._emitter.emit(run.event, run.context.epoch, returned, run.state.fields, ask, suspects)
        except CodecError as error:  # of what the handler wrote: no fault of the event
            raise FunctionError(f"function {self.function!r} left a value that cannot be kept: {error}") from None
        jobs: list[Job] = [*([emission.push] if emission.push else []), *run.state.retirements(self.function)]
        counters = {f"reads:{place}": count for place, count in reads.items()}
        return Effects(
            name=run.name,
            event=run.event,
            reply=_record(emission.event) if emission.event else b"",
            now_ms=int(self.clock.now_s() * 1000),
            window_ms=int(self.settings.duplicate_window_s * 1000),
            read_version=run.opened.version if run.memory.touched or written or removed else None,
            owner_epoch=run.owner.epoch if run.owner else None,
            memory_written=written,
            memory_removed=frozenset(removed),
            state_key=emission.key,
            state=emission.frames,
            state_ttl_ms=self._state_ttl_ms,
            counters={**counters, f"runs:{self.function}": 1},
            jobs=tuple(encode(job) for job in jobs),
            consumed=run.state.consumed(self.function),
        )


def _record(event: Event) -> bytes:
    return json.dumps(dict(event.attributes)).encode() + b"\n" + event.data


def _recorded(reply: bytes) -> Event | None:
    """The event of a recorded reply; an empty record stands for "nothing emitted"."""
    if not reply:
        return None
    head, _, data = reply.partition(b"\n")
    return Event(json.loads(head), data)
