"""From a Destination to the address that it means in this constellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin

from yarl import URL

from libskylark.errors import ConfigError
from libskylark.eventing.loading import broker_of
from libskylark.eventing.objects import Destination, Reference


class Endpoint(Protocol):
    """Where one function of one node answers."""

    @property
    def node(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Locator(Protocol):
    """Finds the endpoint that a Service name means; raises ConfigError for a name that means none."""

    def locate(self, service: str, here: str) -> Endpoint: ...


class NoServices:
    """The Locator of a broker that runs without a constellation: it knows no Service."""

    def locate(self, service: str, here: str) -> Endpoint:
        raise ConfigError(f"Service {service!r} cannot be found: SKYLARK_CONSTELLATION is not set")


@dataclass(frozen=True, slots=True)
class Here:
    """The node that resolves."""

    node: str
    host: str
    broker_port: int


@dataclass(frozen=True, slots=True)
class Target:
    """An address to post to; `node` is set where it is the broker of another node, which then delivers."""

    url: URL
    node: str | None = None


def resolve(destination: Destination, namespace: str, here: Here, locator: Locator, hop: str = "") -> Target:
    """The target of a destination; with `hop` (the path of a Trigger) a Service elsewhere is reached through
    the broker of its node. Raises ConfigError for a reference that means nothing here.
    """
    if destination.ref is None:
        assert destination.uri is not None, "a Destination has ref or uri"
        return Target(URL(destination.uri))
    if (broker := broker_of(destination, namespace)) is not None:
        base = f"http://{here.host}:{here.broker_port}/{broker}"
        return Target(URL(urljoin(base, destination.uri or "")))
    endpoint = locator.locate(_service(destination.ref), here.node)
    if hop and endpoint.node != here.node:
        return Target(URL(f"http://{endpoint.host}:{here.broker_port}/{hop}"), endpoint.node)
    base = f"http://{endpoint.host}:{endpoint.port}/"
    return Target(URL(urljoin(base, destination.uri or "")))


def _service(reference: Reference) -> str:
    groups = ("", "v1", "serving.knative.dev/v1")
    if reference.kind != "Service" or (reference.api_version or "") not in groups:
        kind = f"{reference.kind} ({reference.api_version or 'no apiVersion'})"
        raise ConfigError(f"found ref to {kind}, expected Service (v1 or serving.knative.dev/v1) or Broker")
    return reference.name
