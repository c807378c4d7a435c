"""Policies: which node gets the state, given the candidates that elect's table offers.

Skylark walks the cheapest path to the destination backwards, Random takes any node, Stateless the destination.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from libskylark.config import PolicyName

_BITS_PER_BYTE: Final = 8
_BITS_PER_MS_AND_MBPS: Final = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that state could move to, with the path there: its latency, its narrowest link, its hops.

    `bottleneck_mbps` is None for the node where the state already is: no link is on the way.
    """

    node: str
    host: str
    latency_ms: float
    bottleneck_mbps: float | None
    hops: int

    def move_time_ms(self, size_bytes: int) -> float:
        """Predicted time to move `size_bytes` there: `2 * latency + 8 * bytes / (1000 * bottleneck Mbit/s)`.

        One latency to connect and one to confirm; no time at all for the node where the state already is.
        """
        if self.bottleneck_mbps is None:
            return 0.0
        return 2 * self.latency_ms + _BITS_PER_BYTE * size_bytes / (_BITS_PER_MS_AND_MBPS * self.bottleneck_mbps)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where state goes, how long that should take, and who was refused on the way and why."""

    policy: PolicyName
    candidate: Candidate
    predicted_ms: float
    refused: tuple[tuple[str, str], ...] = ()


class Policy(Protocol):
    """Chooses among candidates; `here` is the node itself, always possible and never among the candidates' faults."""

    name: PolicyName

    def choose(self, candidates: Sequence[Candidate], here: Candidate, size_bytes: int) -> Decision: ...


class Skylark:
    """The first candidate, nearest to the destination first, whose predicted move keeps the objective; else here."""

    name: PolicyName = "skylark"

    def __init__(self, max_latency_ms: float) -> None:
        self.max_latency_ms = max_latency_ms

    def choose(self, candidates: Sequence[Candidate], here: Candidate, size_bytes: int) -> Decision:
        refused: list[tuple[str, str]] = []
        for candidate in candidates:
            predicted_ms = candidate.move_time_ms(size_bytes)
            if predicted_ms <= self.max_latency_ms:
                return Decision(self.name, candidate, predicted_ms, tuple(refused))
            refused.append((candidate.node, f"predicted {predicted_ms:.0f} ms is over {self.max_latency_ms:.0f} ms"))
        return Decision(self.name, here, 0.0, tuple(refused))


class Random:
    """Any candidate, uniformly."""

    name: PolicyName = "random"

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    def choose(self, candidates: Sequence[Candidate], here: Candidate, size_bytes: int) -> Decision:
        candidate = self._rng.choice(candidates) if candidates else here
        return Decision(self.name, candidate, candidate.move_time_ms(size_bytes))


class Stateless:
    """The first candidate, which is the destination: state goes to the cloud at once."""

    name: PolicyName = "stateless"

    def choose(self, candidates: Sequence[Candidate], here: Candidate, size_bytes: int) -> Decision:
        candidate = candidates[0] if candidates else here
        return Decision(self.name, candidate, candidate.move_time_ms(size_bytes))


def policy_named(name: PolicyName, max_latency_ms: float, rng: random.Random | None = None) -> Policy:
    """The policy of that name, with the objective it keeps to in ms."""
    if name == "skylark":
        return Skylark(max_latency_ms)
    return Random(rng) if name == "random" else Stateless()
