"""`skylark bench throughput`: chains started all at once, with every way of handing state on, in one lab.

As in the original, each chain is the workflow of four stages with 2 MB of state. Rounds are the outer loop; within a
round, every number at once comes with every way, in an order that is drawn anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from libskylark.bench import statistics
from libskylark.bench.workflow.chain import MB, OURS, PINNED, WAYS, Kind, Task, Way, objective_ms
from libskylark.bench.workflow.chain_lab import ChainLab
from libskylark.bench.workflow.figures import Outcome
from libskylark.bench.workflow.limit import chain_ms
from libskylark.bench.workflow.measure import EPOCH, Progress, difference
from libskylark.constellation import Constellation

COUNTS: Final = tuple(range(5, 51, 5))
QUICK_COUNTS: Final = (5, 20, 50)
SIZE_MB: Final = 2.0

_LEAST_S: Final = 60.0
_TIMES_LIMIT: Final = 5.0
_SEEDS: Final = 1 << 20


@dataclass(frozen=True)
class Options:
    """What is to be measured; `placements` are True for pinned, False for unpinned."""

    counts: Sequence[int] = COUNTS
    rounds: int = 3
    ways: Sequence[Way] = WAYS
    placements: Sequence[bool] = (True, False)
    size_mb: float = SIZE_MB
    seed: int = 1
    epoch: int = EPOCH
    kind: Kind = "noise"
    network: str = "127.0"

    def batch(self, way: Way, pinned: bool, count: int, seed: int) -> list[Task]:
        return [Task(way, pinned, round(self.size_mb * MB), seed + number, self.kind) for number in range(count)]


@dataclass(frozen=True)
class Batch:
    """So many chains at once as they went; `time_ms` of those that ended, `span_s` until the last of them did."""

    round: int
    way: Way
    pinned: bool
    count: int
    span_s: float
    time_ms: list[float]
    local: float
    carried_bytes: int
    load_average: float

    @property
    def per_s(self) -> float:
        return len(self.time_ms) / self.span_s if self.time_ms else 0.0

    def raw(self) -> dict[str, Any]:
        return dict(vars(self))


def order(options: Options) -> Iterator[tuple[int, list[Task]]]:
    """(round, chains to be started at once), in the order in which they are measured: the same for the same seed."""
    random = Random(options.seed)
    for number in range(1, options.rounds + 1):
        batches = [
            options.batch(way, pinned, count, random.randrange(_SEEDS))
            for pinned in options.placements
            for count in options.counts
            for way in options.ways
            if pinned or way in OURS
        ]
        random.shuffle(batches)
        yield from ((number, batch) for batch in batches)


def measure(
    constellation: Constellation, options: Options, progress: Progress = lambda what: None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures with their rows, every single batch); raises LabError where the lab does not start or state gets stuck.

    `rows` are those of the pinned chain, `unpinned_rows` of the other.
    """
    batches: list[Batch] = []
    with ChainLab(constellation, options.epoch, options.network) as lab:
        progress("the lab is ready")
        lab.set_objective(objective_ms(round(options.size_mb * MB)))
        for _, tasks in order(Options(counts=(1,), rounds=1, ways=options.ways, placements=options.placements)):
            run_batch(lab, tasks, 0)  # what is only slow for the first time is not counted
        for number, tasks in order(options):
            batches.append(run_batch(lab, tasks, number))
            progress(_told(batches[-1], options.rounds))
        memory_mib = round(lab.memory_mib())
    figures = {
        "rows": rows([batch for batch in batches if batch.pinned]),
        "unpinned_rows": rows([batch for batch in batches if not batch.pinned]),
        "size_mb": options.size_mb,
        "epoch": options.epoch,
        "access": constellation.access(options.epoch),
        "pinned": dict(PINNED),
        "rounds": options.rounds,
        "content": options.kind,
        "memory_mib": memory_mib,
    }
    return figures, [batch.raw() for batch in batches]


def run_batch(lab: ChainLab, tasks: Sequence[Task], number: int) -> Batch:
    """Chains of one way, all at once, with the lab for themselves."""
    load_average, before = round(os.getloadavg()[0], 2), lab.carried_bytes()
    limit_s = chain_ms(lab.topology, list(PINNED.values()), tasks[0].size_bytes) / 1000
    runs = lab.run(tasks, _LEAST_S + _TIMES_LIMIT * limit_s * len(tasks))
    lab.settle(runs)
    carried = difference(lab.carried_bytes(), before)
    outcomes = [outcome for run in runs if (outcome := Outcome.of(run, lab.topology)) is not None]
    ended_s = max((run.ended_s for run in runs if run.ended_s is not None), default=0.0)
    local = [read for outcome in outcomes for read in outcome.local]
    return Batch(
        round=number,
        way=tasks[0].way,
        pinned=tasks[0].pinned,
        count=len(tasks),
        span_s=ended_s - runs[0].sent_s,
        time_ms=[outcome.time_ms for outcome in outcomes],
        local=sum(local) / max(1, len(local)),
        carried_bytes=sum(carried.values()),
        load_average=load_average,
    )


def rows(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """One for each way and number at once; rates are medians over the rounds, times are of all chains of all rounds."""
    cells: dict[tuple[int, int], list[Batch]] = {}
    for batch in batches:
        cells.setdefault((batch.count, WAYS.index(batch.way)), []).append(batch)
    return [_row(found) for _, found in sorted(cells.items())]


def _row(batches: Sequence[Batch]) -> dict[str, Any]:
    per_s = statistics.median(batch.per_s for batch in batches)
    time_ms = [took_ms for batch in batches for took_ms in batch.time_ms]
    return {
        "policy": batches[0].way,
        "workflows": batches[0].count,
        "per_s": round(per_s.value, 3),
        "ci_per_s": per_s.interval(),
        "coverage": per_s.coverage,
        "p50_ms": round(statistics.quantile(time_ms, 0.5), 1) if time_ms else None,
        "p95_ms": round(statistics.quantile(time_ms, 0.95), 1) if time_ms else None,
        "failed": sum(batch.count - len(batch.time_ms) for batch in batches),
        "local_availability": round(sum(batch.local for batch in batches) / len(batches), 4),
        "bytes": round(statistics.median(batch.carried_bytes / batch.count for batch in batches).value),
    }


def _told(batch: Batch, rounds: int) -> str:
    placement = "pinned" if batch.pinned else "unpinned"
    return f"round {batch.round} of {rounds}: {batch.count} {batch.way} {placement}: {batch.per_s:.2f} a second"
