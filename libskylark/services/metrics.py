"""What elect and node-info count for Prometheus, beside what every function does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libskylark.jobs import MoveRecord
from libskylark.metrics import BUCKETS_S
from libskylark.policy import POLICIES, Decision


class ElectMetrics:
    """Elections, moves and handovers of one node, in the registry of elect as a function."""

    def __init__(self, registry: CollectorRegistry, node: str) -> None:
        labels = {"node": node}
        self._labels = labels
        self._targets: set[str] = set()  # that jobs were ever queued for
        elections = Counter(
            "skylark_elections", "Answers to the question where state goes.", [*labels, "policy"], registry=registry
        )
        refusals = Counter(
            "skylark_election_refusals",
            "Candidates that were passed over in these elections.",
            [*labels, "policy"],
            registry=registry,
        )
        # An answer takes a few microseconds: there is no time to look labels up.
        self._elections = {policy: elections.labels(**labels, policy=policy) for policy in POLICIES}
        self._refusals = {policy: refusals.labels(**labels, policy=policy) for policy in POLICIES}
        self._epoch = Gauge(
            "skylark_epoch", "The epoch that elect is in.", [*labels], registry=registry, multiprocess_mode="max"
        )
        self._suspects = Gauge(
            "skylark_suspect_nodes",
            "Nodes that failed their last health probe.",
            [*labels],
            registry=registry,
            multiprocess_mode="max",
        )
        self._queued = Gauge(
            "skylark_move_queue_jobs",
            "Jobs of the mover that wait or are being done, by target node; without one: the own broker.",
            [*labels, "target"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._moves = Counter(
            "skylark_moves",
            "Finished moves, and whether they kept their objective (none: there was none).",
            [*labels, "kind", "policy", "objective"],
            registry=registry,
        )
        self._moved_bytes = Counter(
            "skylark_moved_bytes", "Bytes that moves sent over links.", [*labels, "kind"], registry=registry
        )
        self._predicted = Histogram(
            "skylark_move_predicted_seconds",
            "How long moves should have taken.",
            [*labels, "kind"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._measured = Histogram(
            "skylark_move_measured_seconds",
            "How long moves took, from the capture to the acknowledgement.",
            [*labels, "kind"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._handovers = Counter(
            "skylark_handovers",
            "Handovers of memory by the phase that they reached: copied, switched, registered, failed.",
            [*labels, "phase"],
            registry=registry,
        )
        self._unwritable = Histogram(
            "skylark_handover_unwritable_seconds",
            "How long no node took a write: from the fence to the new owner's acknowledgement.",
            [*labels],
            buckets=BUCKETS_S,
            registry=registry,
        )

    def count_election(self, decision: Decision) -> None:
        self._elections[decision.policy].inc()
        if decision.passed:
            self._refusals[decision.policy].inc(decision.passed)

    def count_handover(self, phase: str) -> None:
        self._handovers.labels(**self._labels, phase=phase).inc()

    def note_move(self, record: MoveRecord) -> None:
        """A move of state or memory that has ended."""
        labels = {**self._labels, "kind": record.kind}
        objective = "none" if record.met is None else "kept" if record.met else "violated"
        self._moves.labels(**labels, policy=record.policy, objective=objective).inc()
        self._moved_bytes.labels(**labels).inc(record.sent_bytes)
        self._predicted.labels(**labels).observe(record.predicted_ms / 1000)
        self._measured.labels(**labels).observe(record.measured_ms / 1000)
        if (unwritable_ms := record.details.get("unwritable_ms")) is not None:
            self._unwritable.labels(**self._labels).observe(unwritable_ms / 1000)

    def look(self, epoch: int, suspects: int, queued: Mapping[str, int]) -> None:
        """What is so at the time of being asked."""
        self._epoch.labels(**self._labels).set(epoch)
        self._suspects.labels(**self._labels).set(suspects)
        self._targets |= queued.keys()
        for target in self._targets:
            self._queued.labels(**self._labels, target=target).set(queued.get(target, 0))


def node_info_metrics(registry: CollectorRegistry, node: str) -> Callable[[str], None]:
    """Counts the requests of node-info by route."""
    requests = Counter("skylark_node_info_requests", "Requests by route.", ["node", "route"], registry=registry)

    def count(route: str) -> None:
        requests.labels(node=node, route=route).inc()

    return count
