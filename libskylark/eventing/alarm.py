"""One timer of a connection, which every request sets anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring` once it is due; setting it to a later time costs next to nothing.

    The timer of the event loop is set anew when it fires too early, not each time that the alarm is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def set(self, wait_s: float) -> None:
        """From now on, it is due in so many seconds, whenever it was before."""
        self.set_at(self._loop.time() + wait_s)

    def set_at(self, due_s: float) -> None:
        """The same for a time of the event loop's clock."""
        self._due_s = due_s
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._fire)
        elif self._timer.when() > due_s:
            self._timer.cancel()
            self._timer = self._loop.call_at(due_s, self._fire)

    @property
    def left_s(self) -> float:
        """How long until it is due."""
        return self._due_s - self._loop.time()

    def stop(self) -> None:
        """It does not ring unless it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """It does not ring any more, and is not set again."""
        self.stop()
        del self._ring  # which refers to whoever has this

    def _fire(self) -> None:
        self._timer = None
        if self.left_s > 0:
            self.set_at(self._due_s)
        else:
            self._ring()
