"""What a run of the chain comes to: times, where state was read, and which hand-overs kept the objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

from libskylark.bench import statistics
from libskylark.bench.workflow.chain import MB, STAGES, Stage
from libskylark.bench.workflow.chain_lab import Run
from libskylark.bench.workflow.limit import hops
from libskylark.lab.links import Hop
from libskylark.state import REMOTE, WAITED
from libskylark.topology import Topology

#: Hand-overs of a chain: what each stage but the first reads.
HAND_OVERS = STAGES - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """One chain that came to its end; what has several figures has them by hand-over.

    `time_ms` is from the request that started the chain until a broker had the event that ends it. `read_ms` is how
    long the functions waited for state, `write_ms` how long they were held up to give theirs away: by the commit, or
    where the original's write, by that. `hand_over_ms` is from the end of the making to the end of the reading,
    `predicted_ms` what the policy expected of it (0 where it left the state where it was). `local`: the reader's own
    store served it, after waiting for its push if need be; `at_once`: without waiting.
    """

    time_ms: float
    read_ms: float
    write_ms: float
    local: tuple[bool, ...]
    hops: tuple[int, ...]
    hand_over_ms: tuple[float, ...]
    predicted_ms: tuple[float, ...]
    nodes: tuple[str, ...]
    at_once: tuple[bool, ...]

    @classmethod
    def of(cls, run: Run, topology: Topology) -> Outcome | None:
        """None for a chain that did not come to its end."""
        if run.ended_s is None or run.parcel is None or len(run.parcel.stages) != STAGES:
            return None
        stages = run.parcel.stages
        readers = list(enumerate(stages, 1))[1:]
        sources = [_source(run, number, stage) for number, stage in readers]
        local = tuple(source == stage.node for source, stage in zip(sources, stages[1:], strict=True))
        return cls(
            time_ms=(run.ended_s - run.sent_s) * 1000,
            read_ms=sum(stage.read_s - stage.began_s for stage in stages[1:]) * 1000,
            write_ms=sum(_written_ms(run, number, stage) for number, stage in enumerate(stages[:-1], 1)),
            local=local,
            hops=tuple(hops(topology, source, stage.node) for source, stage in zip(sources, stages[1:], strict=True)),
            hand_over_ms=tuple((reader.read_s - maker.made_s) * 1000 for maker, reader in pairwise(stages)),
            predicted_ms=tuple(_predicted_ms(run, number, stage) for number, stage in enumerate(stages[:-1], 1)),
            nodes=tuple(stage.node for stage in stages),
            at_once=tuple(near and not _waited(run, number) for near, (number, _) in zip(local, readers, strict=True)),
        )

    def violations(self, objective_ms: float) -> tuple[int, int]:
        """How many hand-overs were expected to take longer than the objective, and how many did."""
        predicted = sum(expected_ms > objective_ms for expected_ms in self.predicted_ms)
        return predicted, sum(took_ms > objective_ms for took_ms in self.hand_over_ms)


def _source(run: Run, number: int, stage: Stage) -> str:
    """The node whose store the stage read from; where it had to ask twice, the one that was not its own."""
    if stage.read_from is not None:
        return stage.read_from
    remote = [t.node for t in run.timings.get(number, ()) if t.what == "state" and t.place == REMOTE]
    return remote[0] if remote else stage.node


def _waited(run: Run, number: int) -> bool:
    """Whether the stage's state was still on its way to it; never where a function reads by itself."""
    return any(t.what == "state" and t.place == WAITED for t in run.timings.get(number, ()))


def _written_ms(run: Run, number: int, stage: Stage) -> float:
    if stage.written_s is not None:
        return (stage.written_s - stage.made_s) * 1000
    return sum(timing.ms for timing in run.timings.get(number, ()) if timing.what == "commit")


def _predicted_ms(run: Run, number: int, stage: Stage) -> float:
    """By the policy; state that it left where it was is expected to take no time."""
    if stage.predicted_ms is not None:
        return stage.predicted_ms
    return run.moves[number].predicted_ms if number in run.moves else 0.0


@dataclass(frozen=True, slots=True)
class Repetition:
    """One chain as it was measured: what it came to (None: it did not end), and what the links carried for it.

    `load_average` is the machine's of the minute before.
    """

    round: int
    run: Run
    outcome: Outcome | None
    carried_bytes: Mapping[Hop, int]
    load_average: float

    def raw(self) -> dict[str, Any]:
        """All of it, as JSON can write it; bytes by link as `from>to`."""
        return {
            "round": self.round,
            "load_average": self.load_average,
            "outcome": asdict(self.outcome) if self.outcome else None,
            "carried_bytes": {">".join(hop): carried for hop, carried in self.carried_bytes.items()},
            **asdict(self.run),
        }


def row(repetitions: Sequence[Repetition], limit_ms: float) -> dict[str, Any]:
    """One row of the results: medians over the repetitions of one task; shares and hops are means over all
    hand-overs, violations sums over them. `bytes` counts each byte once for every link that it passed, and is, like
    `links`, the median for one chain.
    """
    task = repetitions[0].run.task
    outcomes = [repetition.outcome for repetition in repetitions if repetition.outcome is not None]
    known: dict[str, Any] = {
        "policy": task.way,
        "pinned": task.pinned,
        "size_mb": task.size_bytes / MB,
        "limit_ms": round(limit_ms, 1),
        "objective_ms": task.objective_ms,
        "runs": len(repetitions),
        "failed": len(repetitions) - len(outcomes),
    }
    if not outcomes:
        return known
    time_ms = statistics.median(outcome.time_ms for outcome in outcomes)
    violations = [outcome.violations(task.objective_ms) for outcome in outcomes]
    return {
        **known,
        "time_ms": round(time_ms.value, 1),
        "ci_ms": time_ms.interval(1),
        "coverage": time_ms.coverage,
        "read_ms": _median(outcome.read_ms for outcome in outcomes),
        "write_ms": _median(outcome.write_ms for outcome in outcomes),
        "hand_over_ms": _median(took_ms for outcome in outcomes for took_ms in outcome.hand_over_ms),
        "local_availability": round(mean(local for outcome in outcomes for local in outcome.local), 4),
        "local_at_once": round(mean(at_once for outcome in outcomes for at_once in outcome.at_once), 4),
        "hops": round(mean(hops for outcome in outcomes for hops in outcome.hops), 3),
        "bytes": int(_median(sum(r.carried_bytes.values()) for r in repetitions)),
        "links": _per_link(repetitions),
        "violations_predicted": sum(predicted for predicted, _ in violations),
        "violations_measured": sum(measured for _, measured in violations),
        "hand_overs": HAND_OVERS * len(outcomes),
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values).value, 1)


def _per_link(repetitions: Sequence[Repetition]) -> dict[str, int]:
    """Median bytes in either direction of each link, `from>to`."""
    names = dict.fromkeys(hop for repetition in repetitions for hop in repetition.carried_bytes)
    return {">".join(hop): int(_median(r.carried_bytes.get(hop, 0) for r in repetitions)) for hop in names}
