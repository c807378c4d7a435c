"""One event through one handler: read, run, choose the successor, and commit all effects together or none."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from libskylark.clock import Clock, Ticks, rfc3339
from libskylark.config import NodeSettings
from libskylark.errors import (
    CodecError,
    FunctionError,
    InvalidEvent,
    MemoryConflict,
    MemoryFenced,
)
from libskylark.event import (
    CAUSE,
    CHAIN,
    EPOCH,
    EXPIRY,
    KEY,
    NODE,
    OWNER,
    PARTITION,
    POLICY,
    STATE,
    TRACE,
    Event,
    derived_id,
    encode_data,
    to_http,
)
from libskylark.fields import Fields, Frames
from libskylark.jobs import Job, Push, encode
from libskylark.key import StateKey
from libskylark.memory import (
    Committed,
    Conflict,
    Effects,
    Ledger,
    MemoryName,
    Opened,
    Owner,
    event_name,
    memory_fields,
)
from libskylark.metering import Meter
from libskylark.nodeservices import Successors
from libskylark.policy import Decision
from libskylark.state import IncomingState, States, encode_inline, incoming_state, redis_key, stored_frames
from libskylark.timing import Timing
from libskylark.tracing import traceparent

log = logging.getLogger("skylark.function")

Handler = Callable[..., Any]
PARAMETERS: Final = ("event", "state", "memory", "context")

# A handler whose memory was written by another run meanwhile starts over, at most so often.
_RUNS: Final = 5

# Many servers and proxies take 8 KiB of headers, and what is on the way adds some of its own. State rides inside the
# event only where its other attributes leave the room.
_MOST_HEADER_BYTES: Final = 7168


class Services(Protocol):
    """What an execution asks of the node (see nodeservices.NodeServices)."""

    def successors(self, event_type: str) -> Successors | None: ...

    def access(self, epoch: int) -> str: ...


class Owners(Protocol):
    """Who owns an anchored memory (see ownership.Ownership)."""

    def find(self, name: MemoryName, epoch: int) -> Owner: ...


@dataclass(frozen=True)
class Reply:
    """What a handler returns to say more than the data of the emitted event."""

    data: Any = None
    type: str | None = None
    subject: str | None = None
    partition: str | None = None
    content_type: str | None = None
    new_chain: bool = False


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
    state: IncomingState
    memory: Fields
    opened: Opened
    owner: Owner | None


@dataclass(frozen=True)
class _Emission:
    """What leaves: the event, the state captured on this node under a key, and its push to the successor."""

    event: Event | None
    key: str = ""
    frames: Frames = field(default_factory=dict)
    push: Push | None = None


_NOTHING: Final = _Emission(None)


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
            run = _Run(name, event, state, memory_fields(meter.ledger, name), opened, owner)
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
            "context": self.context(run.event),
        }
        returned = handler(**{name: offered[name] for name in inspect.signature(handler).parameters})
        return returned if returned is None or isinstance(returned, Reply) else Reply(returned)

    def _kept(self, run: _Run, returned: Reply | None, reads: Mapping[str, int]) -> Effects:
        try:
            written, removed = run.memory.written(), run.memory.removed()
            emission = self._emit(run, returned) if returned is not None else _NOTHING
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

    def _emit(self, run: _Run, reply: Reply) -> _Emission:
        """The emitted event, addressed; with it the state that is captured on this node, if any."""
        emitted = self._envelope(run.event, reply)
        frames = run.state.fields.frames()
        size_bytes = sum(map(len, frames.values()))
        successors = self.services.successors(emitted.type)
        now_s = self.clock.now_s()
        decision, runs_on = None, None  # while elect is silent, state stays here and the event finds its address later
        if successors is not None:
            decision, runs_on = successors.place(len(emitted.data) + size_bytes, now_s, run.opened.suspects)
        emitted = emitted.with_attributes(**{NODE: runs_on})
        if not frames:
            return _Emission(emitted)
        # Encoded, it is longer still: megabytes are not encoded only to find that.
        if size_bytes <= self.settings.inline_limit_bytes:
            inline = encode_inline(frames)
            carrying = emitted.with_attributes(**{STATE: inline})
            if len(inline) <= self.settings.inline_limit_bytes and _header_bytes(carrying) <= _MOST_HEADER_BYTES:
                return _Emission(carrying)
        node = decision.candidate.node if decision else self.settings.node
        key = StateKey.of_chain(emitted.chain, node, emitted.id)
        emitted = emitted.with_attributes(**{KEY: str(key)})
        stored = stored_frames(frames, successors.functions if successors else ())
        push = _push(key, decision, successors, size_bytes, now_s) if decision and successors else None
        return _Emission(emitted, redis_key(key), stored, push if node != self.settings.node else None)

    def _envelope(self, event: Event, reply: Reply) -> Event:
        """The emitted event but for its address and state; its id depends on the event and the function only."""
        event_type = reply.type or self.emits
        if event_type is None:
            raise FunctionError(
                f"function {self.function!r} returned a {type(reply.data).__name__} but emits no event type; "
                f"write Function({self.function!r}, emits=...) or return None"
            )
        now_s = self.clock.now_s()
        event_id = derived_id(event_name(event), self.function)  # the same wherever the event was made
        try:
            body, content_type = encode_data(reply.data)
        except (TypeError, ValueError) as error:
            raise FunctionError(f"function {self.function!r} returned what is no JSON: {error}") from None
        inherited = {} if reply.new_chain else event.attributes
        attributes = {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/nodes/{self.settings.node}/functions/{self.function}",
            "type": event_type,
            "time": rfc3339(now_s),
            "subject": reply.subject or event.subject,
            "datacontenttype": reply.content_type or content_type,
            CHAIN: event_id if reply.new_chain else event.chain,
            CAUSE: event.id,
            PARTITION: reply.partition or event.attributes.get(PARTITION),
            EPOCH: str(self.context(event).epoch),
            POLICY: self.settings.policy,
            EXPIRY: inherited.get(EXPIRY) or rfc3339(now_s + self.settings.state_ttl_s),
            TRACE: traceparent() or event.attributes.get(TRACE),
        }
        emitted = Event({name: value for name, value in attributes.items() if value}, body)
        try:
            to_http(emitted)  # what cannot be sent must not be recorded as this run's reply
        except InvalidEvent as error:
            raise FunctionError(f"function {self.function!r} returned what is no event: {error}") from None
        return emitted


def _header_bytes(event: Event) -> int:
    """What an event's attributes take as HTTP headers, in percent-encoding where that is needed."""
    headers, _ = to_http(event)
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers.items())


def _push(key: StateKey, decision: Decision, successors: Successors, size_bytes: int, now_s: float) -> Push:
    candidate = decision.candidate
    return Push(
        key=str(key),
        to=candidate.node,
        policy=decision.policy,
        predicted_ms=candidate.move_time_ms(size_bytes),
        hops=candidate.hops,
        bottleneck_mbps=candidate.bottleneck_mbps,
        objective_ms=successors.max_latency_ms,
        size_bytes=size_bytes,
        refused=decision.refused,
        captured_s=now_s,
    )


def _record(event: Event) -> bytes:
    return json.dumps(dict(event.attributes)).encode() + b"\n" + event.data


def _recorded(reply: bytes) -> Event | None:
    """The event of a recorded reply; an empty record stands for "nothing emitted"."""
    if not reply:
        return None
    head, _, data = reply.partition(b"\n")
    return Event(json.loads(head), data)
