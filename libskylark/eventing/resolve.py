"""From a Destination to the address that it means in this constellation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin

from yarl import URL

from libskylark.errors import ConfigError
from libskylark.eventing.loading import broker_of
from libskylark.eventing.objects import Destination, Reference
from libskylark.eventing.outbound import AllowList


class Endpoint(Protocol):
    """Where one function of one node answers."""

    @property
    def node(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Node(Protocol):
    """A node of the constellation."""

    @property
    def ip(self) -> str: ...


class Locator(Protocol):
    """Knows the nodes, and the endpoint that a Service name means; raises ConfigError for a name that means none."""

    @property
    def nodes(self) -> Mapping[str, Node]: ...

    def locate(self, service: str, here: str) -> Endpoint: ...


class NoServices:
    """The Locator of a broker that runs without a constellation: it knows no Service."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        return {}

    def locate(self, service: str, here: str) -> Endpoint:
        raise ConfigError(f"Service {service!r} cannot be found: SKYLARK_CONSTELLATION is not set")


@dataclass(frozen=True, slots=True)
class Here:
    """The node that resolves."""

    node: str
    host: str
    broker_port: int
    allow: AllowList | None = None  # where subscribers may be that are given by their uri alone


@dataclass(frozen=True, slots=True)
class Target:
    """An address to post to.

    `node` is set where it is the broker of another node, which then delivers. `is_broker` says that a Broker of the
    constellation takes the event there, as it takes any other.
    """

    url: URL
    node: str | None = None
    is_broker: bool = False


def resolve(destination: Destination, namespace: str, here: Here, locator: Locator, hop: str = "") -> Target:
    """The target of a destination; with `hop` (the path of a Trigger) a Service elsewhere is reached through
    the broker of its node. Raises ConfigError for a reference that means nothing here, and for an address that is
    not allowed.
    """
    if destination.ref is None:
        assert destination.uri is not None, "a Destination has ref or uri"
        url = _allowed(destination.uri, here.allow)
        return Target(url, is_broker=_is_broker(url, here, locator))
    if (broker := broker_of(destination, namespace)) is not None:
        base = f"http://{here.host}:{here.broker_port}/{broker}"
        return Target(_below(base, destination.uri), is_broker=True)
    endpoint = locator.locate(_service(destination.ref), here.node)
    if hop and endpoint.node != here.node:
        return Target(URL(f"http://{endpoint.host}:{here.broker_port}/{hop}"), endpoint.node)
    base = f"http://{endpoint.host}:{endpoint.port}/"
    return Target(_below(base, destination.uri))


def _allowed(uri: str, allow: AllowList | None) -> URL:
    url = _url(uri)
    if allow is not None:
        allow.check(url.host or "", url.port or 0)
    return url


def _is_broker(url: URL, here: Here, locator: Locator) -> bool:
    """Whether an address is that of a broker of the constellation, which a `ref` would have named."""
    return url.port == here.broker_port and url.host in {here.host, *(node.ip for node in locator.nodes.values())}


def _below(base: str, uri: str | None) -> URL:
    """The address of `base`, with the path of `uri`: it must not lead elsewhere."""
    url = _url(urljoin(base, uri or ""))
    if url.origin() != URL(base).origin():
        raise ConfigError(f"found uri {uri!r} beside ref, expected a path")
    return url


def _url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError as error:
        raise ConfigError(f"found uri {text!r}: {error}") from None
    if not url.host:
        raise ConfigError(f"found uri {text!r}, expected a host")
    return url


def _service(reference: Reference) -> str:
    groups = ("", "v1", "serving.knative.dev/v1")
    if reference.kind != "Service" or (reference.api_version or "") not in groups:
        kind = f"{reference.kind} ({reference.api_version or 'no apiVersion'})"
        raise ConfigError(f"found ref to {kind}, expected Service (v1 or serving.knative.dev/v1) or Broker")
    return reference.name
