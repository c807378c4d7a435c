"""Where the broker's own requests may go, and which of them carry the token: the allow-list and the peers."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from libskylark.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_WITH_PORT: Final = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:]+)(:(?P<port>[0-9]{1,5}))?")
_EXPECTED: Final = "expected hosts, host:port, networks such as 10.0.0.0/8, and *.suffix, separated by commas"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry: a network, or a name (`suffix`: that of all names below it); `port` None for any."""

    network: Network | None = None
    name: str = ""
    suffix: bool = False
    port: int | None = None

    def names(self, host: str, port: int) -> bool:
        """Whether this entry has the host by its name."""
        if not self.name or self.port not in (None, port):
            return False
        return host.endswith(f".{self.name}") if self.suffix else host == self.name

    def holds(self, address: Address, port: int) -> bool:
        """Whether this entry has the address by its number."""
        return self.network is not None and self.port in (None, port) and address in self.network


@dataclass(frozen=True, slots=True)
class AllowList:
    """The hosts that a subscriber may be on."""

    entries: tuple[_Entry, ...]

    @classmethod
    def parse(cls, text: str) -> AllowList:
        """Raises ValueError for an entry that is none of a host, host:port, a network, and *.suffix."""
        return cls(tuple(_entry(part.strip().lower()) for part in text.split(",") if part.strip()))

    def check(self, host: str, port: int) -> None:
        """For a subscriber's file: raises ConfigError for a host outside of the list.

        A name that is not listed itself is looked up, where the list has networks that its addresses may be in.
        """
        host = _plain(host)
        if (address := _address(host)) is not None:
            allowed = self._holds(address, port)
        else:
            allowed = any(entry.names(host, port) for entry in self.entries) or self._leads_inside(host, port)
        if not allowed:
            raise ConfigError(f"found {host}:{port}, which SKYLARK_SUBSCRIBER_ALLOW does not allow")

    def allows(self, host: str, address: str, port: int) -> bool:
        """For a connection: whether `host` may lead to `address` now.

        A name that is listed whole is trusted, whatever it leads to; one that is listed by its suffix may lead to any
        public address, and to those that the list has.
        """
        host, number = _plain(host), ipaddress.ip_address(address.partition("%")[0])
        if self._holds(number, port):
            return True
        named = [entry for entry in self.entries if entry.names(host, port)]
        return any(not entry.suffix or _unmapped(number).is_global for entry in named)

    def _holds(self, address: Address, port: int) -> bool:
        address = _unmapped(address)
        return any(entry.holds(address, port) for entry in self.entries)

    def _leads_inside(self, host: str, port: int) -> bool:
        if not any(entry.network for entry in self.entries):
            return False
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return False
        return all(self.allows(host, str(info[4][0]), port) for info in found)


@dataclass(frozen=True, slots=True)
class Outbound:
    """What holds for every request of the broker.

    `peers` are (host, port) of the constellation's brokers, to which `token` goes and to nobody else; `own` are the
    hosts of its nodes, which no allow-list concerns.
    """

    token: str | None = field(default=None, repr=False)
    peers: frozenset[tuple[str, int]] = frozenset()
    own: frozenset[str] = frozenset()
    allow: AllowList | None = None

    @classmethod
    def of(cls, hosts: Iterable[str], broker_port: int, token: str | None, allow: AllowList | None) -> Outbound:
        own = frozenset(hosts)
        return cls(token, frozenset((host, broker_port) for host in own), own, allow)

    def authorization(self, host: str, port: int) -> str | None:
        """The value of the header Authorization for a request to this place; None where there is none."""
        return f"Bearer {self.token}" if self.token is not None and (host, port) in self.peers else None

    def looks_up(self, host: str) -> bool:
        """Whether what a host's name leads to has to be looked at: its address in the file was looked at already."""
        return self.allow is not None and host not in self.own and _address(_plain(host)) is None


def _entry(text: str) -> _Entry:
    if "/" in text:
        try:
            return _Entry(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"{_EXPECTED}: {error}") from None
    if (address := _address(text)) is not None:
        return _Entry(ipaddress.ip_network(address))
    match = _WITH_PORT.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise ValueError(f"{_EXPECTED}: found {text!r}")
    host = match["host"].strip("[]")
    if (address := _address(host)) is not None:
        return _Entry(ipaddress.ip_network(address), port=port)
    if not _NAME.fullmatch(host) or host != match["host"]:
        raise ValueError(f"{_EXPECTED}: found {text!r}")
    return _Entry(name=host.removeprefix("*.").rstrip("."), suffix=host.startswith("*."), port=port)


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


@lru_cache(maxsize=4096)
def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    """An IPv4 address that is written as one of IPv6 is the IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
