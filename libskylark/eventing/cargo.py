"""The event of one delivery: whole for an attempt, without its data between two of them."""

from __future__ import annotations

from dataclasses import replace

from libskylark.eventing.entry import Content, Entry
from libskylark.eventing.lane import Lane
from libskylark.eventing.loans import Loan, Loans


class EventLost(LookupError):
    """Redis has the event no more."""


class Cargo:
    """Loads the event where it is not resident, and lets it go. `head` has its attributes, once it was loaded."""

    __slots__ = ("_entry", "_lane", "_loan", "_loans", "_trigger", "head")

    def __init__(self, loans: Loans, trigger: str, entry: Entry, lane: Lane) -> None:
        self._loans = loans
        self._trigger = trigger
        self._entry = entry
        self._lane = lane
        self._loan: Loan | None = None
        self.head: Content | None = entry.content

    def whole(self, copied: bool) -> Content | None:
        """The whole event where that takes no wait; else None, see `load`."""
        return None if copied else self._entry.content

    async def load(self, copied: bool = False) -> Content:
        """The whole event; `copied` says that it will be written in another form, too.

        Waits for room, until the lane halts. Raises EventLost.
        """
        if (resident := self.whole(copied)) is not None:
            return resident
        if self._loan is None:
            with self._lane.interruptible():
                self._loan = await self._loans.borrow(self._trigger, self._entry, copied)
        if (content := self._loan.content) is None:
            self.unload()
            raise EventLost(f"Redis has lost the event of entry {self._entry.id}")
        self.head = content
        return content

    @property
    def known(self) -> Content:
        """What is there of the event; its data only while it is loaded."""
        assert self.head is not None, "load comes first"
        return self.head

    def unload(self) -> None:
        """Lets go what is not resident."""
        if self._loan is not None:
            loan, self._loan = self._loan, None
            if self._entry.content is None and self.head is not None:
                self.head = replace(self.head, event=replace(self.head.event, data=b""))
            self._loans.give_back(loan)
