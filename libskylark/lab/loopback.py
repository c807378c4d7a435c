"""The constellation of a lab: every node at a loopback address, and the files in which its processes read that."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.errors import LabError
from libskylark.lab.doors import LinkDoors, at_addresses
from libskylark.yamlfile import dump


class Loopback:
    """A constellation within `network`, the first two octets of loopback addresses; its files are written at once.

    With links, there are `doors` between its nodes, and each node reads a constellation of its own, in which the
    others are where it reaches them. Raises LabError where two nodes would share a loopback address, or there are too
    many for emulated links.
    """

    def __init__(self, constellation: Constellation, network: str, tick_s: float, directory: Path, links: bool) -> None:
        self.constellation = Constellation(_on_loopback(constellation, network, tick_s))
        self.path = directory / "constellation.yaml"
        self.doors = LinkDoors(self.constellation, network) if links else None
        self._directory = directory
        _write(self.path, self.constellation.spec)
        if self.doors is not None:
            for node in self.constellation.nodes:
                _write(self.read_by(node), self.doors.seen_from(node))

    def read_by(self, node: str) -> Path:
        """The file that a node's processes read."""
        return self.path if self.doors is None else self._directory / "constellations" / f"{node}.yaml"


def _on_loopback(constellation: Constellation, network: str, tick_s: float) -> ConstellationSpec:
    """The constellation with every node at a loopback address: `network` and the last two octets of its own."""
    addresses: dict[str, str] = {}
    for node in constellation.nodes.values():
        address = f"{network}.{'.'.join(node.ip.split('.')[-2:])}"
        if ":" in node.ip or not ipaddress.ip_address(address).is_loopback:
            raise LabError(f"node {node.name} at {node.ip}: found no loopback address for it, expected an IPv4 address")
        if address in addresses.values():
            raise LabError(f"node {node.name} at {node.ip}: another node has loopback address {address} already")
        addresses[node.name] = address
    return at_addresses(constellation.spec, addresses).model_copy(update={"tick": tick_s})


def _write(path: Path, spec: ConstellationSpec) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(spec.model_dump(exclude_none=True)), encoding="utf-8")
