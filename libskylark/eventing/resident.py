"""The entries that this process has to deliver, and how many of their bodies it keeps in memory."""

from __future__ import annotations

from typing import Final

from libskylark.eventing.entry import Entry

_RESIDENT_BYTES: Final = 64 * 1024 * 1024
_LEAST_ROOM_BYTES: Final = 4 * 1024 * 1024


class Resident:
    """Entries by id; a body that would exceed the bound is dropped, and read again from Redis when its turn comes."""

    def __init__(self, limit_bytes: int = _RESIDENT_BYTES) -> None:
        self.entries: dict[str, Entry] = {}
        self._limit_bytes = limit_bytes
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether there is room for more than a few small bodies."""
        return self._limit_bytes - self._bytes >= _LEAST_ROOM_BYTES

    def add(self, entry: Entry) -> None:
        """Takes an entry, with its content where there is room."""
        if self._bytes + entry.size_bytes > self._limit_bytes:
            entry.content = None
        elif entry.content is not None:
            self._bytes += entry.size_bytes
        self.entries[entry.id] = entry

    def remove(self, entry: Entry) -> None:
        """Forgets an entry that is done; one that is not here is left alone."""
        if self.has(entry):
            del self.entries[entry.id]
            if entry.content is not None:
                self._bytes -= entry.content.size_bytes

    def has(self, entry: Entry) -> bool:
        """Whether it is this very object; another one may stand for an entry that was lost and came back."""
        return self.entries.get(entry.id) is entry

    def clear(self) -> None:
        self.entries.clear()
        self._bytes = 0
