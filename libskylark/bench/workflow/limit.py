"""What no system can be faster than: the time in which the links carry the state from where it is made to its reader.

Each stage makes its state when it has read the one before it. So for every hand-over between two nodes the last byte
has to travel at least the latency of the route, and all bytes have to pass its narrowest link, one after the other:
`latency + 8 * bytes / bottleneck`. Jitter, headers, connections and all computing count as nothing. A hand-over
within a node has no limit, and where a stage may run anywhere, every hand-over can be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from libskylark.topology import Topology

_BITS_PER_BYTE = 8
_BITS_PER_MS_AND_MBPS = 1000


def hand_over_ms(topology: Topology, source: str, target: str, size_bytes: int) -> float:
    """The limit of one hand-over; raises NoRoute, UnknownNode."""
    if source == target:
        return 0.0
    path = topology.routes(source).path(target)
    return path.latency_ms + _BITS_PER_BYTE * size_bytes / (_BITS_PER_MS_AND_MBPS * path.bottleneck_mbps)


def chain_ms(topology: Topology, nodes: Sequence[str], size_bytes: int) -> float:
    """The limit of a chain whose stages run on these nodes, one after the other; raises NoRoute, UnknownNode."""
    return sum(hand_over_ms(topology, source, target, size_bytes) for source, target in pairwise(nodes))


def hops(topology: Topology, source: str, target: str) -> int:
    """The links from where state is to its reader; raises NoRoute, UnknownNode."""
    return topology.routes(source).path(target).hops if source != target else 0
