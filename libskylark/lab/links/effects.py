"""What happens to bytes on their way, one small class for each effect: rate, delay, jitter, order, cuts.

No sockets here, and no clock: times are seconds of whatever clock the caller reads (relay.py: its event loop's).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final, Literal, Protocol

from libskylark.lab.links.figures import CutMode

_BITS_PER_BYTE: Final = 8

GateState = CutMode | Literal["open"]


class Effect(Protocol):
    """Something that takes bytes in, and lets them out later."""

    def out_s(self, in_s: float, size_bytes: int) -> float:
        """When the last of so many bytes, which are all there at `in_s`, has come out."""


class Rate:
    """The bandwidth of a link in one direction: what it carries, of whatever flow, leaves one after the other.

    A token bucket without depth: an idle link saves nothing up for later bursts.
    """

    __slots__ = ("_free_s", "bandwidth_mbps", "carried_bytes")

    def __init__(self, bandwidth_mbps: float) -> None:
        self.bandwidth_mbps = bandwidth_mbps
        self.carried_bytes = 0
        self._free_s = 0.0

    def out_s(self, in_s: float, size_bytes: int) -> float:
        self.carried_bytes += size_bytes
        start_s = max(in_s, self._free_s)
        self._free_s = start_s + size_bytes * _BITS_PER_BYTE / (self.bandwidth_mbps * 1e6)
        return self._free_s


class Delay:
    """The time that the signal takes."""

    __slots__ = ("_delay_s",)

    def __init__(self, latency_ms: float) -> None:
        self._delay_s = latency_ms / 1e3

    def out_s(self, in_s: float, size_bytes: int) -> float:
        return in_s + self._delay_s


class Jitter:
    """A further delay, uniform from 0 to `jitter_ms`, drawn anew each time."""

    __slots__ = ("_jitter_s", "_random")

    def __init__(self, jitter_ms: float, random: Random) -> None:
        self._jitter_s = jitter_ms / 1e3
        self._random = random

    def out_s(self, in_s: float, size_bytes: int) -> float:
        return in_s + self._random.random() * self._jitter_s


class InOrder:
    """Nothing comes out before what went in earlier."""

    __slots__ = ("_last_s",)

    def __init__(self) -> None:
        self._last_s = 0.0

    def out_s(self, in_s: float, size_bytes: int) -> float:
        self._last_s = max(self._last_s, in_s)
        return self._last_s


class Chain:
    """One effect after the other."""

    __slots__ = ("_effects",)

    def __init__(self, effects: Sequence[Effect]) -> None:
        self._effects = effects

    def out_s(self, in_s: float, size_bytes: int) -> float:
        for effect in self._effects:
            in_s = effect.out_s(in_s, size_bytes)
        return in_s


class Slowest:
    """Effects at the same time, such as the rates of several links whose nodes pass on packet by packet."""

    __slots__ = ("_effects",)

    def __init__(self, effects: Sequence[Effect]) -> None:
        self._effects = effects

    def out_s(self, in_s: float, size_bytes: int) -> float:
        return max((effect.out_s(in_s, size_bytes) for effect in self._effects), default=in_s)


class Gate:
    """Where bytes wait while their way is cut: in silence, or until whoever reads the state resets them."""

    def __init__(self) -> None:
        self.state: GateState = "open"
        self._opened = asyncio.Event()
        self._opened.set()

    def turn(self, state: GateState) -> None:
        self.state = state
        if state == "open":
            self._opened.set()
        else:
            self._opened.clear()

    async def passed(self) -> None:
        """Until it is open."""
        await self._opened.wait()
