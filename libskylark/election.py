"""Election: the table of an epoch, computed once at the tick, and the candidates it offers between ticks."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from libskylark.clock import Ticks
from libskylark.config import PolicyName
from libskylark.errors import ElectionError, UnknownNode
from libskylark.policy import POLICIES, Candidate, Candidates, Fits, Ladder, policy_named
from libskylark.topology import Link, Node, Topology

if TYPE_CHECKING:  # what reads YAML and finds paths is of no use to a function
    from libskylark.constellation import Constellation, Objectives
    from libskylark.routes import Routes


@dataclass(frozen=True)
class EpochView:
    """What node-info tells of one epoch: the graph, who is above, the objectives, who runs what."""

    epoch: int
    tick_s: float
    access: str
    area: str
    destination: str
    max_latency_ms: float
    min_bandwidth_mbps: float
    topology: Topology
    functions: dict[str, dict[str, Any]]  # name -> {"nodes", "consumes", "emits", "port"}
    #: Nodes of the constellation that are not there now: nobody is sent to them, and what they hold is still theirs.
    absent: tuple[Node, ...] = ()

    @classmethod
    def of(cls, constellation: Constellation, epoch: int, tick_s: float, objectives: Objectives) -> EpochView:
        functions = {name: function.model_dump() for name, function in constellation.functions.items()}
        return cls(
            epoch,
            tick_s,
            constellation.access(epoch),
            constellation.spec.area,
            constellation.destination,
            objectives.max_latency_ms,
            objectives.min_bandwidth_mbps,
            constellation.topology(epoch),
            functions,
        )

    def to_json(self) -> dict[str, Any]:
        """The document of `/current-topology`; bandwidth is in Mbit/s, latency and jitter in ms."""
        edges = [
            {
                "source": link.source,
                "target": link.target,
                "bandwidth": link.bandwidth_mbps,
                "latency": link.latency_ms,
                "jitter": link.jitter_ms,
            }
            for link in self.topology.links
        ]
        return {
            "epoch": self.epoch,
            "tick_s": self.tick_s,
            "access": self.access,
            "area": self.area,
            "destination": self.destination,
            "objectives": {"max_latency": self.max_latency_ms, "min_bandwidth": self.min_bandwidth_mbps},
            "functions": self.functions,
            "nodes": [_node_document(node) for node in self.topology.nodes.values()],
            "absent": [_node_document(node) for node in self.absent],
            "edges": edges,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> EpochView:
        """The inverse of `to_json`; raises ElectionError where the document is not one."""
        try:
            links = [
                Link(e["source"], e["target"], e["latency"], e["bandwidth"], e.get("jitter", 0.0))
                for e in document["edges"]
            ]
            return cls(
                document["epoch"],
                document["tick_s"],
                document["access"],
                document["area"],
                document["destination"],
                document["objectives"]["max_latency"],
                document["objectives"]["min_bandwidth"],
                Topology.of(map(_node_of, document["nodes"]), links),
                document["functions"],
                tuple(map(_node_of, document.get("absent", ()))),
            )
        except (KeyError, TypeError) as error:
            raise ElectionError(f"node-info's topology lacks {error}") from None


def _node_document(node: Node) -> dict[str, str]:
    return {"node_name": node.name, "node_ip": node.ip, "node_type": node.type}


def _node_of(document: dict[str, Any]) -> Node:
    return Node(document["node_name"], document["node_type"], document["node_ip"])


@dataclass(frozen=True)
class Offer:
    """What a table offers for events that certain functions take: candidates for the state, nodes for the event."""

    candidates: Ladder
    hosts: tuple[str, ...]  # nearest first


class ElectionTable:
    """One epoch as one node sees it: its cheapest paths to everyone. Computed whole when it is made.

    What is asked of it again is kept; threads may share it. `staying` is the candidate that moves nothing.
    """

    def __init__(
        self, view: EpochView, here: str, following: Topology | None = None, routes: Routes | None = None
    ) -> None:
        """`following` is the next epoch's topology, where it is known; `routes` those of the view, if computed before.

        Raises UnknownNode where `here` is no node of the view.
        """
        self.view = view
        self.here = here
        self._routes = routes or view.topology.routes(here, view.min_bandwidth_mbps)
        if following is None:
            self.untils_s = array("d", [inf]) * len(self._routes.hops)
        else:
            self.untils_s = self._routes.ends_s(following.graph, Ticks(view.tick_s).ends_s(view.epoch))
        self.policies = {name: policy_named(name, view.max_latency_ms) for name in POLICIES}
        self._candidates: dict[int, Candidate] = {}
        self._walks: dict[tuple[PolicyName, str], Candidates] = {}
        self.staying = self.rung(self._routes.root)
        self._offers: dict[tuple[tuple[str, ...], PolicyName, str | None], Offer] = {}

    def followed_by(self, following: Topology) -> ElectionTable:
        """The same table, which knows what comes next: paths that end then are told by `until_s`."""
        return ElectionTable(self.view, self.here, following, self._routes)

    @property
    def epoch(self) -> int:
        return self.view.epoch

    def candidate(self, node: str) -> Candidate:
        """`node` as a candidate; raises NoRoute where it is cut off, UnknownNode where there is none such."""
        return self.rung(self._routes.rung(self.view.topology.node(node).name))

    def rung(self, rung: int) -> Candidate:
        """The candidate at a rung of the routes."""
        if (known := self._candidates.get(rung)) is not None:
            return known
        routes, node = self._routes, self._routes.node(rung)
        bottleneck_mbps = routes.bottleneck_mbps[rung] if routes.hops[rung] else None
        until_s = self.untils_s[rung] if self.untils_s[rung] < inf else None
        host = self.view.topology.nodes[node].ip
        made = Candidate(node, host, routes.latency_ms[rung], bottleneck_mbps, routes.hops[rung], until_s)
        self._candidates[rung] = made
        return made

    def candidates(self, policy: PolicyName, destination: str | None = None) -> Candidates:
        """What `policy` chooses from where any node will do, in its order.

        Skylark: the cheapest path to `destination` (the chain's unless given), walked backwards. Random: every
        reachable node. Stateless: the destination. One that is cut off in this epoch, or absent, is no candidate.
        Raises UnknownNode where there is none such.
        """
        nodes, end = self.view.topology.nodes, destination or self.view.destination
        key = (policy, end)
        if (known := self._walks.get(key)) is not None:
            return known
        if end not in nodes and end not in {node.name for node in self.view.absent}:
            raise UnknownNode(end, list(nodes))
        rung = self._routes.find(end) if end in nodes else None
        if policy == "random":
            walk: Candidates = self._everyone
        elif rung is None:
            walk = Ladder()
        else:
            walk = _Climb(self, self._routes, rung) if policy == "skylark" else Ladder([self.rung(rung)])
        self._walks[key] = walk
        return walk

    def offer(self, functions: Iterable[str], policy: PolicyName, destination: str | None = None) -> Offer:
        """The same for an event that `functions` take, which Skylark keeps to nodes that run them.

        Where none of these lies on the path to the destination, it takes the path to the nearest one.
        Raises UnknownNode like `candidates`, KeyError for a function that the view does not have.
        """
        key = (tuple(functions), policy, destination)
        if (known := self._offers.get(key)) is not None:
            return known
        nodes = [set(self.view.functions[name]["nodes"]) for name in key[0]]
        # One event is addressed to one node: of several functions that take it, to a node that runs them all.
        shared = set.intersection(*nodes) or nodes[0] if nodes else set()
        hosts = tuple(candidate.node for candidate in self.nearest(shared))
        candidates = self.candidates(policy, destination)
        if policy == "skylark" and shared:
            on_the_way = self._on(candidates, shared)
            candidates = on_the_way or (self._on(self.candidates(policy, hosts[0]), shared) if hosts else Ladder())
        offer = self._offers[key] = Offer(Ladder(candidates), hosts)
        return offer

    def nearest(self, nodes: Iterable[str]) -> list[Candidate]:
        """The reachable ones of `nodes`, by latency."""
        reachable = (self.candidate(node) for node in nodes if node in self._routes)
        return sorted(reachable, key=lambda c: (c.latency_ms, c.hops, c.node))

    def consumers(self, event_type: str) -> list[str]:
        """Functions that take events of this type."""
        return [name for name, function in self.view.functions.items() if event_type in function["consumes"]]

    @cached_property
    def hosts(self) -> Mapping[str, str]:
        """The address of every node that runs a function."""
        names = dict.fromkeys(node for function in self.view.functions.values() for node in function["nodes"])
        return {name: self.view.topology.node(name).ip for name in names}

    @cached_property
    def _everyone(self) -> Ladder:
        return Ladder(self.candidate(node) for node in self.view.topology.nodes if node in self._routes)

    @staticmethod
    def _on(ladder: Candidates, hosts: Collection[str]) -> Ladder:
        return Ladder(candidate for candidate in ladder if candidate.node in hosts)


class _Climb:
    """The ladder from a rung to the root, whose rungs are looked at only where a choice needs them."""

    __slots__ = ("_begins", "_length", "_routes", "_table")

    def __init__(self, table: ElectionTable, routes: Routes, begins: int) -> None:
        self._table = table
        self._routes = routes
        self._begins = begins
        self._length = routes.hops[begins] + 1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Candidate:
        if not 0 <= position < self._length:
            raise IndexError(f"found rung {position}, expected 0 to {self._length - 1}")
        return self._table.rung(self._routes.ahead(self._begins, position))

    def __iter__(self) -> Iterator[Candidate]:
        return map(self._table.rung, self._routes.ladder(self._begins))

    def first(self, fits: Fits) -> int:
        return self._routes.climb(self._begins, self._table.untils_s, fits)
