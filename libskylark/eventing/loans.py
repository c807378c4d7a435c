"""Bounds the bodies that deliveries hold beside the resident ones: each is lent for an attempt, and given back."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from libskylark.eventing.entry import Content, Entry

LENT_BYTES: Final = 64 * 1024 * 1024

Read = Callable[[Entry], Awaitable[Content | None]]


@dataclass(slots=True, eq=False)
class Loan:
    """What one delivery holds: the body, unless that is resident, and what is written of it in another form."""

    trigger: str
    entry: Entry
    body_bytes: int
    copy_bytes: int
    content: Content | None = None

    @property
    def size_bytes(self) -> int:
        return self.body_bytes + self.copy_bytes


@dataclass(slots=True, eq=False)
class _Lent:
    """A body that was read again, and how many deliveries share it."""

    reading: asyncio.Future[Content | None]
    users: int = 0


@dataclass(slots=True, eq=False)
class _Wish:
    loan: Loan
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Loans:
    """Lends up to `limit_bytes` to all Triggers together, and one body to each Trigger however much is lent.

    So no Trigger waits for another one for ever, and one body that is larger than all of it is lent, too. A Trigger
    that has one already gets further ones while it holds no more than it leaves to the others. Deliveries of one
    event share its body. Within a Trigger, loans are given in the order in which they were asked for.
    """

    def __init__(self, read: Read, limit_bytes: int) -> None:
        self._read = read
        self._limit_bytes = limit_bytes
        self.held_bytes = 0
        self._held_by: defaultdict[str, int] = defaultdict(int)
        self._lent: dict[str, _Lent] = {}
        self._waiting: dict[str, deque[_Wish]] = {}

    async def borrow(self, trigger: str, entry: Entry, copied: bool) -> Loan:
        """Waits for room, and reads the body where it is not resident; its content is None where Redis has lost it.

        `copied` says that the delivery writes the body in another form, which it holds as well.
        """
        body_bytes = entry.size_bytes if entry.content is None else 0
        loan = Loan(trigger, entry, body_bytes, _as_text_bytes(entry.size_bytes) if copied else 0)
        if trigger in self._waiting or not self._fits(loan):
            await self._turn(loan)
        else:
            self._take(loan)
        try:
            loan.content = await asyncio.shield(self._lent[entry.id].reading) if body_bytes else entry.content
        except BaseException:
            self.give_back(loan)
            raise
        return loan

    def give_back(self, loan: Loan) -> None:
        loan.content = None
        self._held_by[loan.trigger] -= loan.size_bytes
        if not self._held_by[loan.trigger]:
            del self._held_by[loan.trigger]
        self.held_bytes -= loan.copy_bytes
        if loan.body_bytes:
            lent = self._lent[loan.entry.id]
            lent.users -= 1
            if not lent.users:
                del self._lent[loan.entry.id]
                self.held_bytes -= loan.body_bytes
                lent.reading.cancel()
        self._grant()

    async def _turn(self, loan: Loan) -> None:
        wish = _Wish(loan)
        self._waiting.setdefault(loan.trigger, deque()).append(wish)
        try:
            await wish.granted
        except asyncio.CancelledError:
            if wish.granted.cancelled():
                self._grant()  # to those behind it
            else:
                self.give_back(loan)
            raise

    def _fits(self, loan: Loan) -> bool:
        held_bytes = self._held_by.get(loan.trigger, 0)
        if not held_bytes:
            return True
        is_lent = loan.entry.id in self._lent
        free_bytes = self._limit_bytes - self.held_bytes - loan.copy_bytes - (0 if is_lent else loan.body_bytes)
        return held_bytes + loan.size_bytes <= free_bytes

    def _take(self, loan: Loan) -> None:
        self._held_by[loan.trigger] += loan.size_bytes
        self.held_bytes += loan.copy_bytes
        if loan.body_bytes:
            lent = self._lent.get(loan.entry.id)
            if lent is None:
                lent = self._lent[loan.entry.id] = _Lent(asyncio.ensure_future(self._read(loan.entry)))
                self.held_bytes += loan.body_bytes
            lent.users += 1

    def _grant(self) -> None:
        for trigger, wishes in [*self._waiting.items()]:
            while wishes and (wishes[0].granted.done() or self._fits(wishes[0].loan)):
                wish = wishes.popleft()
                if not wish.granted.done():
                    self._take(wish.loan)
                    wish.granted.set_result(None)
            if not wishes:
                del self._waiting[trigger]


def _as_text_bytes(size_bytes: int) -> int:
    """How long a body of some size is in base64."""
    return size_bytes * 4 // 3
