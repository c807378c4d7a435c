"""All pairs of nodes and all links: who reaches whom over which of them, in the epoch of now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from libskylark.errors import LabError
from libskylark.lab.links.effects import GateState
from libskylark.lab.links.figures import CutMode, Figures, Hop, Scope
from libskylark.lab.links.pair import EmulatedLink, Pair, Path
from libskylark.lab.links.route import Route
from libskylark.topology import Link, Topology

if TYPE_CHECKING:
    from libskylark.routes import Routes

#: Two nodes, whichever is named first.
_Ends = frozenset[str]


class Links:
    """All pairs of nodes. Without a topology they are linked perfectly.

    With one, each pair is led over its cheapest path and passes every link of it; all flows over a link share its
    bandwidth, each direction by itself. What is cut or set by hand, a link or a pair, stays so in later epochs. A cut
    of a link holds at once for all whose way it is; from the next epoch on they take another way where there is one.
    `no_route` befalls a pair that the topology does not join: by default its connections are reset, since a router
    says that it knows no route, where a cut link says nothing.
    """

    def __init__(self, no_route: CutMode = "reset") -> None:
        self._no_route: Final = no_route
        self._pairs: dict[_Ends, Pair] = {}
        self._links: dict[_Ends, EmulatedLink] = {}
        self._followed: tuple[Topology, float] | None = None

    def join(self, a: str, b: str) -> Pair:
        """The pair of two nodes, made where there was none.

        Raises LabError for a node with itself, UnknownNode for one that the topology lacks.
        """
        if a == b:
            raise LabError(f"node {a!r} reaches itself without a link")
        if (known := self._pairs.get(frozenset((a, b)))) is not None:
            return known
        if self._followed is not None:
            for node in (a, b):
                self._followed[0].node(node)
        pair = self._pairs[frozenset((a, b))] = Pair(a, b)
        self._choose([pair])
        return pair

    def pair(self, a: str, b: str) -> Pair:
        """Raises LabError where nothing is relayed between the two."""
        if (pair := self._pairs.get(frozenset((a, b)))) is None:
            known = ", ".join(sorted({node for nodes in self._pairs for node in nodes})) or "none"
            raise LabError(f"no traffic between {a!r} and {b!r} is relayed, expected two of the nodes {known}")
        return pair

    def link(self, a: str, b: str) -> EmulatedLink:
        """Raises LabError where no epoch that is known links the two."""
        if (link := self._links.get(frozenset((a, b)))) is None:
            known = ", ".join(" - ".join(link.nodes) for link in self._links.values()) or "none"
            raise LabError(f"no link joins {a!r} and {b!r} in any epoch, expected one of the links {known}")
        return link

    def pairs(self) -> Iterator[Pair]:
        yield from self._pairs.values()

    def links(self) -> Iterator[EmulatedLink]:
        yield from self._links.values()

    def carried_bytes(self) -> dict[Hop, int]:
        """What each link of the topology has carried so far, by direction; pairs with figures of their own left out."""
        return {hop: carried for link in self._links.values() for hop, carried in link.carried_bytes().items()}

    def set(self, a: str, b: str, figures: Figures, scope: Scope = "pair") -> None:
        """Give a link other figures, or a pair figures and a bandwidth that no other pair shares; until `unset`."""
        if scope == "link":
            self.link(a, b).pin(figures)
        else:
            pair = self.pair(a, b)
            pair.pinned = EmulatedLink(*pair.nodes, figures)
        self._refresh(self._pairs.values())

    def unset(self, a: str, b: str, scope: Scope = "pair") -> None:
        """Back to the figures of the topology."""
        if scope == "link":
            self.link(a, b).pin(None)
        else:
            self.pair(a, b).pinned = None
        self._refresh(self._pairs.values())

    def cut(self, a: str, b: str, mode: CutMode, scope: Scope = "pair") -> None:
        self._set_cut([self.link(a, b) if scope == "link" else self.pair(a, b)], mode)

    def heal(self, a: str, b: str, scope: Scope = "pair") -> None:
        self._set_cut([self.link(a, b) if scope == "link" else self.pair(a, b)], None)

    def heal_all(self) -> None:
        self._set_cut([*self._pairs.values(), *self._links.values()], None)

    def know(self, links: Iterable[Link]) -> None:
        """Links that some epoch has, so that they can be cut and set while they are not up.

        Of several links between the same nodes the first one of the least latency counts.
        """
        for ends, link in _best(links).items():
            if ends not in self._links:
                self._links[ends] = EmulatedLink(link.source, link.target, Figures())
            self._links[ends].follow(link)

    def follow(self, topology: Topology, min_bandwidth_mbps: float = 0.0) -> list[Pair]:
        """Lead all pairs over the cheapest paths of an epoch; the pairs that had a route and have another one now.

        `min_bandwidth_mbps` is that of Topology.routes. Raises UnknownNode for a pair that the topology lacks.
        """
        for node in {node for pair in self._pairs.values() for node in pair.nodes}:
            topology.node(node)
        self._followed = (topology, min_bandwidth_mbps)
        self.know(topology.links)
        up = _best(topology.links)
        for ends, link in self._links.items():
            link.up = ends in up
        return self._choose(self._pairs.values())

    def _set_cut(self, parts: Iterable[EmulatedLink | Pair], mode: CutMode | None) -> None:
        for part in parts:
            part.cut = mode
        self._refresh(self._pairs.values())

    def _choose(self, pairs: Collection[Pair]) -> list[Pair]:
        """Give pairs the best paths of now; those that had others before."""
        moved = []
        if self._followed is not None:
            paths = _Paths(*self._followed, [link for link in self._links.values() if link.up])
            moved = [p for p in pairs if p.move({node: paths.find(node, p.other(node)) for node in p.nodes})]
        self._refresh(pairs)
        return moved

    def _refresh(self, pairs: Iterable[Pair]) -> None:
        """Let pairs follow what their paths have now; without a path, what is under way keeps to the last one."""
        for pair in pairs:
            for node in pair.nodes:
                if pair.pinned is not None:
                    pair.routes[node] = _route(node, [pair.pinned])
                elif pair.routed:
                    hops = pairwise(pair.paths.get(node) or ())
                    pair.routes[node] = _route(node, [self._links[frozenset(hop)] for hop in hops])
            pair.gate.turn(self._state(pair))

    def _state(self, pair: Pair) -> GateState:
        if pair.cut is not None:
            return pair.cut
        if not pair.routed:
            return self._no_route
        cuts = {self._links[ends].cut for ends in pair.hops()}
        return "reset" if "reset" in cuts else "silent" if "silent" in cuts else "open"


class _Paths:
    """Cheapest paths over links that are up: past those that are cut, where there is such a path."""

    def __init__(self, topology: Topology, min_bandwidth_mbps: float, up: Collection[EmulatedLink]) -> None:
        nodes = topology.nodes.values()
        whole = [link.as_link() for link in up if link.cut is None]
        self._topologies = [Topology.of(nodes, whole)]
        if len(whole) < len(up):
            self._topologies.append(Topology.of(nodes, [link.as_link() for link in up]))
        self._min_bandwidth_mbps = min_bandwidth_mbps
        self._routes: dict[tuple[int, str], Routes] = {}

    def find(self, source: str, target: str) -> Path | None:
        for number, topology in enumerate(self._topologies):
            routes = self._routes.get((number, source))
            if routes is None:
                routes = self._routes[number, source] = topology.routes(source, self._min_bandwidth_mbps)
            if target in routes:
                return routes.path(target).nodes
        return None


def _route(sender: str, links: Iterable[EmulatedLink]) -> Route:
    """The links in order, each in the direction in which the sender's bytes pass it."""
    steps = []
    for link in links:
        steps.append(link.step(sender))
        sender = link.nodes[sender == link.nodes[0]]
    return Route(tuple(steps))


def _best(links: Iterable[Link]) -> dict[_Ends, Link]:
    best: dict[_Ends, Link] = {}
    for link in links:
        known = best.setdefault(frozenset((link.source, link.target)), link)
        if link.latency_ms < known.latency_ms:
            best[frozenset((link.source, link.target))] = link
    return best
