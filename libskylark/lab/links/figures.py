"""What a link has, and what can be done to it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from libskylark.errors import LabError

#: What a cut does. silent: nothing passes and nobody is told, as over a lost radio link; what waits is delivered
#: when the cut is healed. reset: connections are broken at once, new ones as soon as they are made.
CutMode = Literal["silent", "reset"]

#: What is cut or set by hand. link: one link of the constellation, for all whose way leads over it. pair: what two
#: nodes send each other, whatever its way.
Scope = Literal["link", "pair"]

#: What becomes of connections whose route is another one after a tick: they go on over the new one, or are reset.
Reroute = Literal["survive", "break"]

#: From one node to a neighbour.
Hop = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a link or a whole route has, each way: the latency of one way, a random addition to it of up to the
    jitter, and the bandwidth (infinity: as much as the machine can).

    Raises LabError for what is no such figure.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    bandwidth_mbps: float = math.inf

    def __post_init__(self) -> None:
        for name in ("latency_ms", "jitter_ms"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LabError(f"{name}: found {getattr(self, name)!r}, expected milliseconds of 0 or more")
        if not self.bandwidth_mbps > 0:
            raise LabError(f"bandwidth_mbps: found {self.bandwidth_mbps!r}, expected more than 0")

    def to_json(self) -> dict[str, Any]:
        """By name; a bandwidth of None is unlimited, as JSON has no infinity."""
        limit_mbps = None if math.isinf(self.bandwidth_mbps) else self.bandwidth_mbps
        return {**asdict(self), "bandwidth_mbps": limit_mbps}
