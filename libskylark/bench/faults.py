"""What Skylark loses under faults: the whole constellation runs, frames come in, and one thing after another breaks.

Everything is counted from outside: frames by the journals of all nodes, updates by the memories themselves, owners by
watching all stores.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from libskylark.bench.fault_kinds import KINDS, Scene, Strike
from libskylark.bench.frames import (
    DECIDED_TYPE,
    DETECTED_TYPE,
    Frame,
    Frames,
    FrameStream,
    JournalReader,
    last_words,
)
from libskylark.bench.kept import Kept
from libskylark.bench.ownership import OwnerWatch
from libskylark.config import NodeSettings, from_environment
from libskylark.errors import LabError
from libskylark.lab.lab import Lab
from libskylark.memory import MemoryName
from libskylark.project import Project

Say = Callable[[str], None]

NEEDED: Final = ("camera", "preprocess", "detect", "alarm")
_LAST: Final = "node-for-good"
_AFTER_LAST: Final = 2  # faults that come after a node has died
_WARM_FRAMES: Final = 3
_WARM_S: Final = 60.0
_RECOVERY_S: Final = 60.0
_END_S: Final = 120.0  # for the last frames to be decided and their chains to end
_NEVER: Final = str(10**9)  # the epoch from which on the camera captures by itself
_WINDOW: Final = "24h"  # of duplicates: the records of a whole run are there when it is over


@dataclass(frozen=True)
class FaultOptions:
    """`kinds` are the faults to inject in that order; without them `faults` of all kinds in a seeded order."""

    faults: int = 60
    tick_s: float = 4.0
    seed: int = 1
    rate_per_s: float = 1.0
    network: str = "127.0"
    kinds: Sequence[str] = ()

    def sequence(self, rng: Random) -> list[str]:
        """Every kind as often as any other; a node dies near the end."""
        if self.kinds:
            return list(self.kinds)
        kinds = list[str]()
        while len(kinds) < self.faults - 1:
            further = [kind for kind in KINDS if kind != _LAST]
            rng.shuffle(further)
            kinds += further
        kinds = kinds[: self.faults - 1]
        kinds.insert(max(0, len(kinds) - _AFTER_LAST), _LAST)
        return kinds


@dataclass
class _Record:
    """What the faults of a run did."""

    recovery_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unrecovered: list[str] = field(default_factory=list)
    meant: Counter[str] = field(default_factory=Counter)
    in_phase: Counter[str] = field(default_factory=Counter)
    strikes: list[dict[str, Any]] = field(default_factory=list)


class FaultBench:
    """One run; `say` hears in one sentence what happens."""

    def __init__(self, project: Project, options: FaultOptions, say: Say = lambda sentence: None) -> None:
        """Raises LabError for a project without the fire-watch chain."""
        missing = [name for name in NEEDED if name not in project.constellation.functions]
        if missing:
            raise LabError(f"frames need the fire-watch chain; this project has no function {', '.join(missing)}")
        self._project = project
        self._options = options
        self._say = say
        self._record = _Record()

    @property
    def strikes(self) -> list[dict[str, Any]]:
        """Every single fault so far: what it hit, when (Unix seconds), its recovery (None: there was none in time)."""
        return self._record.strikes

    def run(self) -> dict[str, Any]:
        """The report; raises LabError where the lab does not start, or a phase never comes."""
        options, area = self._options, self._project.constellation.spec.area
        environment = {
            "SKYLARK_CAMERA_FIRST_EPOCH": _NEVER,
            "SKYLARK_CAMERA_AREA": area,
            "SKYLARK_DUPLICATE_WINDOW": _WINDOW,
        }
        with Lab(self._project, options.tick_s, options.network, environment, links=True) as lab, ExitStack() as stack:
            lab.start_nodes()
            lab.start_clock()
            stores, frames, memory = lab.stores(), Frames(), MemoryName("detect", area)
            self._say(f"{len(stores)} nodes are ready")
            stack.enter_context(JournalReader(stores, frames))
            watch = stack.enter_context(OwnerWatch(stores, memory))
            brokers = {node: lab.broker_url(node) for node in stores}
            cameras, token = lab.plan.constellation.hosts("camera"), from_environment(NodeSettings).token
            with FrameStream(brokers, cameras, area, frames, options.rate_per_s, token) as stream:
                self._warm_up(frames)
                scene = Scene(lab, stores, memory, watch, stream, Random(options.seed))
                for number, kind in enumerate(options.sequence(scene.rng), 1):
                    self._inject(number, kind, scene, frames)
            self._say("all faults are over; the last frames are on their way")
            ended = self._wait_for_the_end(frames, watch)
            return self._report(lab, frames, watch, ended)

    def _warm_up(self, frames: Frames) -> None:
        decided = frames.wait_for(lambda: sum(f.decided_s is not None for f in frames.sent()) >= _WARM_FRAMES, _WARM_S)
        if not decided:
            raise LabError(f"without any fault, {_WARM_FRAMES} frames were not decided within {_WARM_S:g} s")

    def _inject(self, number: int, kind: str, scene: Scene, frames: Frames) -> None:
        strike = KINDS[kind](scene)
        if strike.in_phase is not None:
            self._record.meant[kind] += 1
            self._record.in_phase[kind] += strike.in_phase
        recovered_s = self._recovered_s(strike, frames)
        recovery_ms = None if recovered_s is None else (recovered_s - strike.at_s) * 1000
        told = {"kind": kind, "what": strike.what, "at_s": strike.at_s, "in_phase": strike.in_phase}
        self._record.strikes.append({"number": number, **told, "recovery_ms": recovery_ms})
        if recovery_ms is None:
            self._record.unrecovered.append(f"{kind} {strike.what}")
            came = f"no frame was decided within {_RECOVERY_S:g} s"
        else:
            self._record.recovery_ms[kind].append(recovery_ms)
            came = f"recovered after {recovery_ms:,.0f} ms"
        missed = " beside its phase" if strike.in_phase is False else ""
        under_way = sum(frame.decided_s is None for frame in frames.sent())
        self._say(f"{number:3} {kind} {strike.what}{missed}: {came}; {under_way} frames under way")

    @staticmethod
    def _recovered_s(strike: Strike, frames: Frames) -> float | None:
        """When the frame was decided by which the recovery shows, in Unix seconds; None where it was not."""

        def first() -> Frame | None:
            if strike.chain is None:
                return frames.first_since(strike.at_s)
            return next((f for f in frames.sent() if f.event.chain == strike.chain), None)

        def decided() -> bool:
            return (frame := first()) is not None and frame.decided_s is not None

        frames.wait_for(decided, strike.at_s + _RECOVERY_S - time.time())
        frame = first()
        return frame.decided_s if frame else None

    @staticmethod
    def _wait_for_the_end(frames: Frames, watch: OwnerWatch) -> bool:
        """Whether all chains ended; then no duplicate is on its way any more."""

        def ended() -> bool:
            return all(frame.decided_s is not None and frame.journey.ended for frame in frames.sent())

        done = frames.wait_for(ended, _END_S)
        watch.wait_for(lambda: watch.owner is not None, _END_S)
        return done

    def _report(self, lab: Lab, frames: Frames, watch: OwnerWatch, ended: bool) -> dict[str, Any]:
        sent, stores, area = frames.sent(), lab.stores(), self._project.constellation.spec.area
        undecided = [frame for frame in sent if frame.decided_s is None]
        detected = [(frame.ids(DETECTED_TYPE), frame.detected) for frame in sent]
        decided = [(frame.ids(DECIDED_TYPE), frame.decided_s is not None) for frame in sent]
        by_detect = Kept.read(stores, watch.owner, MemoryName("detect", area), "frames_seen")
        by_alarm = Kept.read(stores, lab.plan.home, MemoryName("alarm", area), "frames_decided")
        record = self._record
        return {
            "faults": sum(map(len, record.recovery_ms.values())) + len(record.unrecovered),
            "frames_sent": len(sent),
            "frames_decided": len(sent) - len(undecided),
            "lost": len(undecided),
            "memory_updates_lost": by_detect.lost(detected) + by_alarm.lost(decided),
            "double_owned": watch.double_owned,
            "duplicates_applied": by_detect.doubled(detected) + by_alarm.doubled(decided),
            "recovery_ms": {kind: _summary(values) for kind, values in sorted(record.recovery_ms.items())},
            "cuts_in_phase": {kind: record.in_phase[kind] for kind in sorted(record.meant)},
            "cuts_meant": dict(sorted(record.meant.items())),
            "handovers": max(0, len(watch.claims) - 1),
            "unrecovered": record.unrecovered,
            "all_chains_ended": ended,
            "readdressed": sum(_is_readdressed(frame) for frame in sent),
            "dead_letters": sum(len(frame.journey.dead_lettered) for frame in sent),
            "undecided": last_words(undecided),
            "restarts": sum(process.restarts for process in lab.supervisor.processes()),
            "seed": self._options.seed,
        }


def failed(report: dict[str, Any]) -> bool:
    """Whether something was lost, done twice, owned twice, or did not recover."""
    counts = ("lost", "memory_updates_lost", "double_owned", "duplicates_applied")
    return bool(report["unrecovered"]) or any(report[name] for name in counts)


def _summary(values_ms: list[float]) -> dict[str, float]:
    return {
        "count": len(values_ms),
        "median": round(statistics.median(values_ms), 1),
        "max": round(max(values_ms), 1),
    }


def _is_readdressed(frame: Frame) -> bool:
    return any(getattr(step.record, "outcome", "") == "readdressed" for step in frame.journey.steps)
