"""Time, injected: the wall clock, and the epoch that every node computes alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Seconds since the Unix epoch; tests bring one that they move by hand."""

    def now_s(self) -> float: ...


class SystemClock:
    """The machine's wall clock."""

    def now_s(self) -> float:
        return time.time()


@dataclass(frozen=True, slots=True)
class Ticks:
    """The grid of ticks: epoch n lasts from n * tick_s to (n + 1) * tick_s, in Unix seconds."""

    tick_s: float = 60.0

    def epoch_at(self, time_s: float) -> int:
        """The number of whole ticks since the Unix epoch."""
        # A tick's own time stamp may come out a hair below its boundary: text forms of times are rounded.
        return int((time_s + 1e-3) // self.tick_s)

    def starts_s(self, epoch: int) -> float:
        return epoch * self.tick_s

    def ends_s(self, epoch: int) -> float:
        return (epoch + 1) * self.tick_s


def rfc3339(time_s: float) -> str:
    """Unix seconds as an RFC 3339 time stamp in UTC, to the millisecond."""
    return _rfc3339(round(time_s * 1e6) // 1000)


def http_date(time_s: float) -> str:
    """Unix seconds as the date of an HTTP message (RFC 9110, 5.6.7)."""
    return _http_date(int(time_s))


@lru_cache(maxsize=16)
def _http_date(time_s: int) -> str:
    return formatdate(time_s, usegmt=True)


@lru_cache(maxsize=16)  # a broker stamps thousands of events in each second
def _rfc3339(time_ms: int) -> str:
    second_s, milliseconds = divmod(time_ms, 1000)
    return f"{_second(second_s)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16)
def _second(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()[:19]
