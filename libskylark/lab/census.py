"""What the nodes' stores hold, counted: what waits, what moves, how state was read, and state that nobody will read."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from libskylark.errors import CodecError, KeyFormatError
from libskylark.event import KEY, Event, derived_id
from libskylark.eventing import journal
from libskylark.eventing.entry import unpack
from libskylark.eventing.keys import DEAD_LETTERS, EVENTS
from libskylark.jobs import JOBS, Emit, decode
from libskylark.key import StateKey
from libskylark.memory import COUNTERS, event_name
from libskylark.state import INLINE, LOCAL, REMOTE, redis_key
from libskylark.store import RedisClient, Store

_READS: Final = "reads:"  # in the name of a counter, before the place
_BUNDLES: Final = "state:"
_PAGE: Final = 32  # entries of a stream at once: an event may hold a picture
_SCAN_COUNT: Final = 1000
_PACE_S: Final = 0.05  # Redis tells nobody that a stream has become empty


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """Of one node: events and dead letters in the broker's streams, jobs of the mover, and reads of state by place."""

    waiting: int
    dead_letters: int
    moving: int
    reads: dict[str, int]


def count_node(store: Store) -> NodeCounts:
    """In one round trip; raises StoreUnavailable."""

    def read(client: RedisClient) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for stream in (EVENTS, DEAD_LETTERS, JOBS):
            pipeline.xlen(stream)
        pipeline.hgetall(COUNTERS)
        return pipeline.execute()

    waiting, dead_letters, moving, counters = store.run(read)
    reads = {name: int(counters.get(f"{_READS}{name}".encode(), 0)) for name in (INLINE, LOCAL, REMOTE)}
    return NodeCounts(waiting, dead_letters, moving, reads)


def sum_reads(counts: Iterable[NodeCounts]) -> dict[str, int]:
    """How often state was read inline, locally and remotely, over several nodes."""
    total = dict.fromkeys((INLINE, LOCAL, REMOTE), 0)
    for node in counts:
        for place, count in node.reads.items():
            total[place] += count
    return total


def wait_until_moved(stores: Iterable[Store], timeout_s: float) -> bool:
    """Until no mover has a job left; False where one still has after `timeout_s`. Raises StoreUnavailable."""
    deadline_s = time.monotonic() + timeout_s
    for store in stores:
        while count_node(store).moving:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_PACE_S)
    return True


def count_orphans(stores: Mapping[str, Store], functions: Collection[str]) -> dict[str, int]:
    """How many bundles of state each node has that nobody will read any more.

    Those whose chain has no event waiting in any broker's stream, and that no mover's job names. `functions` are
    the names of all that run. Raises StoreUnavailable where one node does not answer: its events may be the readers.
    """
    # While we look, events go from node to node, so that one may be missed in every stream. But it is accepted in the
    # next journal before it leaves the last stream: what all journals say since the start, read after the streams,
    # is what moved. An event's last delivery leaves jobs before it leaves the stream, so jobs are read after streams;
    # a job that is done by then has taken its bundle with it, which the last look at the bundles tells.
    positions = {node: store.run(journal.end_of_journal) for node, store in stores.items()}
    unread = _Unread(functions)
    for node, store in stores.items():
        unread.add(node, _bundles(store))
    for store in stores.values():
        for fields in _entries(store, EVENTS):
            unread.keep_for_entry(fields)
    for store in stores.values():
        for fields in _entries(store, JOBS):
            unread.keep_for_job(fields)
    for node, store in stores.items():
        for record in _records(store, positions[node]):
            unread.keep_for_record(record)
    return {node: _existing(store, unread.of(node)) for node, store in stores.items()}


class _Unread:
    """Bundles for which no reader has turned up yet."""

    def __init__(self, functions: Collection[str]) -> None:
        self._functions = functions
        self._nodes: dict[StateKey, set[str]] = defaultdict(set)
        self._by_chain: dict[str, set[StateKey]] = defaultdict(set)
        self._by_task: dict[str, set[StateKey]] = defaultdict(set)

    def add(self, node: str, keys: Iterable[StateKey]) -> None:
        for key in keys:
            self._nodes[key].add(node)
            self._by_chain[key.chain].add(key)
            self._by_task[key.task].add(key)

    def of(self, node: str) -> list[StateKey]:
        return [key for key, nodes in self._nodes.items() if node in nodes]

    def keep_for_entry(self, fields: Mapping[bytes, bytes]) -> None:
        try:
            content, _ = unpack(fields)
        except (KeyError, ValueError):
            return  # no broker's entry: nothing is delivered for it
        event = content.event
        self._keep_chains(content.chain, event.chain)
        # A run has written its bundle while the event that it handles waits still, and maybe for a chain of its own.
        for function in self._functions:
            self._keep(self._by_task.get(derived_id(event_name(event), function), ()))

    def keep_for_job(self, fields: Mapping[bytes, bytes]) -> None:
        try:
            job = decode(fields.get(b"job", b""))
            if isinstance(job, Emit):
                self._keep_chains(Event(job.attributes).chain)
            key = job.attributes.get(KEY) if isinstance(job, Emit) else job.key
            if key is not None:
                self._keep([StateKey.parse(key)])
        except (CodecError, KeyFormatError):
            return  # a job that the mover drops

    def keep_for_record(self, record: journal.Record) -> None:
        if isinstance(record, journal.Accepted):
            # An answer without a chain of its own is journalled under that of the request.
            self._keep_chains(record.chain, derived_id(record.source, record.event))

    def _keep_chains(self, *chains: str) -> None:
        for chain in chains:
            self._keep(self._by_chain.get(StateKey.of_chain(chain, "any", "any").chain, ()))

    def _keep(self, keys: Iterable[StateKey]) -> None:
        for key in keys:
            self._nodes.pop(key, None)


def _bundles(store: Store) -> list[StateKey]:
    """The keys of a node's bundles; a name that is no state key is none of Skylark's."""

    def scan(client: RedisClient) -> list[bytes]:
        return list(client.scan_iter(f"{_BUNDLES}*", count=_SCAN_COUNT))

    keys = []
    for name in store.run(scan):
        try:
            keys.append(StateKey.parse(name.decode().removeprefix(_BUNDLES)))
        except (KeyFormatError, UnicodeDecodeError):
            continue
    return keys


def _existing(store: Store, keys: list[StateKey]) -> int:
    """How many of the bundles are there still."""
    names = [redis_key(key) for key in keys]
    count: Any = store.run(lambda client: client.exists(*names)) if names else 0
    return int(count)


def _entries(store: Store, stream: str) -> Iterator[Mapping[bytes, bytes]]:
    def read(after: str, client: RedisClient) -> Any:
        return client.xrange(stream, after, count=_PAGE)

    after = "-"
    while page := store.run(partial(read, after)):
        yield from (fields for _, fields in page)
        after = f"({page[-1][0].decode()}"


def _records(store: Store, position: str) -> Iterator[journal.Record]:
    """A journal's records after a position, up to its present end."""

    def read(after: str, client: RedisClient) -> list[tuple[str, journal.Record]]:
        return journal.read_journal(client, after)

    while page := store.run(partial(read, position)):
        yield from (record for _, record in page)
        position = page[-1][0]
