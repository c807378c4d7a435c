"""The links of the epoch: what goes over which of them, how loaded that leaves each, and what the lab's relay tells."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from libskylark.constellation import Constellation
from libskylark.errors import NoRoute, UnknownNode
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.journey import Step
from libskylark.topology import Link, Topology

_WINDOW_S: Final = 10.0
_MOST_PAIRS: Final = 4000  # of events that left one node, and are not yet heard of on the other, or the other way
_MOST_CROSSINGS: Final = 20_000
_BITS_PER_MBIT: Final = 1e6

_FIGURES: Final = ("latency_ms", "jitter_ms", "bandwidth_mbps")

_Pair = tuple[str, str]


class Traffic:
    """Not safe for several threads. Events are brought together from the journals of the two nodes that they concern:
    which of the two is read first is chance."""

    def __init__(self, constellation: Constellation, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._constellation = constellation
        self._elapsed_s = elapsed_s
        self._topology = Topology(constellation.nodes, ())
        self._paths: dict[_Pair, tuple[str, ...]] = {}
        self._ground: frozenset[str] = frozenset()
        self._relayed: dict[frozenset[str], dict[str, Any]] = {}
        self._left: OrderedDict[_Pair, str] = OrderedDict()
        self._came: OrderedDict[_Pair, str] = OrderedDict()
        self._crossings: deque[tuple[float, tuple[str, ...], int]] = deque(maxlen=_MOST_CROSSINGS)

    def follow(self, epoch: int) -> None:
        """From now on what is sent takes the links of this epoch."""
        self._topology = self._constellation.topology(epoch)
        self._paths.clear()
        if (rotation := self._constellation.spec.rotation) is not None:
            self._ground = frozenset((rotation.ground, self._constellation.access(epoch)))

    def relay(self, links: Iterable[Mapping[str, Any]], pairs: Iterable[Mapping[str, Any]]) -> None:
        """What the relay of emulated links says of each link and of each pair of nodes; see LabLinks.

        Pairs that have a way take it, until the next epoch: past links that are cut, where there is another way.
        """
        self._relayed = {
            frozenset(link["nodes"]): {"state": link["cut"] or "open", **{name: link[name] for name in _FIGURES}}
            for link in links
        }
        for path in (tuple(pair["path"]) for pair in pairs if pair["path"]):
            self._paths[path[0], path[-1]] = path
            self._paths[path[-1], path[0]] = path[::-1]

    def hop(self, step: Step) -> list[str] | None:
        """The nodes that an event passed, once both its ends are known; None while they are not."""
        record = step.record
        if isinstance(record, Accepted) and record.hop:
            for trigger in record.to:
                if (source := self._left.pop((record.event, trigger), None)) is not None:
                    return self.crossed(source, step.node, 0)
                _keep(self._came, (record.event, trigger), step.node)
        elif isinstance(record, Outcome) and record.outcome == "forwarded":
            pair = (record.event, record.trigger)
            if (target := self._came.pop(pair, None)) is not None:
                return self.crossed(step.node, target, 0)
            _keep(self._left, pair, step.node)
        return None

    def crossed(self, source: str, target: str, size_bytes: int) -> list[str]:
        """The nodes on the way from one to another, where something went now; the two alone where no route is known."""
        if (source, target) not in self._paths:
            self._paths[source, target] = self._path(source, target)
        nodes = self._paths[source, target]
        self._crossings.append((self._elapsed_s(), nodes, size_bytes))
        return list(nodes)

    def _path(self, source: str, target: str) -> tuple[str, ...]:
        try:
            bandwidth_mbps = self._constellation.objectives.min_bandwidth_mbps
            return self._topology.routes(source, bandwidth_mbps).path(target).nodes
        except (NoRoute, UnknownNode):
            return source, target

    def links(self) -> list[dict[str, Any]]:
        """Every link of the epoch with its figures, whether it is cut, and its load over the last ten seconds, both
        directions together."""
        oldest_s = self._elapsed_s() - _WINDOW_S
        while self._crossings and self._crossings[0][0] < oldest_s:
            self._crossings.popleft()
        messages: dict[frozenset[str], int] = {}
        size_bytes: dict[frozenset[str], int] = {}
        for _, nodes, size in self._crossings:
            for pair in map(frozenset, pairwise(nodes)):
                messages[pair] = messages.get(pair, 0) + 1
                size_bytes[pair] = size_bytes.get(pair, 0) + size
        found = []
        for link in self._topology.links:
            pair = frozenset((link.source, link.target))
            mbps = size_bytes.get(pair, 0) * 8 / _BITS_PER_MBIT / _WINDOW_S
            load = {"messages_per_s": round(messages.get(pair, 0) / _WINDOW_S, 2), "state_mbps": round(mbps, 4)}
            state = {"state": "open", "is_ground_link": pair == self._ground}
            found.append({**link_json(link), **state, **load, **self._relayed.get(pair, {})})
        return found


def link_json(link: Link) -> dict[str, Any]:
    return {
        "source": link.source,
        "target": link.target,
        "latency_ms": link.latency_ms,
        "jitter_ms": link.jitter_ms,
        "bandwidth_mbps": link.bandwidth_mbps,
    }


def _keep(known: OrderedDict[_Pair, str], pair: _Pair, node: str) -> None:
    known[pair] = node
    if len(known) > _MOST_PAIRS:
        known.popitem(last=False)
