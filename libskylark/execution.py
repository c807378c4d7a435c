"""One event through one handler: read, run, choose the successor, and commit all effects together or none."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from libskylark.clock import Clock, Ticks, rfc3339
from libskylark.config import NodeSettings
from libskylark.errors import (
    CodecError,
    ElectionError,
    FunctionError,
    InvalidEvent,
    MemoryConflict,
    StoreUnavailable,
    UnknownNode,
)
from libskylark.event import (
    CAUSE,
    CHAIN,
    EPOCH,
    EXPIRY,
    KEY,
    NODE,
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
from libskylark.key import StateKey
from libskylark.memory import Committed, Effects, Ledger, MemoryName, memory_fields
from libskylark.nodeservices import Successors
from libskylark.state import IncomingState, States, encode_inline, incoming_state, redis_key

log = logging.getLogger("skylark.function")

Handler = Callable[..., Any]
PARAMETERS: Final = ("event", "state", "memory", "context")

# A handler whose memory was written by another run meanwhile starts over, at most so often.
_RUNS: Final = 5


class Services(Protocol):
    """What an execution asks of the node (see nodeservices.NodeServices)."""

    def successors(self, event_type: str) -> Successors | None: ...

    def access(self, epoch: int) -> str: ...


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
    """The emitted event, if any; whether it is a recorded one; where the state was read."""

    reply: Event | None
    duplicate: bool
    reads: dict[str, int]


@dataclass(frozen=True)
class _Run:
    """One try of a handler: what it reads, and the version of the memory that it reads."""

    name: MemoryName
    event: Event
    state: IncomingState
    memory: Fields
    version: int


@dataclass(frozen=True)
class _Emission:
    """What leaves: the event, and state that stays on this node under a key."""

    event: Event | None
    key: StateKey | None = None
    frames: Frames = field(default_factory=dict)


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
    ) -> None:
        self.function = function
        self.emits = emits
        self.settings = settings
        self.ledger = ledger
        self.states = states
        self.services = services
        self.clock = clock
        self._ticks = Ticks(settings.tick_s)
        self._state_ttl_ms = int(settings.state_ttl_s * 1000)

    def run(self, handler: Handler, event: Event) -> Result:
        """Raises what the handler raises, MemoryConflict after several runs, StoreError where a store fails."""
        name = MemoryName(self.function, event.partition or self.function)
        for _ in range(_RUNS):
            opened = self.ledger.open(name, event)
            if opened.reply is not None:
                return Result(_recorded(opened.reply), True, {})
            state = incoming_state(event, self.settings.node, self.states)
            run = _Run(name, event, state, memory_fields(self.ledger, name), opened.version)
            returned = self._call(handler, run)
            reads = state.reads()  # before the rest of the state is fetched, only to be carried on
            try:
                effects = self._effects(run, returned, reads)
            except CodecError as error:  # of what the handler wrote: no fault of the event
                raise FunctionError(f"function {self.function!r} left a value that cannot be kept: {error}") from None
            outcome = self.ledger.commit(effects)
            if isinstance(outcome, Committed):
                return Result(_recorded(outcome.reply), outcome.duplicate, reads)
            log.info("memory %s changed under event %s: running it again", name, event.id)
            conflict = MemoryConflict(str(name), opened.version, outcome.found)
        raise conflict

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

    def _effects(self, run: _Run, returned: Reply | None, reads: dict[str, int]) -> Effects:
        written, removed = run.memory.written(), run.memory.removed()
        emission = self._emit(run, returned) if returned is not None else _NOTHING
        counters = {f"reads:{place}": count for place, count in reads.items()}
        return Effects(
            name=run.name,
            event=run.event,
            reply=_record(emission.event) if emission.event else b"",
            now_ms=int(self.clock.now_s() * 1000),
            window_ms=int(self.settings.duplicate_window_s * 1000),
            read_version=run.version if run.memory.touched or written or removed else None,
            memory_written=written,
            memory_removed=frozenset(removed),
            state_key=redis_key(emission.key) if emission.key else "",
            state=emission.frames,
            state_ttl_ms=self._state_ttl_ms,
            counters={**counters, f"runs:{self.function}": 1},
        )

    def _emit(self, run: _Run, reply: Reply) -> _Emission:
        """The emitted event, addressed; with it the state that is to be kept on this node, if any."""
        emitted = self._envelope(run.event, reply)
        frames = run.state.fields.frames()
        storage, runs_on = self._choose(emitted.type, len(emitted.data) + sum(map(len, frames.values())))
        emitted = emitted.with_attributes(**{NODE: runs_on})
        if not frames:
            return _Emission(emitted)
        inline = encode_inline(frames)
        if len(inline) <= self.settings.inline_limit_bytes:
            return _Emission(emitted.with_attributes(**{STATE: inline}))
        key = self._forward(StateKey.of_chain(emitted.chain, storage, emitted.id), frames)
        emitted = emitted.with_attributes(**{KEY: str(key)})
        return _Emission(emitted, key, frames) if key.node == self.settings.node else _Emission(emitted)

    def _choose(self, event_type: str, size_bytes: int) -> tuple[str, str | None]:
        """(node that gets the state, node that runs the next function: None where nobody can say)."""
        successors = self.services.successors(event_type)
        if successors is None:
            return self.settings.node, None
        decision, runs_on = successors.choose(size_bytes)
        return decision.candidate.node, runs_on

    def _forward(self, key: StateKey, frames: Frames) -> StateKey:
        """Pushes state to the node of `key`; where that fails the state stays here, under the key returned."""
        if key.node != self.settings.node:
            try:
                self.states.push(key, frames, self._state_ttl_ms)
                return key
            except (StoreUnavailable, UnknownNode, ElectionError) as error:
                log.warning("state of chain %s stays on %s: %s", key.chain, self.settings.node, error)
        return StateKey(key.chain, self.settings.node, key.task)

    def _envelope(self, event: Event, reply: Reply) -> Event:
        """The emitted event but for its address and state; its id depends on the event and the function only."""
        event_type = reply.type or self.emits
        if event_type is None:
            raise FunctionError(
                f"function {self.function!r} returned a {type(reply.data).__name__} but emits no event type; "
                f"write Function({self.function!r}, emits=...) or return None"
            )
        now_s = self.clock.now_s()
        event_id = derived_id(event.source, event.id, self.function)
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
            TRACE: event.attributes.get(TRACE),
        }
        emitted = Event({name: value for name, value in attributes.items() if value}, body)
        try:
            to_http(emitted)  # what cannot be sent must not be recorded as this run's reply
        except InvalidEvent as error:
            raise FunctionError(f"function {self.function!r} returned what is no event: {error}") from None
        return emitted


def _record(event: Event) -> bytes:
    return json.dumps(dict(event.attributes)).encode() + b"\n" + event.data


def _recorded(reply: bytes) -> Event | None:
    """The event of a recorded reply; an empty record stands for "nothing emitted"."""
    if not reply:
        return None
    head, _, data = reply.partition(b"\n")
    return Event(json.loads(head), data)
