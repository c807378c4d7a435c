"""Finds the entries of the stream that have become this dispatcher's, a few at a time: each may hold a picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from redis.asyncio import Redis

from libskylark.event import PARTITION
from libskylark.eventing.entry import Entry, partition_of, size_of, unpack
from libskylark.eventing.journal import as_text
from libskylark.eventing.keys import DONE, EVENTS
from libskylark.eventing.membership import Membership, script
from libskylark.eventing.resident import Resident

_LISTED_ENTRIES: Final = 1000  # by their ids, in one go
_PAGE_ENTRIES: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024  # or a single larger one
_UNSENT_BYTES: Final = 32 * 1024 * 1024  # that Redis looks at in one go, and answers nothing meanwhile

log = logging.getLogger("skylark.broker")


class Unreadable(NamedTuple):
    """An entry that is not there, or not the broker's: nobody's to deliver. `partition` is '' where it tells none."""

    id: str
    partition: str


class Adoption:
    """Goes through what is stored for this dispatcher, and hands on to `on_entry` what it did not know yet.

    It goes page by page, with batches of the writer in between. What this dispatcher stores meanwhile is held back
    until its turn comes, so that `on_entry` gets all of it in the order of the stream.
    """

    def __init__(self, membership: Membership, resident: Resident, on_entry: Callable[[Entry], None]) -> None:
        self._membership = membership
        self._resident = resident
        self._on_entry = on_entry
        self._next: str | None = None  # where the next page begins, as XPENDING has it; None where none is needed
        self._held: dict[str, Entry] = {}

    @property
    def is_under_way(self) -> bool:
        return self._next is not None

    def begin(self) -> None:
        """Goes through everything, from the start."""
        self._next = "-"

    def expect(self, ids: Sequence[str]) -> None:
        """Others have stored these for this dispatcher; they are later than all that it knows, or has gone through."""
        unknown = [entry_id for entry_id in ids if entry_id not in self._resident.entries]
        if unknown and self._next is None:
            self._next = unknown[0]

    def add(self, entry: Entry) -> None:
        """Takes one that this dispatcher has just stored itself."""
        self._resident.add(entry)
        if self.is_under_way:
            self._held[entry.id] = entry
        else:
            self._on_entry(entry)

    def give_up(self) -> None:
        """Everything is another dispatcher's now."""
        self._next = None
        self._held.clear()

    async def next_page(self) -> list[Unreadable]:
        """Hands on what comes next; answers what of it cannot be read."""
        assert self._next is not None, "begin, or expect, comes first"
        unreadable: list[Unreadable] = []
        page = await self._membership.pending(self._next, _LISTED_ENTRIES)
        unknown = [entry_id for entry_id in page if entry_id not in self._resident.entries]
        found = await read_entries(self._membership.redis, unknown[:_PAGE_ENTRIES], self._resident.has_room)
        for entry_id in page:
            entry = found.get(entry_id)
            if isinstance(entry, Unreadable):
                unreadable.append(entry)
            elif entry is not None:
                self._resident.add(entry)
                self._on_entry(entry)
            elif entry_id not in self._resident.entries:
                break  # the page of entries ended before
            elif (held := self._held.pop(entry_id, None)) is not None:
                self._on_entry(held)
            self._next = f"({entry_id}"
        else:
            if len(page) < _LISTED_ENTRIES:
                self._end()
        return unreadable

    def _end(self) -> None:
        held, self._held, self._next = self._held, {}, None
        for entry in held.values():  # that Redis has lost, with its data
            self._on_entry(entry)


async def read_entries(redis: Redis, ids: Sequence[str], with_data: bool) -> dict[str, Entry | Unreadable]:
    """The first ones of some entries, at least one, in their order; `with_data` tells whether with their content."""
    if not ids:
        return {}
    arguments = (_PAGE_BYTES, "1") if with_data else (_UNSENT_BYTES, "0")
    answer = await redis.eval(script("adopt.lua"), 2, EVENTS, DONE, *arguments, *ids)
    return {entry_id: _entry(entry_id, found, with_data) for entry_id, found in zip(ids, answer, strict=False)}


def _entry(entry_id: str, found: Any, with_data: bool) -> Entry | Unreadable:
    """An entry as adopt.lua answers it; what is none is told in the log."""
    flat, data_bytes, done = found
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    if not fields:
        log.warning("entry %s of %s is gone: somebody has deleted it", entry_id, EVENTS)
        return Unreadable(entry_id, "")
    try:
        content, triggers = unpack(fields)
        partition = partition_of(content.event)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        log.error("entry %s of %s is not the broker's, left alone: %r", entry_id, EVENTS, error)
        return Unreadable(entry_id, _partition_told(fields))
    finished = [as_text(trigger) for trigger in done]
    kept = content if with_data else None
    return Entry(entry_id, partition, triggers.difference(finished), kept, size_of(data_bytes), finished)


def _partition_told(fields: Mapping[bytes, bytes]) -> str:
    """The partition of an entry that cannot be read as a whole; '' where it has none, or does not tell it."""
    try:
        return str(orjson.loads(fields[b"attributes"]).get(PARTITION) or "")
    except (KeyError, ValueError, AttributeError):
        return ""
