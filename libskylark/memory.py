"""Memory: what a function keeps between events, per partition, versioned; and the one commit of a run's effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from libskylark.event import Event
from libskylark.fields import Fields, Frames
from libskylark.store import RedisClient, Store

_VERSION = ""  # the field of a memory's hash that holds its version; no user's field has an empty name
COUNTERS = "skylark:counters"


@dataclass(frozen=True, slots=True)
class MemoryName:
    """Which memory: a function's, for one partition."""

    function: str
    partition: str

    def __str__(self) -> str:
        return f"{self.function}:{self.partition}"


@dataclass(frozen=True, slots=True)
class Opened:
    """A memory as a run finds it: its version, and the reply recorded if the event was handled before."""

    version: int
    reply: bytes | None


@dataclass(frozen=True)
class Effects:
    """Everything that one run changes, to be committed together."""

    name: MemoryName
    event: Event
    reply: bytes
    now_ms: int
    window_ms: int
    read_version: int | None
    memory_written: Frames = field(default_factory=dict)
    memory_removed: frozenset[str] = frozenset()
    state_key: str = ""
    state: Frames = field(default_factory=dict)
    state_ttl_ms: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """`reply` is the recorded one where the event turned out a duplicate."""

    duplicate: bool
    reply: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """Someone else wrote the memory after it was read; `found` is its version now."""

    found: int


class Ledger(Protocol):
    """Where memories and recorded replies are kept: Redis, or a dict in a function author's tests."""

    def open(self, name: MemoryName, event: Event) -> Opened: ...

    def load(self, name: MemoryName, field: str | None) -> Frames: ...

    def commit(self, effects: Effects) -> Committed | Conflict: ...


def event_name(event: Event) -> str:
    """What identifies an event (CloudEvents 1.0, section 3.1.1): source and id together."""
    return f"{event.source} {event.id}"


def memory_fields(ledger: Ledger, name: MemoryName) -> Fields:
    """The memory as the handler's mapping."""
    return Fields(lambda field: ledger.load(name, field))


class RedisLedger:
    """The ledger in a node's Redis; raises StoreUnavailable where that does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, name: MemoryName, event: Event) -> Opened:
        def read(client: RedisClient) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            pipeline.hget(_memory_key(name), _VERSION)
            pipeline.hget(_replies_key(name), event_name(event))
            return pipeline.execute()

        version, reply = self._store.run(read)
        return Opened(int(version or 0), reply)

    def load(self, name: MemoryName, field: str | None) -> Frames:
        return read_hash(self._store, _memory_key(name), field)

    def commit(self, effects: Effects) -> Committed | Conflict:
        keys = [
            _memory_key(effects.name),
            _replies_key(effects.name),
            f"replytimes:{effects.name}",
            COUNTERS,
            effects.state_key or "state:",
        ]
        arguments: list[Any] = [
            event_name(effects.event),
            effects.reply,
            effects.now_ms,
            effects.window_ms,
            "" if effects.read_version is None else effects.read_version,
            effects.state_ttl_ms,
            *_listed(_flat(effects.memory_written)),
            *_listed(list(effects.memory_removed)),
            *_listed(_flat(effects.state)),
            *_listed(_flat(effects.counters)),
        ]
        word, value = self._store.run_script("commit", keys, arguments)
        if word == b"conflict":
            return Conflict(int(value))
        return Committed(word == b"duplicate", value if word == b"duplicate" else effects.reply)


def read_hash(store: Store, key: str, field: str | None) -> dict[str, bytes]:
    """One field of a hash of frames, or all of them for None; what is not there is left out."""
    # redis-py's hints allow for clients that decode answers; ours never do.
    if field is not None:
        frame: Any = store.run(lambda client: client.hget(key, field))
        return {} if frame is None else {field: frame}
    stored: Any = store.run(lambda client: client.hgetall(key))
    return {name.decode(): frame for name, frame in stored.items() if name != _VERSION.encode()}


def _memory_key(name: MemoryName) -> str:
    return f"memory:{name}"


def _replies_key(name: MemoryName) -> str:
    return f"replies:{name}"


def _flat(pairs: Mapping[str, Any]) -> list[Any]:
    return [item for pair in pairs.items() for item in pair]


def _listed(items: list[Any]) -> list[Any]:
    return [len(items), *items]
