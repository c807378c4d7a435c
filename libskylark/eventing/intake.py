"""From an event that arrives to the entry that is stored: TTL, arrival time, matching Triggers, journal record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import orjson

from libskylark.clock import Clock, rfc3339
from libskylark.event import CAUSE, CHAIN, Event
from libskylark.eventing import journal
from libskylark.eventing.entry import ARRIVAL, ERROR_CODE, ERROR_DEST, TTL, Content, NewEntry, Once, expires_s, ttl_of
from libskylark.eventing.filters import Index
from libskylark.eventing.loading import Objects

_GENERATION_BYTES: Final = 6
_DIGEST_BYTES: Final = 16
_PASSED: Final = frozenset({"x-request-id", "traceparent"})
_PASSED_PREFIXES: Final = ("knative-", "x-b3-")


class Routes:
    """What a set of objects says of where events go: never changed, so that it can be exchanged as a whole."""

    def __init__(self, objects: Objects) -> None:
        self.broker_of = {trigger: loaded.object.broker_id for trigger, loaded in objects.triggers.items()}
        self.triggers_of = {
            broker: tuple(trigger for trigger, its_broker in self.broker_of.items() if its_broker == broker)
            for broker in objects.brokers
        }
        self.indexes = {
            broker: Index((objects.triggers[trigger].object.spec, trigger) for trigger in triggers)
            for broker, triggers in self.triggers_of.items()
        }
        self.duplicate_windows_s = {
            broker: window_s
            for broker, loaded in objects.brokers.items()
            if (window_s := loaded.object.duplicate_window_s) is not None
        }
        named = orjson.dumps(self.triggers_of, option=orjson.OPT_SORT_KEYS)
        self.generation = hashlib.blake2b(named, digest_size=_GENERATION_BYTES).hexdigest()


class Intake:
    """Knows the brokers of a node and which of their Triggers an event is for."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._clock = clock
        self._routes = Routes(objects)
        self._broker_of = {**self._routes.broker_of}

    def exchange(self, routes: Routes) -> None:
        """From the next event on, other routes are in force."""
        self._routes = routes
        self._broker_of.update(routes.broker_of)  # a Trigger that is gone may still get an answer

    @property
    def brokers(self) -> Iterable[str]:
        """`namespace/name` of every broker."""
        return self._routes.indexes.keys()

    @property
    def generation(self) -> str:
        """Hexadecimal; another one as soon as a broker's list of Triggers is another."""
        return self._routes.generation

    def triggers_of(self, broker: str) -> tuple[str, ...]:
        """`namespace/name` of the Triggers of a broker that is here, in the order in which they are held."""
        return self._routes.triggers_of[broker]

    def broker_of(self, trigger: str) -> str:
        """`namespace/name` of the broker of a Trigger that is or was here."""
        return self._broker_of[trigger]

    def has_broker(self, broker: str) -> bool:
        return broker in self._routes.indexes

    def has_trigger(self, broker: str, trigger: str) -> bool:
        return self._routes.broker_of.get(trigger) == broker

    def arrived(self, broker: str, event: Event, headers: Mapping[str, str]) -> NewEntry:
        """The entry of an event that was sent to a broker; raises InvalidEvent for a spent or faulty TTL or expiry."""
        triggers = tuple(self._routes.indexes[broker].find(event.attributes))
        new = self._entry(event, ttl_of(event.attributes), headers, triggers, broker)
        window_s = self._routes.duplicate_windows_s.get(broker)
        return new if window_s is None else replace(new, once=_once(broker, new.content, window_s))

    def handed_over(self, trigger: str, event: Event, headers: Mapping[str, str]) -> NewEntry:
        """The entry of an event that another node's broker forwards, for one Trigger whose subscriber is here."""
        return self._entry(event, ttl_of(event.attributes), headers, (trigger,))

    def replied(self, trigger: str, request: Content, reply: Event, headers: Mapping[str, str]) -> NewEntry:
        """The entry of an answer that goes back into the broker; raises InvalidEvent like `arrived`."""
        broker = self.broker_of(trigger)
        index = self._routes.indexes.get(broker)
        triggers = tuple(index.find(reply.attributes)) if index is not None else ()
        chain = reply.attributes.get(CHAIN) or request.chain
        # An answer may be the event itself, addressed to another node; it is not its own cause.
        itself = (reply.id, reply.source) == (request.event.id, request.event.source)
        cause = reply.attributes.get(CAUSE) or (None if itself else request.event.id)
        passed = {**request.headers, **headers}
        return self._entry(reply, request.ttl - 1, passed, triggers, broker, chain, cause)

    def _entry(
        self,
        event: Event,
        ttl: int,
        headers: Mapping[str, str],
        triggers: tuple[str, ...],
        broker: str | None = None,
        chain: str | None = None,
        cause: str | None = None,
    ) -> NewEntry:
        hop = broker is None  # no filter was asked
        expires_s(event)  # refuses a faulty one now, while somebody is there to be told
        now_s = self._clock.now_s()
        arrival = rfc3339(now_s)
        attributes = {**event.attributes}
        attributes.pop(TTL, None)
        if not (hop and ARRIVAL in attributes):
            attributes[ARRIVAL] = arrival
        stored = Event(attributes, event.data, plain=event.plain)  # a time of arrival is plain, too
        content = Content(stored, ttl, now_s, headers, chain or event.chain, hop)
        record = journal.Accepted(
            event=event.id,
            source=event.source,
            type=event.type,
            chain=content.chain,
            cause=cause or attributes.get(CAUSE),
            to=triggers,
            time=arrival,
            hop=hop,
            broker=broker or "",
            generation=self._routes.generation if broker else "",
        )
        return NewEntry(content, triggers, journal.encode(record))


def _once(broker: str, content: Content, window_s: float) -> Once:
    """How a broker that suppresses duplicates knows an event again: by its source and id, as CloudEvents has it.

    A dead letter keeps those of the event that failed, and is another one: it is known by its failure, too.
    """
    event = content.event
    identity = [broker, event.source, event.id]
    if (subscriber := event.attributes.get(ERROR_DEST)) is not None:
        # The TTL tells a letter that comes back, and failed once more, from the same letter sent twice.
        identity += [subscriber, event.attributes.get(ERROR_CODE, ""), str(content.ttl)]
    arrival = event.attributes[ARRIVAL]
    record = journal.Duplicate(event.id, event.source, event.type, content.chain, broker, arrival)
    digest = hashlib.blake2b("\0".join(identity).encode(), digest_size=_DIGEST_BYTES).digest()
    return Once(digest, round(window_s * 1000), journal.encode(record))


def passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers (names in lower case) that travel with an event to its subscribers."""
    return {name: value for name, value in headers if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
