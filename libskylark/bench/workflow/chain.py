"""The chain of four stages: who runs where, the names of its events, and what travels in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from libskylark.config import PolicyName
from libskylark.errors import BadInput

Way = Literal["skylark", "random", "stateless", "original", "original-stateless"]
Kind = Literal["noise", "levels"]

#: All ways of handing state on: our policies, then the original's of 2024.
WAYS: Final[tuple[Way, ...]] = get_args(Way)
#: Those that place state by one of our policies.
OURS: Final[Mapping[str, PolicyName]] = {"skylark": "skylark", "random": "random", "stateless": "stateless"}
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

#: The stages in order: where the original pinned them.
PINNED: Final[Mapping[str, str]] = {
    "preprocess": "pi5u2",
    "detect": "pi5u4",
    "detect-again": "pi4u6",
    "alarm": "pi5u1",
}
STAGES: Final = len(PINNED)
#: What runs any stage, on every node.
ANYWHERE: Final = "anywhere"

_PREFIX: Final = "dev.skylark.workflow"
END_TYPE: Final = f"{_PREFIX}.ended"

MB: Final = 1_000_000
#: How long a hand-over of so many MB may take, in ms: as the original had it.
OBJECTIVES_MS: Final[Mapping[float, float]] = {
    1: 100, 5: 150, 10: 200, 15: 260, 20: 330, 25: 390, 30: 450, 35: 520, 40: 580, 45: 650, 50: 710,
}  # fmt: skip


def objective_ms(size_bytes: int) -> float:
    """The original's objective for a state of this size; between its sizes and beyond them, that of the next below."""
    known = [mb for mb in OBJECTIVES_MS if mb * MB <= size_bytes]
    return OBJECTIVES_MS[max(known, default=min(OBJECTIVES_MS))]


@dataclass(frozen=True, slots=True)
class Task:
    """One run of the chain: how state is handed on, how much of what kind, and what the hand-over may take.

    Of "noise" nothing can be compressed, of "levels" (bytes of eight values) about half.
    """

    way: Way
    pinned: bool
    size_bytes: int
    seed: int
    kind: Kind = "noise"

    @property
    def objective_ms(self) -> float:
        return objective_ms(self.size_bytes)

    def event_type(self, stage: int) -> str:
        """The type of the event that stage `stage` (from 1) takes; after the last one, END_TYPE."""
        placement = "pinned" if self.pinned else "unpinned"
        return f"{_PREFIX}.{self.way}-{placement}-{stage}" if stage <= STAGES else END_TYPE


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage tells of its run, with times in Unix seconds.

    `read_s`: it has the state before it; `made_s`: it has made its own. Only the original's functions write and read by
    themselves, and so tell when they had written (`written_s`), which node they read from, which they stored at, and
    how long they expected that to take.
    """

    node: str
    began_s: float
    read_s: float
    made_s: float
    written_s: float | None = None
    read_from: str | None = None
    stored_at: str | None = None
    predicted_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """The data of the chain's events: the task, what the stages so far tell, and the original's key of the state."""

    task: Task
    stages: tuple[Stage, ...] = ()
    key: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"task": asdict(self.task), "stages": [asdict(stage) for stage in self.stages], "key": self.key}

    @classmethod
    def from_json(cls, document: Any) -> Parcel:
        """The inverse of `to_json`; raises BadInput for anything else."""
        try:
            stages = tuple(Stage(**stage) for stage in document["stages"])
            return cls(Task(**document["task"]), stages, document["key"])
        except (KeyError, TypeError) as error:
            raise BadInput(f"the data is no parcel of the chain: {error}") from None

    def and_then(self, stage: Stage, key: str = "") -> Parcel:
        return Parcel(self.task, (*self.stages, stage), key)


def event_types(stage: int, pinned: bool) -> list[str]:
    """The types that a stage takes, one for each way; the original's functions were pinned."""
    ways = [way for way in WAYS if pinned or way in OURS]
    return [Task(way, pinned, 0, 0).event_type(stage) for way in ways]


def way_of(event_type: str) -> str:
    """The way in a type of the chain; "ended" for END_TYPE."""
    return event_type.rpartition(".")[2].rsplit("-", 2)[0]


def stage_of(event_type: str) -> int:
    """The stage that takes a type of the chain, which is not END_TYPE."""
    return int(event_type.rpartition("-")[2])
