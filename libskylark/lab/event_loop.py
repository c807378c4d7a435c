"""An event loop in a thread, with timers that are exact to some ten microseconds, where asyncio's own are a millisecond
late."""

from __future__ import annotations

import asyncio
import contextlib
import select
import selectors
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from libskylark.lab.priority import priority

Result = TypeVar("Result")

if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        """epoll, with time-outs of microseconds where its own are of whole milliseconds."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            # select(2) has its limit of 1024 at the numbers of descriptors, and of them it sees only epoll's own.
            if timeout is not None and timeout > 0 and self.fileno() < 1024:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)

    def precise_event_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(_PreciseSelector())

else:

    def precise_event_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop()


class LoopThread:
    """A thread around an event loop, which does there what others ask for; `on_end` is called before its tasks end.

    It has priority over other threads where the machine allows that.
    """

    def __init__(self, name: str, on_end: Callable[[], object]) -> None:
        self.loop = precise_event_loop()
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ended = asyncio.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cancel all tasks, and wait until nothing of them is left."""
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def call(self, action: Callable[[], Result]) -> Result:
        """What `action` gives or raises in the thread of the loop."""
        future: Future[Result] = Future()

        def act() -> None:
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

        self.loop.call_soon_threadsafe(act)
        return future.result()

    def _run(self) -> None:
        with priority(), contextlib.closing(self.loop):
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self._ended.wait())
            self._on_end()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
