"""What the broker stores of an event, and what it keeps in memory while deliveries are outstanding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from libskylark.clock import Clock
from libskylark.errors import InvalidEvent
from libskylark.event import EXPIRY, PARTITION, Event

#: How many more times the event, or an answer, may enter a broker; taken off before anybody else gets the event.
TTL: Final = "knativebrokerttl"
#: When the broker took the event, in RFC 3339; on every delivery.
ARRIVAL: Final = "knativearrivaltime"
#: Of a dead letter: the subscriber that did not take the event.
ERROR_DEST: Final = "knativeerrordest"
#: Of a dead letter: the status of the last answer; 500 where none came.
ERROR_CODE: Final = "knativeerrorcode"
#: Of a dead letter: the beginning of the last answer's body, in base64.
ERROR_DATA: Final = "knativeerrordata"
DEFAULT_TTL: Final = 255

# What an entry takes in memory beside its data, roughly: attributes, headers, Python's own objects.
_OVERHEAD_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Content:
    """An accepted event: without the TTL attribute, with the headers that are passed on to subscribers."""

    event: Event
    ttl: int  # how many more times it, or an answer, may enter a broker
    arrived_s: float  # Unix seconds
    headers: Mapping[str, str]
    chain: str
    hop: bool = False  # came from another node's broker: to be delivered here, not forwarded again

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, here or in Redis, roughly."""
        return size_of(len(self.event.data))


@dataclass(frozen=True, slots=True)
class Once:
    """How an event that is taken once only is known again: by a digest, for so long; else `record` is kept of it."""

    digest: bytes
    window_ms: int
    record: bytes


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that is about to be stored; one that no trigger wants leaves a journal record only."""

    content: Content
    triggers: tuple[str, ...]
    record: bytes
    once: Once | None = None

    @property
    def outcome(self) -> str:
        """What becomes of it, as the metrics have it, unless it is a duplicate."""
        return "accepted" if self.triggers else "unwanted"

    def was_stored_as(self, ids: Sequence[str]) -> bool:
        """Whether these ids, which storing it gave, say that it was new."""
        return bool(ids[0] or not self.triggers)


@dataclass(slots=True)
class Entry:
    """A stored entry; its content is kept while memory allows, and read again from Redis where it was not."""

    id: str
    partition: str | None
    remaining: set[str]
    content: Content | None
    size_bytes: int  # of its content
    done: list[str] = field(default_factory=list)


def size_of(data_bytes: int) -> int:
    """What an entry with so much data takes in memory, roughly."""
    return data_bytes + _OVERHEAD_BYTES


def pack(new: NewEntry) -> list[Any]:
    """Fields and values of the stream entry, in one flat list."""
    content = new.content
    fields: list[Any] = [
        "attributes",
        orjson.dumps(content.event.attributes),
        "data",
        content.event.data,
        "to",
        ",".join(new.triggers),
        "ttl",
        content.ttl,
        "headers",
        orjson.dumps(content.headers),
        "arrived",
        f"{content.arrived_s:.3f}",
        "chain",
        content.chain,
    ]
    if content.hop:
        fields += ["hop", "1"]
    return fields


def unpack(fields: Mapping[bytes, bytes]) -> tuple[Content, set[str]]:
    """The content of a stream entry, and the triggers it is for."""
    event = Event(orjson.loads(fields[b"attributes"]), fields[b"data"])
    content = Content(
        event=event,
        ttl=int(fields[b"ttl"]),
        arrived_s=float(fields[b"arrived"]),
        headers=orjson.loads(fields[b"headers"]),
        chain=fields[b"chain"].decode(),
        hop=b"hop" in fields,
    )
    return content, set(fields[b"to"].decode().split(","))


def partition_of(event: Event) -> str | None:
    """The key whose events are delivered in turn: the partitioning extension, and nothing else."""
    return event.attributes.get(PARTITION) or None


def ttl_of(attributes: Mapping[str, str]) -> int:
    """The TTL that an event arrives with; raises InvalidEvent where it is no number, or spent."""
    text = attributes.get(TTL)
    if text is None:
        return DEFAULT_TTL
    if not text.removeprefix("-").isdecimal() or len(text) > 10:
        raise InvalidEvent({TTL: f"found {text!r}, expected a whole number"})
    if int(text) <= 0:
        raise InvalidEvent({TTL: f"found {text}: the event has been through brokers too many times"})
    return int(text)


def expires_s(event: Event) -> float | None:
    """When the event expires, in Unix seconds; raises InvalidEvent for what is no RFC 3339 time."""
    text = event.attributes.get(EXPIRY)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidEvent({EXPIRY: f"found {text!r}, expected an RFC 3339 time with its zone"})
    return time.timestamp()


def seconds_left(event: Event, clock: Clock) -> float:
    """How long from now until the event expires; infinite for one that never does."""
    try:
        expiry_s = expires_s(event)
    except InvalidEvent:  # was checked when it arrived; a stored one from elsewhere just never expires
        expiry_s = None
    return math.inf if expiry_s is None else expiry_s - clock.now_s()
