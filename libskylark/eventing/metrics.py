"""What a broker counts for Prometheus: events by type and outcome, deliveries with their seconds, queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from libskylark.metrics import BUCKETS_S, exposition, new_registry

# Types are the senders' words: further ones are counted together, so that nobody can fill the memory with them.
_MOST_TYPES: Final = 200
_OTHER: Final = "other"
_MOST_KEPT: Final = 8 * _MOST_TYPES


class Queue(NamedTuple):
    """How many events wait for a Trigger, and how many deliveries are under way."""

    waiting: int
    in_flight: int


class BrokerMetrics:
    """One registry per broker, so that several in one process (as in tests) keep apart."""

    def __init__(self, node: str) -> None:
        self._registry = registry = new_registry()
        self._node = node
        self._types: set[str] = set()
        # prometheus-client looks labels up under a lock, several times as slowly as a dictionary does.
        self._events: dict[tuple[str, str, str], Counter] = {}
        self._deliveries: dict[tuple[str, str, str], tuple[Counter, Counter, Histogram]] = {}
        self._all_events = Counter(
            "skylark_broker_events",
            "Events that came to a broker (sent, answers, ticks): accepted, unwanted by every Trigger, duplicate.",
            ["node", "broker", "type", "outcome"],
            registry=registry,
        )
        self._refusals = Counter(
            "skylark_broker_refused_requests",
            "Requests and connections that were refused, by status.",
            ["node", "status"],
            registry=registry,
        )
        self._all_deliveries = Counter(
            "skylark_broker_deliveries",
            "Deliveries that have ended, by Trigger, type of event and outcome.",
            ["node", "trigger", "type", "outcome"],
            registry=registry,
        )
        self._attempts = Counter(
            "skylark_broker_delivery_attempts",
            "Requests that deliveries took, retries included.",
            ["node", "trigger"],
            registry=registry,
        )
        self._seconds = Histogram(
            "skylark_broker_delivery_seconds",
            "Seconds of a delivery, from its first attempt to its end.",
            ["node", "trigger"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._stream_events = Gauge(
            "skylark_broker_stream_events",
            "Events in the node's stream, of all dispatchers.",
            ["node"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._stream_bytes = Gauge(
            "skylark_broker_stream_bytes",
            "Bytes in the node's stream, of all dispatchers.",
            ["node"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._waiting = Gauge(
            "skylark_broker_waiting_deliveries",
            "Events that wait for their turn with a Trigger.",
            ["node", "trigger"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._in_flight = Gauge(
            "skylark_broker_in_flight_deliveries",
            "Deliveries that are under way.",
            ["node", "trigger"],
            registry=registry,
            multiprocess_mode="livesum",
        )

    def count_event(self, broker: str, event_type: str, outcome: str) -> None:
        """An event that came to a broker: accepted, unwanted or duplicate."""
        key = (broker, event_type, outcome)
        if (counter := self._events.get(key)) is None:
            labels = {"node": self._node, "broker": broker, "outcome": outcome}
            counter = self._all_events.labels(**labels, type=self._known(event_type))
            if len(self._events) < _MOST_KEPT:
                self._events[key] = counter
        counter.inc()

    def count_refusal(self, status: int) -> None:
        self._refusals.labels(node=self._node, status=str(status)).inc()

    def note_delivery(self, trigger: str, event_type: str, outcome: str, attempts: int, duration_s: float) -> None:
        """A delivery that has ended."""
        key = (trigger, event_type, outcome)
        if (counters := self._deliveries.get(key)) is None:
            labels = {"node": self._node, "trigger": trigger}
            counters = (
                self._all_deliveries.labels(**labels, type=self._known(event_type), outcome=outcome),
                self._attempts.labels(**labels),
                self._seconds.labels(**labels),
            )
            if len(self._deliveries) < _MOST_KEPT:
                self._deliveries[key] = counters
        deliveries, requests, seconds = counters
        deliveries.inc()
        requests.inc(attempts)
        seconds.observe(duration_s)

    def text(self, events: int, events_bytes: int, queues: Mapping[str, Queue]) -> bytes:
        """Prometheus' text format, with what is in the stream and in the Triggers' queues now."""
        self._stream_events.labels(node=self._node).set(events)
        self._stream_bytes.labels(node=self._node).set(events_bytes)
        for trigger, queue in queues.items():
            self._waiting.labels(node=self._node, trigger=trigger).set(queue.waiting)
            self._in_flight.labels(node=self._node, trigger=trigger).set(queue.in_flight)
        return exposition(self._registry)

    def _known(self, event_type: str) -> str:
        if event_type not in self._types and len(self._types) >= _MOST_TYPES:
            return _OTHER
        self._types.add(event_type)
        return event_type
