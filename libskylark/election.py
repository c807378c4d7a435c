"""Election: the table of an epoch, computed once at the tick, and the candidates it offers between ticks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from libskylark.config import PolicyName
from libskylark.constellation import Constellation, Objectives
from libskylark.errors import ElectionError
from libskylark.policy import Candidate
from libskylark.topology import Link, Node, Routes, Topology


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
        nodes = [{"node_name": n.name, "node_ip": n.ip, "node_type": n.type} for n in self.topology.nodes.values()]
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
            "nodes": nodes,
            "edges": edges,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> EpochView:
        """The inverse of `to_json`; raises ElectionError where the document is not one."""
        try:
            nodes = [Node(n["node_name"], n["node_type"], n["node_ip"]) for n in document["nodes"]]
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
                Topology.of(nodes, links),
                document["functions"],
            )
        except (KeyError, TypeError) as error:
            raise ElectionError(f"node-info's topology lacks {error}") from None


class ElectionTable:
    """One epoch as one node sees it: its cheapest paths to everyone."""

    def __init__(self, view: EpochView, here: str) -> None:
        self.view = view
        self.here = here
        self._routes: Routes = view.topology.routes(here, view.min_bandwidth_mbps)

    @property
    def epoch(self) -> int:
        return self.view.epoch

    def candidate(self, node: str) -> Candidate:
        """`node` as a candidate; raises NoRoute where it is cut off, UnknownNode where there is none such."""
        host = self.view.topology.node(node).ip
        path = self._routes.path(node)
        return Candidate(node, host, path.latency_ms, path.bottleneck_mbps if path.hops else None, path.hops)

    def candidates(
        self, policy: PolicyName, destination: str | None = None, hosts: Collection[str] | None = None
    ) -> list[Candidate]:
        """What `policy` chooses from, in its order; `hosts` restricts Skylark's choice to nodes that run a function.

        Skylark: the cheapest path to `destination` (the chain's unless given), walked backwards. Where no
        host lies on it, the path to the nearest host. Random: every reachable node. Stateless: the destination.
        A destination that is cut off in this epoch is no candidate. Raises UnknownNode where there is none such.
        """
        destination = self.view.topology.node(destination or self.view.destination).name
        if policy == "stateless":
            return self._reachable([destination])
        if policy == "random":
            return self._reachable(self.view.topology.nodes)
        ladder = self._ladder(destination, hosts)
        if not ladder and hosts:
            nearest = self.nearest(hosts)
            ladder = self._ladder(nearest[0].node, hosts) if nearest else []
        return ladder

    def nearest(self, nodes: Iterable[str]) -> list[Candidate]:
        """The reachable ones of `nodes`, by latency."""
        return sorted(self._reachable(nodes), key=lambda c: (c.latency_ms, c.hops, c.node))

    def consumers(self, event_type: str) -> dict[str, list[str]]:
        """Functions that take events of this type, each with its nodes."""
        return {name: f["nodes"] for name, f in self.view.functions.items() if event_type in f["consumes"]}

    def _reachable(self, nodes: Iterable[str]) -> list[Candidate]:
        return [self.candidate(node) for node in nodes if node in self._routes]

    def _ladder(self, destination: str, hosts: Collection[str] | None) -> list[Candidate]:
        nodes = reversed(self._routes.path(destination).nodes) if destination in self._routes else ()
        return [self.candidate(node) for node in nodes if hosts is None or node in hosts]
