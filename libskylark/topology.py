"""Nodes, links, and the cheapest paths between them: the graph of one epoch."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from libskylark.errors import NoRoute, UnknownNode

NodeType = Literal["Cloud", "Edge", "Sat"]
NODE_TYPES: Final[tuple[NodeType, ...]] = ("Cloud", "Edge", "Sat")


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the constellation."""

    name: str
    type: NodeType
    ip: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link that carries traffic both ways, with the same figures in each direction."""

    source: str
    target: str
    latency_ms: float
    bandwidth_mbps: float
    jitter_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Path:
    """Nodes from source to destination, the sum of the latencies and the narrowest bandwidth on the way."""

    nodes: tuple[str, ...]
    latency_ms: float
    bottleneck_mbps: float

    @property
    def hops(self) -> int:
        return len(self.nodes) - 1


@dataclass(frozen=True, slots=True)
class _Reached:
    latency_ms: float
    bottleneck_mbps: float
    via: str | None


class Routes:
    """The cheapest paths from one node to all others (by latency; ties go to fewer hops, then the name).

    `trees` are shortest-path trees in the order of preference: the first that reaches a node names its path.
    """

    def __init__(self, source: str, *trees: Mapping[str, _Reached]) -> None:
        self.source = source
        self._trees = trees

    def __contains__(self, node: str) -> bool:
        return any(node in tree for tree in self._trees)

    def path(self, destination: str) -> Path:
        """Raises NoRoute where no links join the two."""
        for tree in self._trees:
            if destination in tree:
                end = tree[destination]
                return Path(tuple(self._back(tree, destination))[::-1], end.latency_ms, end.bottleneck_mbps)
        raise NoRoute(f"no links join {self.source} and {destination} in this epoch")

    @staticmethod
    def _back(tree: Mapping[str, _Reached], destination: str) -> Iterator[str]:
        step: str | None = destination
        while step is not None:
            yield step
            step = tree[step].via


@dataclass(frozen=True)
class Topology:
    """The nodes and the links of one epoch."""

    nodes: Mapping[str, Node]
    links: tuple[Link, ...]

    @classmethod
    def of(cls, nodes: Iterable[Node], links: Iterable[Link]) -> Topology:
        """Raises UnknownNode for a link whose end is no node."""
        named = {node.name: node for node in nodes}
        links = tuple(links)
        for link in links:
            for end in (link.source, link.target):
                if end not in named:
                    raise UnknownNode(end, list(named))
        return cls(named, links)

    def node(self, name: str) -> Node:
        """Raises UnknownNode where there is none such."""
        if name not in self.nodes:
            raise UnknownNode(name, list(self.nodes))
        return self.nodes[name]

    @cached_property
    def _neighbors(self) -> Mapping[str, list[tuple[str, Link]]]:
        neighbors: dict[str, list[tuple[str, Link]]] = {name: [] for name in self.nodes}
        for link in self.links:
            neighbors[link.source].append((link.target, link))
            neighbors[link.target].append((link.source, link))
        return neighbors

    def neighbors(self, node: str) -> Iterator[tuple[Node, Link]]:
        """The nodes one link away from `node`."""
        for name, link in self._neighbors[self.node(node).name]:
            yield self.nodes[name], link

    def routes(self, source: str, min_bandwidth_mbps: float = 0.0) -> Routes:
        """Cheapest paths from `source`, links below `min_bandwidth_mbps` only where no path avoids them.

        Dijkstra, "A note on two problems in connexion with graphs", 1959, with a binary heap.
        Raises UnknownNode where `source` is not in the topology.
        """
        preferred = self._dijkstra(self.node(source).name, min_bandwidth_mbps)
        if len(preferred) == len(self.nodes):
            return Routes(source, preferred)
        return Routes(source, preferred, self._dijkstra(source, 0.0))

    def _dijkstra(self, source: str, min_bandwidth_mbps: float) -> dict[str, _Reached]:
        reached: dict[str, _Reached] = {}
        heap: list[tuple[float, int, str, float, str | None]] = [(0.0, 0, source, float("inf"), None)]
        while heap:
            latency_ms, hops, name, bottleneck_mbps, via = heapq.heappop(heap)
            if name in reached:
                continue
            reached[name] = _Reached(latency_ms, bottleneck_mbps, via)
            for neighbor, link in self._neighbors[name]:
                if neighbor not in reached and link.bandwidth_mbps >= min_bandwidth_mbps:
                    narrowest = min(bottleneck_mbps, link.bandwidth_mbps)
                    heapq.heappush(heap, (latency_ms + link.latency_ms, hops + 1, neighbor, narrowest, name))
        return reached
