"""The constellation: nodes, links, rotation, objectives and placement, read from constellation.yaml.

An epoch's topology is a pure function of the file and the epoch's number, so every node computes the same one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from libskylark.config import Seconds
from libskylark.errors import ConfigError, DocumentError, Fault
from libskylark.placement import NODE_SERVICES, FunctionSpec, place, placement_faults
from libskylark.topology import Link, Node, NodeType, Topology
from libskylark.yamlfile import Document, Location, read_one

__all__ = [
    "NODE_SERVICES",
    "Constellation",
    "ConstellationSpec",
    "Endpoint",
    "FunctionSpec",
    "LinkFigures",
    "NodeSpec",
    "NotNegative",
    "Objectives",
    "Positive",
    "Rotation",
    "read_constellation",
]

_MINUTES_PER_HOUR: Final = 60

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSpec(_Model):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", description="Its name in all of the file.")]
    type: NodeType = Field(description="What it is; functions and figures of links go by it.")
    ip: str = Field(description="Its address; the lab takes the last two numbers of it, for a loopback address.")

    @field_validator("ip")
    @classmethod
    def _is_address(cls, value: str) -> str:
        ipaddress.ip_address(value)
        return value


class LinkFigures(_Model):
    """What every link between two types of node has."""

    latency_ms: NotNegative = Field(description="Of one way.")
    jitter_ms: NotNegative = Field(default=0.0, description="How far the latency strays.")
    bandwidth_mbps: Positive = Field(description="Shared by all that passes the link.")


class Rotation(_Model):
    """The ground node is linked to one satellite at a time: number `minute % len(satellites)`."""

    ground: str = Field(description="The node on the ground.")
    satellites: Annotated[list[str], Field(min_length=1)] = Field(
        description="The satellites in the order in which they come; number `epoch % 60 % count` is above."
    )


class Objectives(_Model):
    """What a move of state should keep to."""

    max_latency_ms: Positive = Field(default=200.0, description="How long a move of state may be predicted to take.")
    min_bandwidth_mbps: NotNegative = Field(
        default=0.0, description="Slower links are used only where no path avoids them."
    )


class ConstellationSpec(_Model):
    """The file as it stands."""

    tick: Seconds = Field(default=60.0, description="The length of an epoch.")
    area: str = Field(default="area-1", description="The name of the ground area.")
    nodes: Annotated[list[NodeSpec], Field(min_length=1)] = Field(description="All nodes.")
    link_types: dict[str, LinkFigures] = Field(
        default={},
        description="The figures of links by the types of their ends, such as `Cloud-to-Sat`.",
    )
    links: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default=[], description="Pairs of nodes that are always linked."
    )
    rotation: Rotation | None = Field(default=None, description="Which satellite is linked to the ground in an epoch.")
    objectives: Objectives = Field(default=Objectives(), description="What moves of state should keep to.")
    destination: str | None = Field(
        default=None, description="Where chains end; unset, the first Cloud node, else the first node."
    )
    functions: dict[str, FunctionSpec] = Field(default={}, description="Who runs where, by the function's name.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one function of one node answers."""

    node: str
    function: str
    host: str
    port: int


class Constellation:
    """A constellation whose references all hold; build it with `read_constellation` or from a spec.

    Raises DocumentError, with file and line where `document` is given, for a name that is no node, a link
    whose type has no figures, and the like.
    """

    def __init__(self, spec: ConstellationSpec, document: Document | None = None) -> None:
        self.spec = spec
        self.document = document
        self.nodes: Mapping[str, Node] = {n.name: Node(n.name, n.type, n.ip) for n in spec.nodes}
        faults = [_fault(document, location, message) for location, message in self._faults()]
        if faults:
            raise DocumentError(faults)

    @property
    def objectives(self) -> Objectives:
        return self.spec.objectives

    @cached_property
    def destination(self) -> str:
        """Where chains end: the `destination` of the file, else its first Cloud node, else its first node."""
        clouds = [node.name for node in self.nodes.values() if node.type == "Cloud"]
        return self.spec.destination or [*clouds, *self.nodes][0]

    @cached_property
    def functions(self) -> Mapping[str, FunctionSpec]:
        """The functions, each with its nodes by name and its port."""
        return place(self.spec.functions, self.nodes)

    def access(self, epoch: int) -> str:
        """The node above the ground area in this epoch."""
        rotation = self.spec.rotation
        if rotation is None:
            return self.destination
        minute = epoch % _MINUTES_PER_HOUR
        return rotation.satellites[minute % len(rotation.satellites)]

    def topology(self, epoch: int) -> Topology:
        pairs = [(a, b) for a, b in self.spec.links]
        if self.spec.rotation is not None:
            pairs.append((self.spec.rotation.ground, self.access(epoch)))
        return Topology.of(self.nodes.values(), [self._link(*pair) for pair in pairs])

    def consumers(self, event_type: str) -> list[str]:
        """Names of the functions that take events of this type."""
        return [name for name, function in self.functions.items() if event_type in function.consumes]

    def hosts(self, function: str) -> list[str]:
        """Names of the nodes that run a function; empty for one that is unknown."""
        spec = self.functions.get(function)
        return list(spec.nodes) if spec else []

    def locate(self, service: str, here: str) -> Endpoint:
        """The endpoint that a Service name means: `node-function`, or `function`, then on this node if it can.

        Raises ConfigError for a name that fits no function and no node service.
        """
        for node in self.nodes.values():
            function = service.removeprefix(f"{node.name}-")
            if function != service and (port := self._port(function, node.name)):
                return Endpoint(node.name, function, node.ip, port)
        for name in (here, *self.hosts(service)):
            if name in self.nodes and (port := self._port(service, name)):
                return Endpoint(name, service, self.nodes[name].ip, port)
        known = ", ".join([*self.functions, *NODE_SERVICES])
        raise ConfigError(f"Service {service!r} is no function that is placed; known functions are {known}")

    def _port(self, function: str, node: str) -> int | None:
        if function in NODE_SERVICES:
            return NODE_SERVICES[function]
        spec = self.functions.get(function)
        return spec.port if spec and node in spec.nodes else None

    def figures(self, a: NodeType, b: NodeType) -> LinkFigures | None:
        """What links between nodes of two types have, in whichever order the file names them; None: no such links."""
        for first, second in ((a, b), (b, a)):
            if (figures := self.spec.link_types.get(f"{first}-to-{second}")) is not None:
                return figures
        return None

    def _link(self, a: str, b: str) -> Link:
        figures = self.figures(self.nodes[a].type, self.nodes[b].type)
        assert figures is not None, "links were checked when the file was read"
        return Link(a, b, figures.latency_ms, figures.bandwidth_mbps, figures.jitter_ms)

    def _faults(self) -> Iterator[tuple[Location, str]]:
        yield from self._node_faults()
        yield from self._link_faults()
        yield from placement_faults(self.spec.functions, self.nodes)

    def _node_faults(self) -> Iterator[tuple[Location, str]]:
        for field in ("name", "ip"):
            seen: set[str] = set()
            for position, node in enumerate(self.spec.nodes):
                if (value := getattr(node, field)) in seen:
                    yield ("nodes", position, field), f"found {value!r} twice"
                seen.add(value)
        if self.spec.destination is not None and self.spec.destination not in self.nodes:
            yield ("destination",), self._unknown(self.spec.destination)

    def _link_faults(self) -> Iterator[tuple[Location, str]]:
        ends: list[tuple[Location, tuple[str, ...]]] = [
            (("links", number), tuple(pair)) for number, pair in enumerate(self.spec.links)
        ]
        if (rotation := self.spec.rotation) is not None:
            if rotation.ground not in self.nodes:
                yield ("rotation", "ground"), self._unknown(rotation.ground)
            for number, name in enumerate(rotation.satellites):
                # A ground node that is unknown has its fault already.
                pair = (rotation.ground, name) if rotation.ground in self.nodes else (name,)
                ends.append((("rotation", "satellites", number), pair))
        for location, names in ends:
            unknown = [name for name in dict.fromkeys(names) if name not in self.nodes]
            for name in unknown:
                yield location, self._unknown(name)
            if not unknown and len(names) == 2:
                yield from ((location, message) for message in self._pair_faults(*names))

    def _pair_faults(self, a: str, b: str) -> Iterator[str]:
        if a == b:
            yield f"links {a!r} with itself"
        elif self.figures(self.nodes[a].type, self.nodes[b].type) is None:
            kind = f"{self.nodes[a].type}-to-{self.nodes[b].type}"
            yield f"link {a} - {b}: link_types has no figures for {kind}"

    def _unknown(self, name: str) -> str:
        return f"found {name!r}, expected a node: {', '.join(self.nodes)}"


def _fault(document: Document | None, location: Location, message: str) -> Fault:
    return document.fault(location, message) if document else Fault("constellation", 0, str(location), message)


def read_constellation(path: Path) -> Constellation:
    """The constellation of a file; raises DocumentError with every fault, its line and field."""
    spec, document = read_one(path, ConstellationSpec)
    return Constellation(spec, document)
