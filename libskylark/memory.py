"""Memory: what a function keeps between events, per partition, versioned; and the one commit of a run's effects.

Memory stays on the node that wrote it, unless it is anchored: then it has one owner at a time (ownership.py), and
every commit is fenced by the epoch of that ownership.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from libskylark.errors import MemoryTorn
from libskylark.event import Event
from libskylark.fields import Fields, Frames
from libskylark.jobs import JOBS
from libskylark.store import RedisClient, Store

_VERSION: Final = ""  # the field of a memory's hash that holds its version; no user's field has an empty name
COUNTERS: Final = "skylark:counters"
SUSPECTS: Final = "skylark:suspects"  # nodes that failed their health probe: written by elect

_NODE: Final = re.compile(r"^/nodes/[^/]+")

Phase = Literal["owned", "leaving", "moved", "claiming"]


@dataclass(frozen=True, slots=True)
class MemoryName:
    """Which memory: a function's, for one partition."""

    function: str
    partition: str

    def __str__(self) -> str:
        return f"{self.function}:{self.partition}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns an anchored memory, as one node knows it, and since which epoch (see scripts/claim.lua)."""

    phase: Phase
    node: str
    epoch: int

    def serves(self, node: str) -> bool:
        """Whether `node` may write the memory now."""
        return self.phase == "owned" and self.node == node


@dataclass(frozen=True, slots=True)
class Opened:
    """A memory as a run finds it, with what else the node's Redis tells in the same round trip.

    `reply` is the one recorded if the event was handled before; `owner` is None for a memory that is not anchored,
    or whose owner this node does not know.
    """

    version: int
    reply: bytes | None
    owner: Owner | None = None
    suspects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Consumed:
    """State that a run has read: what its commit does to the copy on this node.

    `key` is the state key, empty where no copy is here and none will come; `reader` is the function's name; with
    `late` a push brings the copy, or brought it: one that comes later, or again, is to find a mark.
    """

    key: str = ""
    reader: str = ""
    late: bool = False


@dataclass(frozen=True)
class Effects:
    """Everything that one run changes, to be committed together."""

    name: MemoryName
    event: Event
    reply: bytes
    now_ms: int
    window_ms: int
    read_version: int | None
    owner_epoch: int | None = None  # of the ownership that the run started under; None: the memory is not anchored
    memory_written: Frames = field(default_factory=dict)
    memory_removed: frozenset[str] = frozenset()
    state_key: str = ""
    state: Frames = field(default_factory=dict)
    state_ttl_ms: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()
    consumed: Consumed = Consumed()


@dataclass(frozen=True, slots=True)
class Committed:
    """`reply` is the recorded one where the event turned out a duplicate."""

    duplicate: bool
    reply: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """Someone else wrote the memory after it was read; `found` is its version now."""

    found: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """This node does not own the memory, or not by the ownership that the run started under."""

    owner: Owner | None


class Ledger(Protocol):
    """Where memories and recorded replies are kept: Redis, or a dict in a function author's tests."""

    def open(self, name: MemoryName, event: Event) -> Opened: ...

    def load(self, name: MemoryName, fields: Sequence[str] | None) -> Frames: ...

    def commit(self, effects: Effects) -> Committed | Conflict | Fenced: ...


def event_name(event: Event) -> str:
    """What identifies an event (CloudEvents 1.0, section 3.1.1): source and id together.

    A function's event has its cause and the function in its id: where the same run was done over on another node,
    it is the same event, so the node is left out of the source.
    """
    return f"{_NODE.sub('', event.source)} {event.id}"


def memory_fields(ledger: Ledger, name: MemoryName) -> Fields:
    """The memory as the handler's mapping."""

    def torn(message: str) -> MemoryTorn:
        return MemoryTorn(f"memory {name}: {message}")

    return Fields(lambda fields: ledger.load(name, fields), torn)


class RedisLedger:
    """The ledger in a node's Redis; raises StoreUnavailable where that does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, name: MemoryName, event: Event) -> Opened:
        keys = MemoryKeys(name)

        def read(client: RedisClient) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            pipeline.hget(keys.memory, _VERSION)
            pipeline.hget(keys.replies, event_name(event))
            pipeline.hmget(keys.owner, "phase", "node", "epoch")
            pipeline.hkeys(SUSPECTS)
            return pipeline.execute()

        version, reply, owner, suspects = self._store.run(read)
        return Opened(int(version or 0), reply, read_owner(owner), frozenset(node.decode() for node in suspects))

    def load(self, name: MemoryName, fields: Sequence[str] | None) -> Frames:
        return read_hash(self._store, MemoryKeys(name).memory, fields)

    def commit(self, effects: Effects) -> Committed | Conflict | Fenced:
        keys, consumed = MemoryKeys(effects.name), effects.consumed
        places = [
            keys.memory,
            keys.replies,
            keys.times,
            COUNTERS,
            keys.owner,
            keys.changes,
            effects.state_key or "state:",
            JOBS,
            *(f"{kind}:{consumed.key}" for kind in ("state", "arrived", "retired")),
        ]
        arguments: list[Any] = [
            event_name(effects.event),
            effects.reply,
            effects.now_ms,
            effects.window_ms,
            "" if effects.read_version is None else effects.read_version,
            "" if effects.owner_epoch is None else effects.owner_epoch,
            effects.state_ttl_ms,
            consumed.reader if consumed.key else "",
            effects.state_ttl_ms if consumed.late else "",
            *_listed(_flat(effects.memory_written)),
            *_listed(list(effects.memory_removed)),
            *_listed(_flat(effects.state)),
            *_listed(_flat(effects.counters)),
            *_listed(list(effects.jobs)),
        ]
        word, *values = self._store.run_script("commit", places, arguments)
        if word == b"conflict":
            return Conflict(int(values[0]))
        if word == b"fenced":
            return Fenced(read_owner(values))
        return Committed(word == b"duplicate", values[0] if word == b"duplicate" else effects.reply)


class MemoryKeys:
    """The Redis keys of one memory; `scripts/commit.lua` says what each holds."""

    def __init__(self, name: MemoryName, prefix: str = "") -> None:
        self.memory, self.replies, self.times, self.changes, self.owner = (
            f"{prefix}{part}:{name}" for part in ("memory", "replies", "replytimes", "changes", "owner")
        )

    @property
    def content(self) -> list[str]:
        """All but the owner, in the order in which the scripts take them."""
        return [self.memory, self.replies, self.times, self.changes]


def known_owner(store: Store, name: MemoryName) -> Owner | None:
    """Who owns an anchored memory, as far as one node knows."""
    key = MemoryKeys(name).owner
    answer: Any = store.run(lambda client: client.hmget(key, "phase", "node", "epoch"))
    return read_owner(answer)


def read_owner(answer: list[bytes | None]) -> Owner | None:
    """The owner of phase, node and epoch as Redis answers them; None where it knows none."""
    phase, node, epoch = (value.decode() if value else "" for value in answer)
    return Owner(phase, node, int(epoch)) if phase else None  # type: ignore[arg-type]  # the scripts write phases only


def read_hash(store: Store, key: str, fields: Sequence[str] | None) -> dict[str, bytes]:
    """Fields of a hash of frames, or all of them for None; what is not there is left out."""
    # redis-py's hints allow for clients that decode answers; ours never do.
    if fields is not None:
        frames: Any = store.run(lambda client: client.hmget(key, *fields))
        return {field: frame for field, frame in zip(fields, frames, strict=True) if frame is not None}
    stored: Any = store.run(lambda client: client.hgetall(key))
    return {name.decode(): frame for name, frame in stored.items() if name != _VERSION.encode()}


def _flat(pairs: Mapping[str, Any]) -> list[Any]:
    return [item for pair in pairs.items() for item in pair]


def _listed(items: list[Any]) -> list[Any]:
    return [len(items), *items]
