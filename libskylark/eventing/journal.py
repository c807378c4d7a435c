"""The journal: one record for every event that was sent to a broker, and one for the outcome of each delivery of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import orjson

from libskylark.timing import Timing

KEY: Final = "broker:journal"
FIRST: Final = "0-0"  # the position before the first record
CAP: Final = 20_000  # records kept, about

OutcomeName = Literal["delivered", "replied", "forwarded", "readdressed", "dead-lettered", "expired"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that a broker took; `to` names the triggers that want it, and is empty where none does.

    The others of the broker's Triggers filtered it: those of `generation` (see generations.py), without these.
    """

    event: str
    source: str
    type: str
    chain: str
    cause: str | None
    to: tuple[str, ...]
    time: str
    hop: bool = False  # handed over for one Trigger, by another node's broker or out of the dead letters
    broker: str = ""  # namespace/name; empty with `generation` where a hop, or a record of old, does not tell
    generation: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An event that a broker took for one it has already, and did nothing more with."""

    event: str
    source: str
    type: str
    chain: str
    broker: str
    time: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one delivery ended: exactly one for every trigger of an accepted event."""

    event: str
    chain: str
    type: str
    trigger: str
    outcome: OutcomeName
    status: int  # of the last answer; 0 where none came
    attempts: int
    reply: str | None  # id of the event that came back
    duration_ms: float
    time: str
    reason: str = ""
    reply_chain: str = ""  # of a reply that began a chain of its own
    timings: tuple[Timing, ...] = ()  # what the run that answered says of its reads of state and memory
    dead_letter_to: str | None = None  # the sink that took it; empty where the node keeps it; None in records of old


Record = Accepted | Duplicate | Outcome

_BEGINNINGS: Final = {
    Accepted: b'{"kind":"accepted",',
    Duplicate: b'{"kind":"duplicate",',
    Outcome: b'{"kind":"outcome",',
}


class Reader(Protocol):
    """The commands that reading takes; a synchronous redis client has them."""

    def xread(self, streams: Any, count: int | None = None, block: int | None = None) -> Any: ...

    def xrevrange(self, name: Any, *, count: int | None = None) -> Any: ...


def encode(record: Record) -> bytes:
    """The JSON object that the stream's `record` field holds."""
    return _BEGINNINGS[type(record)] + orjson.dumps(record)[1:]


def decode(text: str | bytes) -> Record:
    """The record of a JSON object; raises ValueError or TypeError for what is none."""
    fields = json.loads(text)
    kind = fields.pop("kind")
    if kind == "accepted":
        return Accepted(**{**fields, "to": tuple(fields["to"])})
    if kind == "duplicate":
        return Duplicate(**fields)
    timings = tuple(Timing(**timing) for timing in fields.get("timings", ()))
    return Outcome(**{**fields, "timings": timings})


def read_journal(client: Reader, after_id: str = FIRST, block_ms: int = 0) -> list[tuple[str, Record]]:
    """(position, record) of up to 1,000 records after a position; waits up to `block_ms` for the first.

    Errors of the client are not caught.
    """
    answer = client.xread({KEY: after_id}, count=1000, block=block_ms or None)
    if not answer:
        return []
    # redis-py answers with a list of pairs, or with a mapping where RESP3 was asked for.
    entries = next(iter(answer.values()))[0] if isinstance(answer, Mapping) else answer[0][1]
    return [(as_text(position), decode(_record_of(fields))) for position, fields in entries]


def end_of_journal(client: Reader) -> str:
    """The position of the last record now; errors of the client are not caught."""
    last = client.xrevrange(KEY, count=1)
    return as_text(last[0][0]) if last else FIRST


def _record_of(fields: Mapping[Any, Any]) -> str | bytes:
    record: str | bytes = next(iter(fields.values()))
    return record


def as_text(value: str | bytes) -> str:
    """What a client of Redis answers, be it one that decodes or one that does not."""
    return value.decode() if isinstance(value, bytes) else value
