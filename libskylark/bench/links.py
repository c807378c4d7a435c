"""How true emulated links are: asked against measured latency, jitter and rate, what they cost, and their ceiling."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from libskylark.bench.link_ends import Arrived, MeasuredLink, busy, cores, measured_link
from libskylark.bench.statistics import quantile
from libskylark.lab.links import Figures
from libskylark.lab.priority import priority

Load = Literal["idle", "loaded"]
Row = dict[str, Any]

#: What the emulation promises.
GOAL_LATENCY_MS: Final = 1.0
GOAL_RATE_PERCENT: Final = 5.0

_PACE_S: Final = 0.005  # between messages; longer where jitter is, so that no message waits for the one before it
_SHORT_OF: Final = 1.1  # of the jitter
_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Setup:
    """What is asked of the link: `jitters_ms` are (latency, jitter); the defaults are the default constellation's.

    `samples` are messages, `round_trips` those of one byte and those of new connections; each transfer is of as many
    bytes as the link carries in `seconds`. Each is measured `runs` times.
    """

    latencies_ms: tuple[float, ...] = (10.0, 60.0)
    jitters_ms: tuple[tuple[float, float], ...] = ((10.0, 9.0), (60.0, 30.0))
    rates_mbps: tuple[float, ...] = (40.0, 90.0)
    flows: tuple[int, ...] = (1, 4)
    ceilings_mbps: tuple[float, ...] = (100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)
    samples: int = 200
    round_trips: int = 15
    seconds: float = 2.0
    runs: int = 3


DEFAULT: Final = Setup()


@dataclass(frozen=True, slots=True)
class _Case:
    """One measurement: what it is called, how it is made, and which figure of it says how far off it was."""

    kind: str
    told: str
    run: Callable[[MeasuredLink], Row]
    error: str


def measure(setup: Setup = DEFAULT, progress: Callable[[str], None] = lambda _: None) -> tuple[dict[str, Any], Any]:
    """(figures, raw): figures are `{"goals", "runs", "busy_processes", "priority", "rows": [...], "ceiling_mbps"}`, raw
    has the row of every single run.

    A row has `load` (idle, loaded: beside a busy process for each core), `kind`, `met` where there is a goal, and

    - latency: asked_ms, measured_ms (median of one way), error_ms, p99_ms, round_trip_ms, set_up_ms (median from
      connect to the first answer; two round trips are true), direct_ms (one way past the relay: the error of the
      measurement itself);
    - jitter: latency_ms, asked_ms, spread_ms (from the 5th to the 95th percentile), true_spread_ms, error_ms of that,
      least_ms, most_ms;
    - rate: asked_mbps, flows, measured_mbps of all flows, error_percent, share_error_percent (of the flow that is
      furthest from its share), while all flows ran; cpu_ms_per_mb of the relay;
    - ceiling: the same of one flow at 1 ms.

    A row is that of the run with the median error, with the median p99_ms, and `met` where it was in most of the runs.
    "idle" only says that nothing of ours ran beside it: how idle the machine was is in the setting. `priority` says
    whether relay and ends have it (lab/priority.py). ceiling_mbps is the highest rate of one flow that was met; None
    where none was. Raises LabError where a process does not start.
    """
    cases = [*_latencies(setup), *_jitters(setup), *_rates(setup)]
    rows, raw = list[Row](), list[Row]()
    with measured_link() as link, priority() as allowed:
        for load, processes in (("idle", 0), ("loaded", cores())):
            with busy(processes):
                for case in cases if load == "loaded" else [*cases, *_ceilings(setup)]:
                    progress(f"{case.told}, {load}")
                    found = [{"load": load, "kind": case.kind, **case.run(link)} for _ in range(setup.runs)]
                    rows.append(of_runs(found, case.error))
                    raw += found
    met = [row["asked_mbps"] for row in rows if row["kind"] == "ceiling" and row["met"]]
    figures = {
        "goals": {"latency_error_ms": GOAL_LATENCY_MS, "rate_error_percent": GOAL_RATE_PERCENT},
        "runs": setup.runs,
        "busy_processes": cores(),
        "priority": allowed,
        "rows": rows,
        "ceiling_mbps": max(met, default=None),
    }
    return figures, raw


def of_runs(runs: Sequence[Row], error: str) -> Row:
    """The row of the median `error`, with what the median of all runs is of p99_ms and `met`."""
    middle = sorted(runs, key=lambda row: abs(row[error]))[(len(runs) - 1) // 2]
    return middle | {
        name: statistics.median_low(row[name] for row in runs) for name in ("p99_ms", "met") if name in middle
    }


def _latencies(setup: Setup) -> list[_Case]:
    def run(latency_ms: float) -> Callable[[MeasuredLink], Row]:
        return lambda link: _latency(link, latency_ms, setup)

    return [_Case("latency", f"{ms:g} ms", run(ms), "error_ms") for ms in setup.latencies_ms]


def _jitters(setup: Setup) -> list[_Case]:
    def run(latency_ms: float, jitter_ms: float) -> Callable[[MeasuredLink], Row]:
        return lambda link: _jitter(link, latency_ms, jitter_ms, setup)

    return [_Case("jitter", f"jitter of {jitter:g} ms", run(ms, jitter), "error_ms") for ms, jitter in setup.jitters_ms]


def _rates(setup: Setup) -> list[_Case]:
    def run(mbps: float, flows: int) -> Callable[[MeasuredLink], Row]:
        return lambda link: {"flows": flows, **_rate(link, Figures(10.0, 0.0, mbps), flows, setup.seconds)}

    return [
        _Case("rate", f"{flows} at {mbps:g} Mbit/s", run(mbps, flows), "error_percent")
        for mbps in setup.rates_mbps
        for flows in setup.flows
    ]


def _ceilings(setup: Setup) -> list[_Case]:
    def run(mbps: float) -> Callable[[MeasuredLink], Row]:
        return lambda link: _rate(link, Figures(1.0, 0.0, mbps), 1, setup.seconds / 2)

    return [_Case("ceiling", f"{mbps:g} Mbit/s", run(mbps), "error_percent") for mbps in setup.ceilings_mbps]


def _latency(link: MeasuredLink, latency_ms: float, setup: Setup) -> Row:
    link.set(Figures(latency_ms))
    taken_ms = [1000 * seconds for seconds in link.one_way_s(setup.samples, _PACE_S)]
    measured_ms = statistics.median(taken_ms)
    direct_ms = 1000 * statistics.median(link.one_way_s(setup.samples, _PACE_S, direct=True))
    error_ms = measured_ms - latency_ms
    return {
        "asked_ms": latency_ms,
        "measured_ms": round(measured_ms, 3),
        "error_ms": round(error_ms, 3),
        "p99_ms": round(quantile(taken_ms, 0.99), 3),
        "round_trip_ms": round(1000 * statistics.median(link.round_trips_s(setup.round_trips)), 3),
        "set_up_ms": round(1000 * statistics.median(link.set_up_s() for _ in range(setup.round_trips)), 3),
        "direct_ms": round(direct_ms, 3),
        "met": abs(error_ms) < GOAL_LATENCY_MS,
    }


def _jitter(link: MeasuredLink, latency_ms: float, jitter_ms: float, setup: Setup) -> Row:
    link.set(Figures(latency_ms, jitter_ms))
    pace_s = max(_PACE_S, _SHORT_OF * jitter_ms / 1000)
    taken_ms = [1000 * seconds for seconds in link.one_way_s(setup.samples, pace_s)]
    spread_ms = quantile(taken_ms, 0.95) - quantile(taken_ms, 0.05)
    true_spread_ms = 0.9 * jitter_ms
    return {
        "latency_ms": latency_ms,
        "asked_ms": jitter_ms,
        "spread_ms": round(spread_ms, 3),
        "true_spread_ms": round(true_spread_ms, 3),
        "error_ms": round(spread_ms - true_spread_ms, 3),
        "least_ms": round(min(taken_ms), 3),
        "most_ms": round(max(taken_ms), 3),
    }


def _rate(link: MeasuredLink, figures: Figures, flows: int, seconds: float) -> Row:
    link.set(figures)
    asked_mbps = figures.bandwidth_mbps
    size_bytes = round(asked_mbps * 1e6 * seconds / _BITS / flows)
    used_s = link.cpu_s()
    arrived = link.transfer(flows, size_bytes)
    used_s = link.cpu_s() - used_s
    each_mbps = _mbps(arrived)
    errors = [100 * (mbps / asked_mbps - 1) for mbps in (sum(each_mbps), *(mbps * flows for mbps in each_mbps))]
    furthest: float = max(errors[1:], key=abs)
    return {
        "asked_mbps": asked_mbps,
        "measured_mbps": round(sum(each_mbps), 2),
        "error_percent": round(errors[0], 2),
        "share_error_percent": round(furthest, 2),
        "cpu_ms_per_mb": round(1000 * used_s / (flows * size_bytes / 1e6), 2),
        "met": max(map(abs, errors)) <= GOAL_RATE_PERCENT,
    }


def _mbps(arrived: Sequence[Arrived]) -> list[float]:
    """Of each flow, from when the first bytes of all had come until the first flow had everything."""
    from_s, to_s = max(flow[0][0] for flow in arrived), min(flow[-1][0] for flow in arrived)
    return [(_until(flow, to_s) - _until(flow, from_s)) * _BITS / 1e6 / (to_s - from_s) for flow in arrived]


def _until(flow: Arrived, time_s: float) -> int:
    """Bytes that had come by then."""
    return flow[bisect_right(flow, time_s, key=lambda record: record[0]) - 1][1]
