"""An epoch with the nodes that are there: constellation.yaml as it is, less who is not ready, with who came new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from libskylark.constellation import Constellation
from libskylark.election import EpochView
from libskylark.services.cluster import ClusterNode
from libskylark.topology import Link, Node, Topology


def with_present(view: EpochView, described: Constellation, cluster: Sequence[ClusterNode], here: str) -> EpochView:
    """The view less the nodes of the file that the cluster has not, or not ready; those become its `absent`.

    Type and links of a node are those of the file, its address the cluster's. A node that the file does not name
    has the type of its label, a link to where chains end with the figures of the two types, and no function: no
    Trigger leads to it yet. The node `here` is there, since it is the one that asks.
    """
    found = {node.name: node for node in cluster}
    nodes = {name: _at(node, found.get(name)) for name, node in view.topology.nodes.items()}
    there = {name for name in nodes if name == here or (name in found and found[name].ready)}
    added = {node.name: node for node in _added(cluster, nodes, here)}
    links = [link for link in view.topology.links if link.source in there and link.target in there]
    if view.destination in there:
        links += _links_to(nodes[view.destination], added.values(), described)
    present = [node for name, node in nodes.items() if name in there]
    return replace(
        view,
        topology=Topology.of([*present, *added.values()], links),
        functions={name: _hosted(function, there) for name, function in view.functions.items()},
        absent=tuple(node for name, node in nodes.items() if name not in there),
    )


def _at(node: Node, found: ClusterNode | None) -> Node:
    return node._replace(ip=found.host) if found and found.host else node


def _added(cluster: Sequence[ClusterNode], known: Mapping[str, Node], here: str) -> Iterator[Node]:
    for node in cluster:
        if node.name not in known and node.node_type and node.host and (node.ready or node.name == here):
            yield Node(node.name, node.node_type, node.host)


def _links_to(destination: Node, added: Iterable[Node], described: Constellation) -> Iterator[Link]:
    for node in added:
        if (figures := described.figures(destination.type, node.type)) is not None:
            yield Link(destination.name, node.name, figures.latency_ms, figures.bandwidth_mbps, figures.jitter_ms)


def _hosted(function: dict[str, Any], there: set[str]) -> dict[str, Any]:
    return {**function, "nodes": [node for node in function["nodes"] if node in there]}
