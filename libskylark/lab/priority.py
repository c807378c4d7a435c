"""Priority for a thread that must be on time, where the machine allows it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def priority() -> Iterator[bool]:
    """Let this thread run before ordinary ones as soon as it has something to do; whether the machine allows that.

    Linux allows it to root, and to others by their limit of rtprio. Without it, a machine with more work than
    processors lets every thread wait for some milliseconds, and now and then for a hundred. Threads and processes that
    are started meanwhile are ordinary ones.
    """
    allowed = _take()
    try:
        yield allowed
    finally:
        if allowed:
            _give_back()


if sys.platform == "linux":

    def _take() -> bool:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            return True
        return False

    def _give_back() -> None:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

else:

    def _take() -> bool:
        return False

    def _give_back() -> None:
        return
