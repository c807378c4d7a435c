"""Journeys: what the journals of all nodes tell of one chain, and whether it has come to its end."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from libskylark.errors import StoreUnavailable
from libskylark.eventing.journal import CAP, FIRST, Accepted, Duplicate, Outcome, Record, end_of_journal, read_journal
from libskylark.store import Store

_BLOCK_MS = 500  # how long one look waits for news: shorter than the stores' time-out
_SILENCE_S = 0.2  # before a store that does not answer is asked again


@dataclass(frozen=True, slots=True)
class Step:
    """A record of a journal, and the node whose journal it is."""

    node: str
    record: Record


@dataclass
class Journey:
    """The steps of one chain, in the order in which they became known."""

    chain: str
    steps: list[Step] = field(default_factory=list)
    # How many outcomes each (event, trigger) must have, and has: an event may come back to a node that it has left.
    _wanted: Counter[tuple[str, str]] = field(default_factory=Counter)
    _decided: Counter[tuple[str, str]] = field(default_factory=Counter)
    _handed_over: set[tuple[str, str]] = field(default_factory=set)
    _accepted: set[str] = field(default_factory=set)
    _replies: set[str] = field(default_factory=set)

    def add(self, step: Step) -> None:
        self.steps.append(step)
        record = step.record
        if isinstance(record, Accepted):
            self._accepted.add(record.event)
            pairs = [(record.event, trigger) for trigger in record.to]
            if record.hop:  # its outcome is the one that the first node's journal leaves open
                self._handed_over.update(pairs)
            else:
                self._wanted.update(pairs)
        elif isinstance(record, Duplicate):  # what becomes of the event is told of the first one
            self._accepted.add(record.event)
        elif record.outcome != "forwarded":  # a forwarded event gets its outcome on the next node
            self._decided[record.event, record.trigger] += 1
            if record.reply and not record.reply_chain:
                self._replies.add(record.reply)

    @property
    def ended(self) -> bool:
        """Whether every event of the chain has an outcome for each of its triggers, every answer included."""
        decided = self._wanted <= self._decided and self._handed_over <= self._decided.keys()
        return bool(self._accepted) and decided and self._replies <= self._accepted

    @property
    def dead_lettered(self) -> list[Outcome]:
        records = (step.record for step in self.steps)
        return [r for r in records if isinstance(r, Outcome) and r.outcome in ("dead-lettered", "expired")]


@dataclass
class Journals:
    """What the journals of all nodes tell now: of each node's steps its own order is kept."""

    steps: list[Step] = field(default_factory=list)
    full: dict[str, str] = field(default_factory=dict)
    """Nodes whose journal has reached its cap, and may have dropped records -> time of the first that is there."""
    silent: dict[str, str] = field(default_factory=dict)
    """Nodes whose journal cannot be read -> why."""


def read_journals(stores: Mapping[str, Store]) -> Journals:
    """Everything in the journals of all nodes; a node that does not answer is left out, and named."""
    journals = Journals()
    for node, store in stores.items():
        try:
            records = list(_records(store))
        except StoreUnavailable as error:
            journals.silent[node] = str(error)
        except (KeyError, TypeError, ValueError) as error:
            journals.silent[node] = f"found what is no record of a journal: {error!r}"
        else:
            journals.steps += [Step(node, record) for record in records]
            if len(records) >= CAP:
                journals.full[node] = records[0].time
    return journals


class JournalTail:
    """A context manager that follows the journals of several nodes, from now on, or from their beginning."""

    def __init__(self, stores: Mapping[str, Store], from_start: bool = False) -> None:
        self._stores = stores
        self._from_start = from_start
        self._news: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> JournalTail:
        """Raises StoreUnavailable where a node's Redis does not tell where its journal ends."""
        for node, store in self._stores.items():
            position = FIRST if self._from_start else store.run(end_of_journal)
            thread = threading.Thread(target=self._follow, args=(node, store, position), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        for thread in self._threads:
            thread.join()

    def steps(self, deadline_s: float) -> Iterator[Step]:
        """Steps as they become known, until `deadline_s` on the monotonic clock."""
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                yield self._news.get(timeout=left_s)
            except queue.Empty:
                return

    def _follow(self, node: str, store: Store, position: str) -> None:
        seen = position
        while not self._leaving.is_set():
            try:
                records = store.run(_reader(seen))
            except StoreUnavailable:
                self._leaving.wait(_SILENCE_S)  # a store that restarts goes on where it was
                continue
            for seen, record in records:  # noqa: B007  # the last position is where the next look starts
                self._news.put(Step(node, record))


def _records(store: Store) -> Iterator[Record]:
    position = FIRST
    while page := store.run(_reader(position, block_ms=0)):
        for position, record in page:  # noqa: B007  # the last position is where the next page starts
            yield record


def _reader(position: str, block_ms: int = _BLOCK_MS) -> Callable[[Any], list[tuple[str, Record]]]:
    return lambda client: read_journal(client, position, block_ms)
