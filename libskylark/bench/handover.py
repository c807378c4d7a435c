"""How long a memory cannot be written while it changes hands, and the bytes that it takes, over one emulated link."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from libskylark.bench.nodes import HERE, THERE, TwoNodes, two_nodes
from libskylark.bench.statistics import median
from libskylark.bench.writer import LARGE_SHARE, PARTS, Writer
from libskylark.handover import BATCH_BYTES, Handover, hand_over
from libskylark.lab.links import Figures
from libskylark.memory import MemoryName, RedisLedger
from libskylark.ownership import Ownership

SIZES: Final = (10_000, 1_000_000, 10_000_000)

SEED: Final = 7
_OURS, _BASELINE = "skylark", "stop-and-copy"
_PINGS: Final = 25
_BETWEEN: Final = 10  # writes from the copy to the tick, and before and after either way


@dataclass(frozen=True, slots=True)
class Setup:
    """The link, as between two satellites of the default constellation; the writes; runs of either way per size."""

    latency_ms: float = 10.0
    bandwidth_mbps: float = 40.0
    writes_per_s: float = 50.0
    runs: int = 3


DEFAULT: Final = Setup()


@dataclass(frozen=True, slots=True)
class Trial:
    """One handover: `lost` counts acknowledged writes of which the new owner knows nothing, or not all."""

    way: str
    copied_bytes: int
    delta_bytes: int
    unwritable_ms: float
    writes: int
    lost: int


def measure(
    sizes: Sequence[int] = SIZES,
    setup: Setup = DEFAULT,
    seed: int = SEED,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures, every single handover): `{"link", "writes_per_s", "large_share", "runs", "sizes": {"10000": {...}}}`,
    medians over the runs.

    Of each size: precopy_bytes and delta_bytes (names and values, before and after the fence); unwritable_ms and
    baseline_unwritable_ms (of stop-and-copy: the fence first, then everything in one go, over a connection that
    stands), with their intervals ci_unwritable_ms and ci_baseline_unwritable_ms; round_trip_ms of a PING over the
    link; delta_ms, what the delta takes at the link's bandwidth; writes and writes_lost over all runs of both ways.

    A memory counts as not writable from the fence, or from the last write acknowledged at the old owner if that was
    later, to the first one acknowledged at the new owner. The writer asks again and again until it may, and is told
    by the old owner where to; it writes in the new owner's own Redis, as a function there does. (Where writes are
    rarer than a handover takes, the wait for the next one counts too.)
    Raises LabError where a server or the link does not start, StoreUnavailable where one of them fails.
    """
    figures, raw = {}, list[dict[str, Any]]()
    with two_nodes(Figures(latency_ms=setup.latency_ms, bandwidth_mbps=setup.bandwidth_mbps), max(sizes)) as nodes:
        for size in sizes:
            progress(size)
            round_trip_ms = nodes.round_trip_ms(_PINGS)
            trials = _trials(nodes, size, setup, seed)
            figures[str(size)] = _figures(trials, round_trip_ms, setup)
            raw += [{"bytes": size, **asdict(trial)} for trial in trials]
    found = {
        "link": {"latency_ms": setup.latency_ms, "bandwidth_mbps": setup.bandwidth_mbps},
        "writes_per_s": setup.writes_per_s,
        "large_share": LARGE_SHARE,
        "runs": setup.runs,
        "sizes": figures,
    }
    return found, raw


def _trials(nodes: TwoNodes, size_bytes: int, setup: Setup, seed: int) -> list[Trial]:
    """Both ways in turn."""
    trials = []
    for run in range(setup.runs):
        rng = random.Random(f"{seed} {size_bytes} {run}")
        trials += [_trial(nodes, size_bytes, setup, rng, way) for way in (_copy_then_switch, _stop_and_copy)]
    return trials


def _figures(trials: Sequence[Trial], round_trip_ms: float, setup: Setup) -> dict[str, Any]:
    ours = [trial for trial in trials if trial.way == _OURS]
    baseline = [trial for trial in trials if trial.way != _OURS]
    delta_bytes = median(trial.delta_bytes for trial in ours).value
    unwritable_ms = median(trial.unwritable_ms for trial in ours)
    baseline_ms = median(trial.unwritable_ms for trial in baseline)
    return {
        "precopy_bytes": round(median(trial.copied_bytes for trial in ours).value),
        "delta_bytes": round(delta_bytes),
        "unwritable_ms": round(unwritable_ms.value, 3),
        "ci_unwritable_ms": unwritable_ms.interval(),
        "baseline_unwritable_ms": round(baseline_ms.value, 3),
        "ci_baseline_unwritable_ms": baseline_ms.interval(),
        "round_trip_ms": round(round_trip_ms, 3),
        "delta_ms": round(delta_bytes * 8 / (setup.bandwidth_mbps * 1000), 3),
        "writes": sum(trial.writes for trial in trials),
        "writes_lost": sum(trial.lost for trial in trials),
    }


Way = Callable[[Handover, Writer], tuple[float, int, int]]
"""Moves a memory under a writer; the time of the fence (time.perf_counter), and bytes before and after it."""


def _trial(nodes: TwoNodes, size_bytes: int, setup: Setup, rng: random.Random, way: Way) -> Trial:
    name = MemoryName("bench", "area-1")
    Ownership(HERE, nodes.here, lambda: HERE).find(name, epoch=1)
    ledgers = {HERE: RedisLedger(nodes.here.local), THERE: RedisLedger(nodes.there.local)}
    writer = Writer(name, ledgers, max(1, size_bytes // PARTS), rng)
    # The baseline sends all in one batch, and so waits for one answer only.
    batch_bytes = BATCH_BYTES if way is _copy_then_switch else 2 * size_bytes + BATCH_BYTES
    local, remote = nodes.here.local, nodes.here.of(THERE)
    handover = Handover(name, HERE, THERE, local, remote, batch_bytes=batch_bytes)
    writer.write()
    handover.copy()  # of next to nothing: from here on either way has its connection
    for part in range(PARTS):
        writer.write(f"part-{part}")
    with writer.writing(setup.writes_per_s):
        writer.wait_for(_BETWEEN)
        fenced_s, copied_bytes, delta_bytes = way(handover, writer)
        writer.wait_for(_BETWEEN)
    told = _OURS if way is _copy_then_switch else _BASELINE
    trial = Trial(told, copied_bytes, delta_bytes, writer.gap_ms(fenced_s), len(writer.written), writer.lost())
    nodes.flush()
    return trial


def _copy_then_switch(handover: Handover, writer: Writer) -> tuple[float, int, int]:
    asked_s: list[float] = []

    def elapsed_s() -> float:  # hand_over asks first when it is about to fence
        asked_s.append(time.perf_counter())
        return asked_s[-1]

    copied_bytes = handover.copy()
    writer.wait_for(_BETWEEN)
    moved = hand_over(handover, 2, elapsed_s=elapsed_s)
    return asked_s[0], copied_bytes + moved.copied_bytes, moved.delta_bytes


def _stop_and_copy(handover: Handover, writer: Writer) -> tuple[float, int, int]:
    fenced_s = time.perf_counter()
    epoch = handover.fence(2)
    delta_bytes = handover.commit()
    handover.retire(epoch)
    return fenced_s, 0, delta_bytes
