"""Bounds the answers of subscribers that are held: each counts while it is read, and until it is stored."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

ROOM_BYTES: Final = 64 * 1024 * 1024
SMALL_BYTES: Final = 64 * 1024  # an answer up to here is read at once; deliveries under way bound how many


@dataclass(frozen=True, slots=True)
class _Wish:
    place: Hashable
    size_bytes: int
    go_on: Callable[[], None]


class AnswerRoom:
    """Lets answers in while they fit into `limit_bytes` together with what is not stored yet; others wait in turn.

    Where nothing else is read, one gets in however large it is. A place whose answers are read already gets further
    ones in while it holds no more than it leaves to the others, so that one that stalls holds up nobody else.
    """

    def __init__(self, limit_bytes: int = ROOM_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._reading: dict[asyncio.Future[Any], _Wish] = {}
        self._waiting: dict[asyncio.Future[Any], _Wish] = {}  # in their order
        self._held_by: defaultdict[Hashable, int] = defaultdict(int)
        self._read_bytes = 0
        self._unstored_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def held_bytes(self) -> int:
        """What all answers come to that are read now, or not stored yet."""
        return self._read_bytes + self._unstored_bytes

    def ask(self, answer: asyncio.Future[Any], place: Hashable, size_bytes: int, go_on: Callable[[], None]) -> None:
        """Calls `go_on`, at once or later, when an answer from this place may be read.

        It counts until `answer` is done, and whoever awaits that has run: what is owed then counts without a gap.
        """
        self._waiting[answer] = _Wish(place, size_bytes, go_on)
        answer.add_done_callback(self._leave)
        self._grant()

    def owe(self, stored: asyncio.Future[Any], size_bytes: int) -> None:
        """Counts an answer until it is stored: while Redis is away, they would come to any number."""
        self._unstored_bytes += size_bytes
        if self._unstored_bytes > self._limit_bytes:
            self._drained.clear()

        def settled(_: asyncio.Future[Any]) -> None:
            self._unstored_bytes -= size_bytes
            if self._unstored_bytes <= self._limit_bytes:
                self._drained.set()
            self._grant()

        stored.add_done_callback(settled)

    @property
    def owes_too_much(self) -> bool:
        """Whether so much has yet to be stored that nothing should be added to it."""
        return not self._drained.is_set()

    async def drained(self) -> None:
        """Waits until enough is stored."""
        await self._drained.wait()

    def _leave(self, answer: asyncio.Future[Any]) -> None:
        self._waiting.pop(answer, None)
        if (wish := self._reading.pop(answer, None)) is not None:
            self._read_bytes -= wish.size_bytes
            self._held_by[wish.place] -= wish.size_bytes
            if not self._held_by[wish.place]:
                del self._held_by[wish.place]
        self._grant()

    def _grant(self) -> None:
        for answer, wish in [*self._waiting.items()]:
            if answer.done():  # it leaves by itself
                continue
            if self._fits(wish):
                self._reading[answer] = self._waiting.pop(answer)
                self._read_bytes += wish.size_bytes
                self._held_by[wish.place] += wish.size_bytes
                wish.go_on()
            elif wish.place not in self._held_by:
                return  # it is the next one; smaller ones behind it would keep it out for ever

    def _fits(self, wish: _Wish) -> bool:
        if not self._reading:
            return not self.owes_too_much
        return self._held_by.get(wish.place, 0) + wish.size_bytes <= self._limit_bytes - self.held_bytes
