"""What can be cut, and given figures by hand: a link of the constellation, and a pair of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from libskylark.lab.links.effects import Gate, Rate
from libskylark.lab.links.figures import CutMode, Figures, Hop
from libskylark.lab.links.route import Route, Step
from libskylark.topology import Link

#: The nodes of a path, with both ends.
Path = tuple[str, ...]


class EmulatedLink:
    """A link of the constellation; `up` while the epoch's topology has it, `cut` while it is cut by hand.

    `pinned` are figures that were set by hand, in the place of the topology's.
    """

    def __init__(self, a: str, b: str, figures: Figures) -> None:
        self.nodes = (a, b)
        self.up = False
        self.cut: CutMode | None = None
        self.pinned: Figures | None = None
        self._figures = figures
        self._rates = {node: Rate(figures.bandwidth_mbps) for node in self.nodes}  # by the node that sends

    @property
    def figures(self) -> Figures:
        return self.pinned or self._figures

    def follow(self, link: Link) -> None:
        """Take the topology's figures."""
        self._figures = Figures(link.latency_ms, link.jitter_ms, link.bandwidth_mbps)
        self.pin(self.pinned)

    def pin(self, figures: Figures | None) -> None:
        """Set figures by hand, or go back to the topology's; what was sent before keeps its time."""
        self.pinned = figures
        for rate in self._rates.values():
            rate.bandwidth_mbps = self.figures.bandwidth_mbps

    def step(self, sender: str) -> Step:
        return Step(self.figures, self._rates[sender])

    def as_link(self) -> Link:
        """As a topology has it, with the figures of now."""
        figures = self.figures
        return Link(*self.nodes, figures.latency_ms, figures.bandwidth_mbps, figures.jitter_ms)

    def carried_bytes(self) -> dict[Hop, int]:
        """What it has carried so far, by direction."""
        a, b = self.nodes
        return {(a, b): self._rates[a].carried_bytes, (b, a): self._rates[b].carried_bytes}

    def to_json(self) -> dict[str, Any]:
        """Bytes are those from the first node to the second, and back."""
        return {
            "nodes": list(self.nodes),
            "up": self.up,
            "cut": self.cut,
            "pinned": self.pinned is not None,
            **self.figures.to_json(),
            "carried_bytes": list(self.carried_bytes().values()),
        }


class Pair:
    """Two nodes and both ways between them; `paths` and `routes` are by the node that sends.

    A path of None is one that the topology lacks; there are no paths while no topology is followed. With figures by
    hand a pair has a link of its own (`pinned`), which no other pair shares; whether bytes may pass is still told by
    its paths, and by its own `cut`.
    """

    def __init__(self, a: str, b: str) -> None:
        self.nodes = (a, b)
        self.cut: CutMode | None = None
        self.pinned: EmulatedLink | None = None
        self.paths: Mapping[str, Path | None] = {}
        self.routes = {a: Route(), b: Route()}
        self.gate = Gate()

    def other(self, node: str) -> str:
        return self.nodes[node == self.nodes[0]]

    def hops(self) -> set[frozenset[str]]:
        """The two nodes of each link that either way leads over."""
        return {frozenset(hop) for path in self.paths.values() if path is not None for hop in pairwise(path)}

    @property
    def routed(self) -> bool:
        return None not in self.paths.values()

    def move(self, paths: Mapping[str, Path | None]) -> bool:
        """Take the paths of an epoch; whether there were others before."""
        before, self.paths = self.paths, paths
        return bool(before) and None not in (*before.values(), *paths.values()) and before != paths

    def to_json(self) -> dict[str, Any]:
        """The state, and path and figures from the first node to the second."""
        first, _ = self.nodes
        path = self.paths.get(first)
        return {
            "nodes": list(self.nodes),
            "state": self.gate.state,
            "cut": self.cut,
            "routed": self.routed,
            "path": None if path is None else list(path),
            "pinned": self.pinned is not None,
            **self.routes[first].figures.to_json(),
        }
