"""What a node's mover is to do, as entries of a stream in the node's Redis; and the record of every finished move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Discriminator, TypeAdapter, ValidationError

from libskylark.errors import CodecError
from libskylark.store import RedisClient, Store

JOBS: Final = "skylark:jobs"
MOVES: Final = "skylark:moves"
MOVES_CAP: Final = 2000

_STRICT: Final = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")

Refusals = tuple[tuple[str, str], ...]
"""Candidates that were passed over, each with the reason."""


@dataclass(frozen=True)
class Push:
    """Copy the bundle under `key` from this node's Redis to the node `to`; done when that node has answered.

    `size_bytes` is the bundle's size uncompressed, `captured_s` the Unix time of the commit that wrote it;
    `bottleneck_mbps` is None where no link is known to be on the way.
    """

    key: str
    to: str
    policy: str
    predicted_ms: float
    hops: int
    bottleneck_mbps: float | None
    objective_ms: float
    size_bytes: int
    refused: Refusals
    captured_s: float
    job: Literal["push"] = "push"
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class Retire:
    """Take the function `reader` off the readers of the bundle `key` on the node `at`; without readers it goes."""

    key: str
    at: str
    reader: str
    job: Literal["retire"] = "retire"
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class Emit:
    """Give an event to the node's own broker, again and again until it is taken."""

    attributes: dict[str, str]
    data: str
    job: Literal["emit"] = "emit"
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


Job = Push | Retire | Emit


@dataclass(frozen=True)
class MoveRecord:
    """One finished move of state or memory, predicted and measured.

    `sent_bytes` is what went over the link (after compression); `measured_ms` runs from the capture to the
    acknowledgement. `met` is None where there was no objective. `details` has figures of the kind of move.
    """

    kind: Literal["state", "memory"]
    what: str
    source: str
    target: str
    policy: str
    size_bytes: int
    sent_bytes: int
    hops: int
    predicted_ms: float
    measured_ms: float
    objective_ms: float | None
    met: bool | None
    refused: Refusals
    finished_s: float
    details: dict[str, float] = field(default_factory=dict)
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


_JOB: Final[TypeAdapter[Job]] = TypeAdapter(
    Annotated[Job, Discriminator("job")], config=ConfigDict(ser_json_inf_nan="constants")
)
_MOVE: Final = TypeAdapter(MoveRecord)


def encode(job: Job) -> str:
    """The JSON of a job, as the field `job` of its entry in `JOBS`."""
    return _JOB.dump_json(job).decode()


def decode(text: str | bytes) -> Job:
    """The inverse of `encode`; raises CodecError for what is no job, or has a field missing, wrong or too many."""
    try:
        return _JOB.validate_json(text)
    except ValidationError as error:
        raise CodecError(f"found no job: {_first(error)}") from None


def encode_move(record: MoveRecord) -> str:
    """The JSON of a record, as the field `move` of its entry in `MOVES`."""
    return _MOVE.dump_json(record).decode()


def record_move(store: Store, record: MoveRecord) -> None:
    """Adds a record to the node's moves, of which the latest are kept; raises StoreUnavailable."""
    text = encode_move(record)
    store.run(lambda client: client.xadd(MOVES, {"move": text}, maxlen=MOVES_CAP, approximate=True))


def read_moves(store: Store, count: int) -> list[MoveRecord]:
    """The last `count` moves of a node, oldest first; raises StoreUnavailable, CodecError."""

    def read(client: RedisClient) -> Any:
        return client.xrevrange(MOVES, count=count)

    return [_move(entry.get(b"move", b"")) for _, entry in reversed(store.run(read))]


def read_moves_after(store: Store, position: str, count: int) -> list[tuple[str, MoveRecord]]:
    """(position, record) of up to `count` moves of a node after a position ("0-0": from the first one that is there).

    Raises StoreUnavailable, CodecError.
    """

    def read(client: RedisClient) -> Any:
        return client.xrange(MOVES, f"({position}", count=count)

    return [(found.decode(), _move(entry.get(b"move", b""))) for found, entry in store.run(read)]


def _move(text: bytes) -> MoveRecord:
    try:
        return _MOVE.validate_json(text)
    except ValidationError as error:
        raise CodecError(f"found no record of a move: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else fault["msg"]
