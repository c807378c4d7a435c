"""Where functions run and at which ports they answer, as constellation.yaml places them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from libskylark.config import BROKER_PORT, ELECT_PORT, NODE_INFO_PORT, REDIS_PORT, Port
from libskylark.topology import NODE_TYPES, Node

if TYPE_CHECKING:  # a function reads no YAML
    from libskylark.yamlfile import Location

FIRST_FUNCTION_PORT: Final = 9000
NODE_SERVICES: Final = {"node-info": NODE_INFO_PORT, "elect": ELECT_PORT}
# What holds a port of every node already.
_HOLDERS: Final = {
    **{port: name for name, port in NODE_SERVICES.items()},
    BROKER_PORT: "the broker",
    REDIS_PORT: "Redis",
}


class FunctionSpec(BaseModel):
    """Where a function runs (`nodes`: names, or types of node; none: nowhere), what it takes and what it emits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: list[str] = Field(description="Names of nodes, or types, such as `Sat` for every satellite; none: nowhere.")
    consumes: list[str] = Field(default=[], description="The types of events that it takes.")
    emits: str | None = Field(default=None, description="The type of the events that it answers with.")
    port: Port | None = Field(
        default=None, description="Where it listens in the lab; unset, the next one from 9000 on."
    )


def place(functions: Mapping[str, FunctionSpec], nodes: Mapping[str, Node]) -> Mapping[str, FunctionSpec]:
    """The functions, each with its nodes by name and its port.

    A function without a port gets the next one from 9000 on; ports that others were given, and those of the node's
    own services, are stepped over.
    """
    taken = {*_HOLDERS, *(function.port for function in functions.values())}
    free = (port for port in count(FIRST_FUNCTION_PORT) if port not in taken)
    placed: dict[str, FunctionSpec] = {}
    # One that has a port uses up a free one too, so that giving a port moves no other function.
    for (name, function), port in zip(functions.items(), free, strict=False):
        changes: dict[str, Any] = {"nodes": _hosts(function, nodes), "port": function.port or port}
        placed[name] = function.model_copy(update=changes)
    return placed


def placement_faults(
    functions: Mapping[str, FunctionSpec], nodes: Mapping[str, Node]
) -> Iterator[tuple[Location, str]]:
    """Nodes and types of node that are not there, and ports that two would have."""
    types = dict.fromkeys(node.type for node in nodes.values())
    for name, function in functions.items():
        for position, node in enumerate(function.nodes):
            location = ("functions", name, "nodes", position)
            if node in NODE_TYPES and node not in types:
                yield location, f"found {node!r}, a type that no node has; there are {', '.join(types)}"
            elif node not in NODE_TYPES and node not in nodes:
                yield location, f"found {node!r}, expected a node or a type of node: {', '.join(nodes)}"
    yield from _port_faults(functions, nodes)


def _port_faults(functions: Mapping[str, FunctionSpec], nodes: Mapping[str, Node]) -> Iterator[tuple[Location, str]]:
    users: dict[tuple[str, int], str] = {}  # node and port -> the function that was given it
    for name, function in functions.items():
        if (port := function.port) is None:
            continue
        hosts = _hosts(function, nodes)
        shared = [node for node in hosts if (node, port) in users]
        if port in _HOLDERS:
            yield ("functions", name, "port"), f"found {port}, the port of {_HOLDERS[port]} on every node"
        elif shared:
            other = users[shared[0], port]
            yield ("functions", name, "port"), f"found {port}, which {other} has on {shared[0]} too"
        users.update({(node, port): name for node in hosts})


def _hosts(function: FunctionSpec, nodes: Mapping[str, Node]) -> list[str]:
    """The names of its nodes, each once."""
    hosts: dict[str, None] = {}
    for name in function.nodes:
        of_type = [node.name for node in nodes.values() if node.type == name]
        hosts.update(dict.fromkeys(of_type if name in NODE_TYPES else [name]))
    return list(hosts)
