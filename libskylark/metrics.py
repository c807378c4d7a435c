"""What every process counts for Prometheus, and what a function does: runs by outcome, reads of state, seconds.

One process of several that serve one port answers for all of them where PROMETHEUS_MULTIPROC_DIR names a folder that
they share, as prometheus-client has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from libskylark.timing import Timing

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"

#: Seconds, from a handler that does nothing to a move over a slow link.
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# A second series for each counter, that nothing of ours reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


def new_registry() -> CollectorRegistry:
    """A registry that has the basics of this process: processor time, memory, open files, start."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """Prometheus' text format: of this process, or of all that share a folder."""
    if SHARED_FOLDER not in os.environ:
        return generate_latest(registry)
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return generate_latest(shared)


class FunctionMetrics:
    """One registry per function, so that several in one process (as in tests) keep apart."""

    def __init__(self, function: str, node: str) -> None:
        self.registry = registry = new_registry()
        labels = {"function": function, "node": node}
        events = Counter("skylark_events", "Events by outcome.", [*labels, "outcome"], registry=registry)
        reads = Counter("skylark_state_reads", "Reads of state by place.", [*labels, "place"], registry=registry)
        read_bytes = Counter(
            "skylark_state_read_bytes",
            "Bytes of state and memory that were read, by place.",
            [*labels, "what", "place"],
            registry=registry,
        )
        store_seconds = Histogram(
            "skylark_store_seconds",
            "Seconds of a round trip to a store: reads of state and memory, commits.",
            [*labels, "what"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        seconds = Histogram(
            "skylark_handler_seconds", "Seconds per event.", [*labels], buckets=BUCKETS_S, registry=registry
        )
        unanswered = Counter(
            "skylark_elect_unanswered_events",
            "Events for which elect named no successor: their state stayed where it was.",
            [*labels],
            registry=registry,
        )
        self._labels = labels
        self._events = events
        self._reads = reads
        self._read_bytes = read_bytes
        self._store_seconds = store_seconds
        self._unanswered = unanswered.labels(**labels)
        self._looks: list[Callable[[], None]] = []
        self.handler_seconds = seconds.labels(**labels)

    def count_event(self, outcome: str) -> None:
        self._events.labels(**self._labels, outcome=outcome).inc()

    def count_unanswered(self) -> None:
        """elect named no successor for an event."""
        self._unanswered.inc()

    def count_reads(self, reads: Mapping[str, int]) -> None:
        for place, count in reads.items():
            self._reads.labels(**self._labels, place=place).inc(count)

    def note_timings(self, timings: Iterable[Timing]) -> None:
        """The round trips of one run."""
        for timing in timings:
            self._store_seconds.labels(**self._labels, what=timing.what).observe(timing.ms / 1000)
            if timing.place:
                read = self._read_bytes.labels(**self._labels, what=timing.what, place=timing.place)
                read.inc(timing.size_bytes)

    def on_scrape(self, look: Callable[[], None]) -> None:
        """`look` is called before each answer, to set what is only known by looking."""
        self._looks.append(look)

    def text(self) -> bytes:
        """Prometheus' text format."""
        for look in self._looks:
            look()
        return exposition(self.registry)
