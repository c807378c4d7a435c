"""What leaves a function: the event of its reply, addressed to its successor, and the state that goes there too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from libskylark.clock import Clock, rfc3339
from libskylark.config import NodeSettings
from libskylark.errors import FunctionError, InvalidEvent
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
from libskylark.jobs import Push
from libskylark.key import StateKey
from libskylark.memory import event_name
from libskylark.nodeservices import Successors
from libskylark.policy import Decision
from libskylark.state import encode_inline, redis_key, stored_frames
from libskylark.tracing import traceparent

# Many servers and proxies take 8 KiB of headers, and what is on the way adds some of its own. State rides inside the
# event only where its other attributes leave the room.
_MOST_HEADER_BYTES: Final = 7168


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
class Emission:
    """What leaves: the event, the state captured on this node under a key, and its push to the successor."""

    event: Event | None
    key: str = ""
    frames: Frames = field(default_factory=dict)
    push: Push | None = None


NOTHING: Final = Emission(None)


class Emitter:
    """Makes the events that one function emits on one node; threads may share it."""

    def __init__(self, function: str, emits: str | None, settings: NodeSettings, clock: Clock) -> None:
        self._function = function
        self._emits = emits
        self._settings = settings
        self._clock = clock

    def emit(
        self,
        event: Event,
        epoch: int,
        reply: Reply,
        state: Fields,
        ask: Callable[[str], Successors | None],
        suspects: Collection[str],
    ) -> Emission:
        """The event of a reply to `event`, addressed; with it what of `state` is captured on this node.

        `ask` names the successors for events of a type, or none while elect is silent; `suspects` are nodes that do
        not answer. Raises FunctionError for a reply that cannot be sent, CodecError for state that cannot be kept.
        """
        emitted = self._envelope(event, epoch, reply)
        frames = state.frames()
        size_bytes = sum(map(len, frames.values()))
        successors = ask(emitted.type)
        now_s = self._clock.now_s()
        decision, runs_on = None, None  # while elect is silent, state stays here and the event finds its address later
        if successors is not None:
            decision, runs_on = successors.place(len(emitted.data) + size_bytes, now_s, suspects)
        emitted = emitted.with_attributes(**{NODE: runs_on})
        if not frames:
            return Emission(emitted)
        # Encoded, it is longer still: megabytes are not encoded only to find that.
        if size_bytes <= self._settings.inline_limit_bytes:
            inline = encode_inline(frames)
            carrying = emitted.with_attributes(**{STATE: inline})
            if len(inline) <= self._settings.inline_limit_bytes and _header_bytes(carrying) <= _MOST_HEADER_BYTES:
                return Emission(carrying)
        node = decision.candidate.node if decision else self._settings.node
        key = StateKey.of_chain(emitted.chain, node, emitted.id)
        emitted = emitted.with_attributes(**{KEY: str(key)})
        stored = stored_frames(frames, successors.functions if successors else ())
        push = _push(key, decision, successors, size_bytes, now_s) if decision and successors else None
        return Emission(emitted, redis_key(key), stored, push if node != self._settings.node else None)

    def _envelope(self, event: Event, epoch: int, reply: Reply) -> Event:
        """The emitted event but for its address and state; its id depends on the event and the function only."""
        event_type = reply.type or self._emits
        if event_type is None:
            raise FunctionError(
                f"function {self._function!r} returned a {type(reply.data).__name__} but emits no event type; "
                f"write Function({self._function!r}, emits=...) or return None"
            )
        now_s = self._clock.now_s()
        event_id = derived_id(event_name(event), self._function)  # the same wherever the event was made
        try:
            body, content_type = encode_data(reply.data)
        except (TypeError, ValueError) as error:
            raise FunctionError(f"function {self._function!r} returned what is no JSON: {error}") from None
        inherited = {} if reply.new_chain else event.attributes
        attributes = {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/nodes/{self._settings.node}/functions/{self._function}",
            "type": event_type,
            "time": rfc3339(now_s),
            "subject": reply.subject or event.subject,
            "datacontenttype": reply.content_type or content_type,
            CHAIN: event_id if reply.new_chain else event.chain,
            CAUSE: event.id,
            PARTITION: reply.partition or event.attributes.get(PARTITION),
            EPOCH: str(epoch),
            POLICY: self._settings.policy,
            EXPIRY: inherited.get(EXPIRY) or rfc3339(now_s + self._settings.state_ttl_s),
            TRACE: traceparent() or event.attributes.get(TRACE),
        }
        emitted = Event({name: value for name, value in attributes.items() if value}, body)
        try:
            to_http(emitted)  # what cannot be sent must not be recorded as this run's reply
        except InvalidEvent as error:
            raise FunctionError(f"function {self._function!r} returned what is no event: {error}") from None
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
