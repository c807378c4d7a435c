"""Where one node of the lab reaches another over emulated links: the loopback addresses of all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.errors import LabError
from libskylark.lab.listening import Door

_MOST_TARGETS = 254


class LinkDoors:
    """Node number i reaches node number j (both from 1, in the constellation's order) at NETWORK.k.j.

    k is the i-th number from 1 on that is the third octet of no node's own address, so that with pi5u2 as the
    second node and all nodes at 127.0.0.X, it reaches the third one at 127.0.2.3. All addresses are within the
    lab's network: labs on different networks do not meet. The one after the last node has the `control_host`.
    Raises LabError where a constellation has too many nodes for that.
    """

    def __init__(self, constellation: Constellation, network: str) -> None:
        self._constellation = constellation
        self._network = network
        taken = {int(node.ip.split(".")[2]) for node in constellation.nodes.values()}
        free = [octet for octet in range(1, 256) if octet not in taken]
        numbers = {name: number for number, name in enumerate(constellation.nodes)}
        if len(numbers) > _MOST_TARGETS or len(numbers) >= len(free):
            most = min(_MOST_TARGETS, len(free) - 1)
            raise LabError(f"found {len(numbers)} nodes, expected at most {most} for a lab with emulated links")
        self._numbers = numbers
        self._octets = free
        self.control_host = f"{network}.{free[len(numbers)]}.1"

    def address(self, source: str, target: str) -> str:
        """Where `source` reaches `target`; itself, at its own address."""
        if source == target:
            return self._constellation.nodes[target].ip
        return f"{self._network}.{self._octets[self._numbers[source]]}.{self._numbers[target] + 1}"

    def to(self, target: str, port: int) -> Iterator[Door]:
        """What all other nodes need to reach one port of a node."""
        host = self._constellation.nodes[target].ip
        for source in self._numbers:
            if source != target:
                yield Door(source, target, host, port, self.address(source, target))

    def seen_from(self, source: str) -> ConstellationSpec:
        """The constellation with every node where `source` reaches it."""
        addresses = {target: self.address(source, target) for target in self._numbers}
        return at_addresses(self._constellation.spec, addresses)


def at_addresses(spec: ConstellationSpec, addresses: Mapping[str, str]) -> ConstellationSpec:
    """The constellation with its nodes, by name, at other addresses."""
    nodes = [node.model_copy(update={"ip": addresses[node.name]}) for node in spec.nodes]
    return spec.model_copy(update={"nodes": nodes})
