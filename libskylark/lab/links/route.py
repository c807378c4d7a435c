"""A route between two nodes, and a flow of bytes over it: the effects of all its links, composed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Final

from libskylark.lab.links.effects import Chain, Delay, Effect, InOrder, Jitter, Rate, Slowest
from libskylark.lab.links.figures import Figures

#: Several flows take turns on a link after this long: a small message waits no longer for each bulk transfer.
_TURN_S: Final = 0.002
_LEAST_CHUNK_BYTES: Final = 2048
_MOST_CHUNK_BYTES: Final = 1 << 18
_BITS_PER_BYTE: Final = 8


@dataclass(frozen=True, slots=True)
class Step:
    """A link of a route in the direction of travel, with the rate that all flows share which take it."""

    figures: Figures
    rate: Rate


@dataclass(frozen=True, eq=False)
class Route:
    """The links from one node to another, in order; without any, the way is perfect."""

    steps: tuple[Step, ...] = ()

    @cached_property
    def figures(self) -> Figures:
        """Of the route as a whole: the sums of latency and jitter, the least bandwidth."""
        each = [step.figures for step in self.steps]
        return Figures(
            sum(figures.latency_ms for figures in each),
            sum(figures.jitter_ms for figures in each),
            min((figures.bandwidth_mbps for figures in each), default=Figures().bandwidth_mbps),
        )

    @cached_property
    def chunk_bytes(self) -> int:
        """How much of one flow to send at once."""
        turn_bytes = min(self.figures.bandwidth_mbps * 1e6 * _TURN_S / _BITS_PER_BYTE, _MOST_CHUNK_BYTES)
        return max(int(turn_bytes), _LEAST_CHUNK_BYTES)


class Flow:
    """One direction of one connection; `find_route` tells the route of now, which may become another one at any time.

    What has been sent keeps its time then, and nothing overtakes it. `random` is the flow's own, so that its jitter
    does not hang on what other flows do. The links of a route work at the same time, and all of them are booked when
    the first one is: that a later link carries the bytes by a latency later is not modelled.
    """

    def __init__(self, find_route: Callable[[], Route], random: Random) -> None:
        self._find_route = find_route
        self._random = random
        self._order = InOrder()
        self._take(find_route())

    @property
    def chunk_bytes(self) -> int:
        return self._find_route().chunk_bytes

    def send(self, size_bytes: int, now_s: float) -> tuple[float, float]:
        """When the last of these bytes has left over the slowest link, and when it arrives."""
        if (route := self._find_route()) is not self._route:
            self._take(route)
        sent_s = self._rates.out_s(now_s, size_bytes)
        return sent_s, self._delays.out_s(sent_s, size_bytes)

    def _take(self, route: Route) -> None:
        self._route = route
        self._rates = Slowest([step.rate for step in route.steps])
        jitters = [Jitter(step.figures.jitter_ms, self._random) for step in route.steps if step.figures.jitter_ms]
        effects: list[Effect] = [Delay(route.figures.latency_ms), *jitters, self._order]
        self._delays = Chain(effects)
