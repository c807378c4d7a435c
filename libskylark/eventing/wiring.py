"""What the broker runs by: objects with every address resolved, made anew and exchanged whole when files change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from libskylark.errors import ConfigError, DocumentError, Fault
from libskylark.eventing.intake import Routes
from libskylark.eventing.loading import Loaded, Objects, broker_of
from libskylark.eventing.objects import Destination
from libskylark.eventing.pingsource import Ping
from libskylark.eventing.resolve import Here, Locator, Target, resolve
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.subscriptions import Subscription
from libskylark.yamlfile import Location


@dataclass(frozen=True, slots=True)
class Wiring:
    """Objects, and what follows from them; subscriptions and pings by `namespace/name`."""

    objects: Objects
    routes: Routes
    subscriptions: dict[str, Subscription]
    pings: dict[str, Ping]


def wire(objects: Objects, here: Here, locator: Locator) -> Wiring:
    """Raises DocumentError for every Trigger and PingSource that refers to what this constellation has not."""
    resolver = _Resolver(here, locator)
    subscriptions = {each.trigger: each for each in resolver.subscriptions(objects)}
    pings = {each.source.id: each for each in resolver.pings(objects)}
    if resolver.faults:
        raise DocumentError(resolver.faults)
    return Wiring(objects, Routes(objects), subscriptions, pings)


def immutable_faults(former: Objects, objects: Objects) -> Iterator[Fault]:
    """Changes that a cluster refuses when an object is applied again: another broker of a Trigger."""
    for name, loaded in objects.triggers.items():
        before = former.triggers.get(name)
        if before is not None and before.object.spec.broker != loaded.object.spec.broker:
            found, was = loaded.object.spec.broker, before.object.spec.broker
            message = f"found {found!r}, was {was!r}, which cannot change: give the Trigger another name"
            yield loaded.fault(("spec", "broker"), message)


def differences(former: Wiring, now: Wiring) -> str:
    """`added Trigger default/a; removed Broker default/b`; empty where nothing is different."""
    before, after = _traits(former), _traits(now)
    told = [
        *(f"added {name}" for name in after if name not in before),
        *(f"changed {name}" for name in after if name in before and before[name] != after[name]),
        *(f"removed {name}" for name in before if name not in after),
    ]
    return "; ".join(told)


def _traits(wiring: Wiring) -> dict[str, Any]:
    """What matters here of every object, by its kind and name."""
    objects = wiring.objects
    brokers = {f"Broker {each}": _own_traits(loaded) for each, loaded in objects.brokers.items()}
    triggers = {
        f"Trigger {each}": (loaded.object.spec, wiring.subscriptions[each]) for each, loaded in objects.triggers.items()
    }
    pings = {f"PingSource {each}": ping.traits for each, ping in wiring.pings.items()}
    return {**brokers, **triggers, **pings}


def _own_traits(loaded: Loaded[Any]) -> Any:
    return loaded.object.spec, loaded.object.duplicate_window_s


class _Resolver:
    """Resolves destinations, and gathers what cannot be."""

    def __init__(self, here: Here, locator: Locator) -> None:
        self._here = here
        self._locator = locator
        self.faults: list[Fault] = []

    def subscriptions(self, objects: Objects) -> Iterator[Subscription]:
        for loaded in objects.triggers.values():
            trigger = loaded.object
            broker = objects.brokers[trigger.broker_id]
            hop = f"{trigger.broker_id}/{trigger.name}"
            target = self._resolve(loaded, ("spec", "subscriber"), trigger.spec.subscriber, hop)
            # A Trigger's delivery replaces the Broker's whole.
            own = trigger.spec.delivery
            delivery = own or broker.object.delivery
            sink = None
            if delivery is not None and delivery.dead_letter_sink is not None:
                location: Location = ("spec", "delivery", "deadLetterSink")
                sink = self._resolve(loaded if own else broker, location, delivery.dead_letter_sink)
            if target is not None:
                yield Subscription(trigger.id, trigger.namespace, target, RetryPolicy.of(delivery), sink)

    def pings(self, objects: Objects) -> Iterator[Ping]:
        for loaded in objects.ping_sources.values():
            source = loaded.object
            target: str | Target | None = broker_of(source.spec.sink, source.namespace)
            if target is None or source.spec.sink.uri:
                target = self._resolve(loaded, ("spec", "sink"), source.spec.sink)
            if target is not None:
                yield Ping(source, target)

    def _resolve(
        self, loaded: Loaded[Any], location: Location, destination: Destination, hop: str = ""
    ) -> Target | None:
        try:
            return resolve(destination, loaded.object.namespace, self._here, self._locator, hop)
        except (ConfigError, LookupError) as error:
            self.faults.append(loaded.fault(location, str(error)))
            return None
