"""Where memory and state live now: one look at a node's store, and what the looks at all nodes say together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from libskylark.errors import KeyFormatError
from libskylark.eventing.journal import FIRST
from libskylark.jobs import MOVES
from libskylark.key import StateKey
from libskylark.lab.census import NodeCounts, count_node, sum_reads
from libskylark.memory import MemoryKeys, MemoryName, Owner, read_owner
from libskylark.ownership import MEMORIES
from libskylark.state import INLINE, LOCAL, REMOTE
from libskylark.store import RedisClient, Store

_SCAN_COUNT: Final = 2000  # keys of one look: a node with more is not read to the end
_MOST_SHOWN: Final = 40  # bundles of state that are named
_PLACES: Final = (INLINE, LOCAL, REMOTE)
_COPY: Final = "copy:owner:"  # a copy that is being sent to a node has such a key (scripts/receive.lua)


class Size(NamedTuple):
    """Of a memory in Redis, bytes: its fields, and the replies that are recorded with it and go where it goes."""

    fields_bytes: int = 0
    replies_bytes: int = 0


@dataclass(frozen=True)
class Held:
    """What one node's store holds. `last_move` is the position of its latest record of a move; `memories` are there
    with their sizes, `owners` what it knows of those which are anchored, `copies` those that are being sent to it."""

    counts: NodeCounts
    last_move: str
    memories: dict[MemoryName, Size] = field(default_factory=dict)
    owners: dict[MemoryName, Owner] = field(default_factory=dict)
    copies: frozenset[MemoryName] = frozenset()
    states: tuple[StateKey, ...] = ()
    is_partial: bool = False


def look(store: Store) -> Held:
    """Three round trips, whatever the store holds; raises StoreUnavailable."""
    counts = count_node(store)

    def read(client: RedisClient) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.xrevrange(MOVES, count=1)
        pipeline.smembers(MEMORIES)
        pipeline.scan(0, count=_SCAN_COUNT)
        return pipeline.execute()

    last, anchored, (more, keys) = store.run(read)
    memories, copies, states = _sorted_out(sorted(key.decode(errors="replace") for key in keys))
    named = [MemoryName(*text.decode().split(":", 1)) for text in sorted(anchored)]

    def size_up(client: RedisClient) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for keys in map(MemoryKeys, memories):
            pipeline.memory_usage(keys.memory)
            pipeline.memory_usage(keys.replies)
        for name in named:
            pipeline.hmget(MemoryKeys(name).owner, "phase", "node", "epoch")
        return pipeline.execute()

    told = store.run(size_up) if memories or named else []
    sizes = [size or 0 for size in told[: 2 * len(memories)]]  # None: the key has gone meanwhile, or never was
    owners = [read_owner(answer) for answer in told[2 * len(memories) :]]
    return Held(
        counts,
        last[0][0].decode() if last else FIRST,
        {name: Size(*pair) for name, pair in zip(memories, zip(sizes[::2], sizes[1::2], strict=True), strict=True)},
        {name: owner for name, owner in zip(named, owners, strict=True) if owner is not None},
        frozenset(copies),
        tuple(states),
        bool(more),
    )


def _sorted_out(keys: list[str]) -> tuple[list[MemoryName], list[MemoryName], list[StateKey]]:
    memories, copies, states = list[MemoryName](), list[MemoryName](), list[StateKey]()
    for key in keys:
        kind, _, rest = key.partition(":")
        if kind == "memory":
            memories.append(MemoryName(*_two(rest)))
        elif key.startswith(_COPY):
            copies.append(MemoryName(*_two(key.removeprefix(_COPY))))
        elif kind == "state":
            try:
                states.append(StateKey.parse(rest))
            except KeyFormatError:
                continue
    return memories, copies, states


def _two(text: str) -> tuple[str, str]:
    function, _, partition = text.partition(":")
    return function, partition


class Places:
    """What the last looks at all nodes tell; not safe for several threads. Only memory of `functions` counts."""

    def __init__(self, functions: frozenset[str]) -> None:
        self._functions = functions
        self._held: dict[str, Held] = {}
        self._silent: dict[str, str] = {}

    def saw(self, node: str, held: Held) -> None:
        self._held[node] = held
        self._silent.pop(node, None)

    def heard_nothing(self, node: str, reason: str) -> None:
        self._silent[node] = reason

    def node(self, node: str) -> dict[str, Any]:
        """What waits on a node, how state was read there, and how many bundles of state it holds."""
        held = self._held.get(node)
        counts = asdict(held.counts) if held else {"waiting": None, "dead_letters": None, "moving": None}
        return {
            "fault": self._silent.get(node),
            "states": len(held.states) if held else 0,
            "states_are_partial": held is not None and held.is_partial,
            "reads": dict.fromkeys(_PLACES, 0),
            **counts,
        }

    def states(self, node: str) -> list[dict[str, str]]:
        """The bundles of a node, as many as are shown."""
        held = self._held.get(node)
        return [asdict(key) for key in held.states[:_MOST_SHOWN]] if held else []

    def memories(self) -> list[dict[str, Any]]:
        """Every memory of a function, where it is, in which phase, and where it goes to."""
        names = {name for held in self._held.values() for name in [*held.memories, *held.owners]}
        shown = sorted((name for name in names if name.function in self._functions), key=str)
        return [told for name in shown for told in self._placed(name)]

    def _placed(self, name: MemoryName) -> list[dict[str, Any]]:
        owned = {node: held.owners[name] for node, held in self._held.items() if name in held.owners}
        serving = [(owner.epoch, node) for node, owner in owned.items() if owner.phase in ("owned", "leaving")]
        if not owned:
            return [self._told(name, node, "kept") for node, held in self._held.items() if name in held.memories]
        if not serving:
            return []  # it changed hands between the looks at two nodes: the next look finds it
        _, node = max(serving)
        owner = owned[node]
        if owner.phase == "leaving":
            return [self._told(name, node, "leaving", owner.node, owner.epoch)]
        copied = [target for target, held in self._held.items() if target != node and name in held.copies]
        if copied:
            return [self._told(name, node, "copying", copied[0], owner.epoch)]
        return [self._told(name, node, "owned", None, owner.epoch)]

    def _told(
        self, name: MemoryName, node: str, phase: str, to: str | None = None, epoch: int | None = None
    ) -> dict[str, Any]:
        return {
            "function": name.function,
            "partition": name.partition,
            "node": node,
            "phase": phase,
            "to": to,
            "epoch": epoch,
            **self._held[node].memories.get(name, Size())._asdict(),
        }

    def reads(self) -> dict[str, int]:
        """Reads of state by place, over all nodes."""
        return sum_reads(held.counts for held in self._held.values())
