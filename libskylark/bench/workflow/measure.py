"""`skylark bench workflow`: the chain with every way of handing state on, in one lab, side by side.

Rounds are the outer loop: each has every size once, and within a size every way and placement once, in an order that
is drawn anew. So whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from libskylark.bench.workflow.chain import MB, OURS, PINNED, WAYS, Kind, Task, Way, objective_ms
from libskylark.bench.workflow.chain_lab import ChainLab
from libskylark.bench.workflow.figures import Outcome, Repetition, row
from libskylark.bench.workflow.limit import chain_ms
from libskylark.constellation import Constellation
from libskylark.lab.links import Hop

SIZES_MB: Final = (1.0, 5.0, 10.0, 20.0, 50.0)
QUICK_SIZES_MB: Final = (1.0, 5.0)
#: The satellite of this number has the link to the cloud: as in the original's committed topology (its t = 6), where
#: the satellites are a line (benchmarks/line/constellation.yaml).
EPOCH: Final = 6

_WARM_UP_MB: Final = 0.1
_LEAST_S: Final = 60.0
_TIMES_LIMIT: Final = 10.0
_MOST_CELLS: Final = 1 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is to be measured; `placements` are True for pinned, False for unpinned."""

    sizes_mb: Sequence[float] = SIZES_MB
    rounds: int = 5
    ways: Sequence[Way] = WAYS
    placements: Sequence[bool] = (True, False)
    seed: int = 1
    epoch: int = EPOCH
    kind: Kind = "noise"
    network: str = "127.0"

    def tasks(self, size_mb: float, seed: int) -> list[Task]:
        """One of each way and placement; the original's functions were always pinned."""
        size_bytes = round(size_mb * MB)
        return [
            Task(way, pinned, size_bytes, seed, self.kind)
            for pinned in self.placements
            for way in self.ways
            if pinned or way in OURS
        ]


def order(options: Options) -> Iterator[tuple[int, list[Task]]]:
    """(round, tasks of one size), in the order in which they are measured: the same for the same seed."""
    random = Random(options.seed)
    for number in range(1, options.rounds + 1):
        for size_mb in random.sample(options.sizes_mb, len(options.sizes_mb)):
            tasks = options.tasks(size_mb, random.randrange(_MOST_CELLS))
            random.shuffle(tasks)
            yield number, tasks


def measure(
    constellation: Constellation, options: Options, progress: Progress = lambda what: None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures with their rows, every single run); raises LabError where the lab does not start or state gets stuck."""
    repetitions: list[Repetition] = []
    with ChainLab(constellation, options.epoch, options.network) as lab:
        progress("the lab is ready")
        _warm_up(lab, options)
        for number, tasks in order(options):
            lab.set_objective(tasks[0].objective_ms)
            for task in tasks:
                repetition = run_alone(lab, task, number)
                repetitions.append(repetition)
                progress(_told(repetition, options.rounds))
        figures = {
            "rows": rows(repetitions, lab),
            "epoch": options.epoch,
            "access": constellation.access(options.epoch),
            "pinned": dict(PINNED),
            "rounds": options.rounds,
            "content": options.kind,
            "objectives_ms": {f"{size_mb:g}": objective_ms(round(size_mb * MB)) for size_mb in options.sizes_mb},
            "memory_mib": round(lab.memory_mib()),
        }
    return figures, [repetition.raw() for repetition in repetitions]


def _warm_up(lab: ChainLab, options: Options) -> None:
    """What is only slow for the first time, such as an import or a connection between neighbours, is not counted."""
    lab.set_objective(objective_ms(0))
    for task in options.tasks(_WARM_UP_MB, 0):
        run_alone(lab, task, 0)


def run_alone(lab: ChainLab, task: Task, number: int) -> Repetition:
    """One chain with the lab for itself: it begins when nothing is moved any more, and its last move is waited for."""
    load_average = round(os.getloadavg()[0], 2)
    before = lab.carried_bytes()
    limit_s = chain_ms(lab.topology, list(PINNED.values()), task.size_bytes) / 1000
    (run,) = runs = lab.run([task], _LEAST_S + _TIMES_LIMIT * limit_s)
    lab.settle(runs)
    carried = difference(lab.carried_bytes(), before)
    return Repetition(number, run, Outcome.of(run, lab.topology), carried, load_average)


def difference(after: Mapping[Hop, int], before: Mapping[Hop, int]) -> dict[Hop, int]:
    """What was carried between two readings, of the links that carried anything."""
    carried = {hop: total - before.get(hop, 0) for hop, total in after.items()}
    return {hop: count for hop, count in carried.items() if count}


def rows(repetitions: Sequence[Repetition], lab: ChainLab) -> list[dict[str, Any]]:
    """One for each way, placement and size, in the order of placements, sizes and ways."""
    cells: dict[tuple[bool, int, str], list[Repetition]] = {}
    for repetition in repetitions:
        task = repetition.run.task
        cells.setdefault((not task.pinned, task.size_bytes, task.way), []).append(repetition)
    by_rank = sorted(cells.items(), key=lambda cell: (*cell[0][:2], WAYS.index(cell[1][0].run.task.way)))
    return [row(found, _limit_ms(lab, found[0].run.task)) for _, found in by_rank]


def _limit_ms(lab: ChainLab, task: Task) -> float:
    """A chain that may run anywhere may run on one node."""
    nodes = list(PINNED.values()) if task.pinned else []
    return chain_ms(lab.topology, nodes, task.size_bytes)


def _told(repetition: Repetition, rounds: int) -> str:
    task, outcome = repetition.run.task, repetition.outcome
    placement = "pinned" if task.pinned else "unpinned"
    took = f"{outcome.time_ms:,.0f} ms" if outcome else "did not end"
    return f"round {repetition.round} of {rounds}: {task.size_bytes / MB:g} MB {task.way} {placement}: {took}"
