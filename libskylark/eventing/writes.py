"""What is written to the stream: operations of commit.lua that belong together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from libskylark.eventing.entry import Content, Entry, NewEntry, pack, partition_of


@dataclass(slots=True)
class Write:
    """Operations that belong together (see commit.lua), and the entries they add, in order."""

    operations: list[Any]
    added: list[NewEntry]
    stored: asyncio.Future[list[str]]
    size_bytes: int
    # A write that must not be lost is kept until it is stored; another one fails when Redis does.
    lasting: bool
    finished: Entry | None = None

    def fail_passing(self, error: Exception) -> None:
        """Fails it, unless it must last or its end is known."""
        if not self.lasting and not self.stored.done():
            self.stored.set_exception(error)


@dataclass(slots=True)
class Letter:
    """An event for the dead letters: with all that an entry keeps, and why no subscriber has it.

    `receivers` are the Triggers that it is for: the one that it was delivered to, `trigger`, or, where the event is an
    answer with a spent TTL, those that would have taken it.
    """

    content: Content
    receivers: tuple[str, ...]
    trigger: str
    reason: str
    status: int
    attempts: int
    time: str


@dataclass(slots=True)
class Settlement:
    """The end of one delivery: its journal record, and what came of it; stored together."""

    entry: Entry
    trigger: str
    record: bytes
    reply: NewEntry | None = None
    letters: list[Letter] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Of what it adds."""
        letters_bytes = sum(letter.content.size_bytes for letter in self.letters)
        return letters_bytes + (self.reply.content.size_bytes if self.reply else 0)


def add_operations(new: NewEntry, tick: tuple[str, int] | None = None) -> list[Any]:
    """Adds an entry, or only its journal record where nobody wants it; a tick is added once."""
    operations: list[Any] = []
    if tick is not None:
        _operation(operations, "tick", *tick)
    if new.once is not None:
        _operation(operations, "once", new.once.digest, new.once.window_ms, new.once.record)
    if new.triggers:
        partition = partition_of(new.content.event) or ""
        _operation(operations, "event", new.record, partition, new.content.size_bytes, *pack(new))
    else:
        _operation(operations, "journal", new.record)
    return operations


def settle_operations(settlement: Settlement) -> list[Any]:
    """Records the end of a delivery with what it led to, and takes its trigger off the entry."""
    entry = settlement.entry
    entry.remaining.discard(settlement.trigger)
    operations: list[Any] = []
    for letter in settlement.letters:
        _operation(operations, "letter", letter.content.size_bytes, *_letter_fields(letter))
    if settlement.reply is not None:
        operations += add_operations(settlement.reply)
    _operation(operations, "journal", settlement.record)
    if entry.remaining:
        _operation(operations, "partial", entry.id, settlement.trigger)
        entry.done.append(settlement.trigger)
    else:
        _operation(operations, "done", entry.id, entry.partition or "", entry.size_bytes, *entry.done)
    return operations


def unreadable_operations(entry_id: str, partition: str) -> list[Any]:
    """Takes an entry that cannot be delivered off its dispatcher and its partition; it stays in the stream."""
    operations: list[Any] = []
    _operation(operations, "unreadable", entry_id, partition)
    return operations


def _operation(operations: list[Any], name: str, *arguments: Any) -> None:
    operations.append(name)
    operations.append(len(arguments))
    operations.extend(arguments)


def _letter_fields(letter: Letter) -> list[Any]:
    event = pack(NewEntry(letter.content, letter.receivers, b""))
    fields: list[Any] = ["trigger", letter.trigger, "reason", letter.reason, "status", letter.status]
    return [*event, *fields, "attempts", letter.attempts, "time", letter.time]
