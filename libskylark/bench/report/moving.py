"""Memory that moves from node to node: how long it cannot be written, and what is lost while things break."""

from __future__ import annotations

from typing import Final

from libskylark.bench.report.section import (
    Chart,
    Experiment,
    Figures,
    Goal,
    Interval,
    Panel,
    Rows,
    Series,
    Table,
    medians_of,
    number,
    with_interval,
)


class Moved(Rows):
    """Medians of memory of one size."""

    precopy_bytes: int
    delta_bytes: int
    unwritable_ms: float
    ci_unwritable_ms: Interval | None = None
    baseline_unwritable_ms: float
    ci_baseline_unwritable_ms: Interval | None = None
    round_trip_ms: float
    delta_ms: float
    writes: int
    writes_lost: int

    @property
    def goal_ms(self) -> float:
        return 2 * self.round_trip_ms + self.delta_ms


class HandoverFigures(Figures):
    runs: int
    sizes: dict[int, Moved]


def _handover_tables(figures: HandoverFigures) -> list[Table]:
    head = [
        "memory, bytes",
        "copied before",
        "after the fence",
        "blocked, ms",
        "goal, ms",
        "stop-and-copy, ms",
        "times",
    ]
    head += ["acknowledged writes lost"]
    rows = [
        [
            *map(number, (size, moved.precopy_bytes, moved.delta_bytes)),
            with_interval(moved.unwritable_ms, moved.ci_unwritable_ms),
            number(moved.goal_ms),
            with_interval(moved.baseline_unwritable_ms, moved.ci_baseline_unwritable_ms),
            f"{moved.baseline_unwritable_ms / moved.unwritable_ms:.1f}",
            f"{moved.writes_lost} of {moved.writes:,}",
        ]
        for size, moved in figures.sizes.items()
    ]
    return [Table(medians_of(figures.runs, figures.runs).capitalize(), head, rows)]


def _handover_goals(figures: HandoverFigures) -> list[Goal]:
    told = ", ".join(
        f"{number(moved.unwritable_ms)} of {number(moved.goal_ms)} ms at {size:,} bytes"
        for size, moved in figures.sizes.items()
    )
    met = all(moved.unwritable_ms < moved.goal_ms for moved in figures.sizes.values())
    lost = sum(moved.writes_lost for moved in figures.sizes.values())
    return [
        Goal("blocked for less than two round trips and the delta", told, met),
        Goal("no acknowledged write is lost", f"{lost} lost", lost == 0),
    ]


def _handover_charts(figures: HandoverFigures) -> list[Chart]:
    sizes, moved = list(figures.sizes), list(figures.sizes.values())
    series = [
        Series("skylark", sizes, [at.unwritable_ms for at in moved], [at.ci_unwritable_ms for at in moved]),
        Series(
            "stop-and-copy",
            sizes,
            [at.baseline_unwritable_ms for at in moved],
            [at.ci_baseline_unwritable_ms for at in moved],
        ),
        Series("goal: two round trips and the delta", sizes, [at.goal_ms for at in moved], style="limit"),
    ]
    panel = Panel("", "memory, bytes", "not writable, ms", series, log_x=True, log_y=True)
    return [Chart("handover", "How long memory cannot be written while it moves, over its size.", [panel])]


HANDOVER: Final = Experiment(
    "handover",
    "Handover of memory",
    "For how long can memory not be written while it moves to the next satellite?",
    HandoverFigures,
    _handover_tables,
    _handover_charts,
    _handover_goals,
)

_LEAST_FAULTS: Final = 50
#: Kinds of faults, as libskylark/bench/fault_kinds.py names them, for people.
_KINDS: Final = {
    "function": "function killed",
    "elect": "elect killed",
    "elect-in-commit": "elect killed between fence and commit",
    "broker": "broker killed",
    "redis": "Redis killed, disk kept",
    "redis-in-commit": "Redis killed between fence and commit",
    "cut-copy": "link cut while copying",
    "cut-fence": "link cut at the fence",
    "cut-commit": "link cut before the commit's answer",
    "cut-register": "link cut before the register knew",
    "node-for-good": "satellite gone for good",
}


class Recovery(Rows):
    """From a fault of one kind to the first decision after it."""

    count: int
    median: float
    max: float


class FaultFigures(Figures):
    faults: int
    frames_sent: int
    frames_decided: int
    lost: int
    memory_updates_lost: int
    double_owned: int
    duplicates_applied: int
    dead_letters: int
    handovers: int
    recovery_ms: dict[str, Recovery]
    unrecovered: list[str]
    cuts_in_phase: dict[str, int]
    cuts_meant: dict[str, int]


def _fault_tables(figures: FaultFigures) -> list[Table]:
    counted = [
        ("faults", figures.faults),
        ("handovers", figures.handovers),
        ("frames sent", figures.frames_sent),
        ("frames decided", figures.frames_decided),
        ("frames lost", figures.lost),
        ("updates of memory lost", figures.memory_updates_lost),
        ("memories with two owners", figures.double_owned),
        ("frames applied twice", figures.duplicates_applied),
        ("dead letters", figures.dead_letters),
    ]
    hit, meant = sum(figures.cuts_in_phase.values()), sum(figures.cuts_meant.values())
    counts = [[what, number(count)] for what, count in counted]
    counts.append(["faults that hit the phase of a handover they were meant for", f"{hit} of {meant}"])
    rows = [
        [_KINDS.get(kind, kind), *map(number, (recovery.count, recovery.median, recovery.max))]
        for kind, recovery in figures.recovery_ms.items()
    ]
    return [
        Table("Counts of the whole run", ["what", "count"], counts),
        Table("Recovery: from the fault to the first decision", ["fault", "count", "median, ms", "longest, ms"], rows),
    ]


def _fault_goals(figures: FaultFigures) -> list[Goal]:
    return [
        Goal(f"at least {_LEAST_FAULTS} faults", str(figures.faults), figures.faults >= _LEAST_FAULTS),
        *(
            Goal(text, str(found), found == 0)
            for text, found in (
                ("no frame is lost", figures.lost),
                ("no update of memory is lost", figures.memory_updates_lost),
                ("no memory has two owners", figures.double_owned),
                ("no frame is applied twice", figures.duplicates_applied),
            )
        ),
        Goal(
            "every fault is recovered from within a minute",
            ", ".join(figures.unrecovered) or f"all {figures.faults}",
            not figures.unrecovered,
        ),
    ]


def _fault_charts(figures: FaultFigures) -> list[Chart]:
    recoveries = list(figures.recovery_ms.values())
    intervals = [(recovery.median, recovery.max) for recovery in recoveries]
    places = list(range(len(recoveries)))
    series = Series("median, and up to the longest", places, [recovery.median for recovery in recoveries], intervals)
    labels = [_KINDS.get(kind, kind) for kind in figures.recovery_ms]
    panel = Panel("", "from the fault to the first decision, ms", "", [series], bars=labels)
    return [Chart("faults", "Time to recover from each kind of fault.", [panel])]


FAULTS: Final = Experiment(
    "faults",
    "Faults",
    "What is lost, done twice or owned twice while processes are killed, links cut and a satellite dies?",
    FaultFigures,
    _fault_tables,
    _fault_charts,
    _fault_goals,
)
