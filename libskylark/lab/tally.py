"""What the journals tell of the fire watch: frame by frame, whether one came to the alarm's decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from libskylark.event import TICK_TYPE
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.journey import Journey, Step

FRAME_TYPE: Final = "dev.skylark.frame.captured"
HOTSPOTS_TYPE: Final = "dev.skylark.hotspots.detected"
ALARM_TYPE: Final = "dev.skylark.alarm.raised"
ELECTED_TYPE: Final = "dev.skylark.successor.elected"


@dataclass
class FrameRecord:
    """What became of one frame: its chain's journey, and whether the alarm decided on it."""

    journey: Journey
    decided: bool = False


@dataclass
class Tally:
    """What the journals of all nodes tell, as it comes in."""

    frames: dict[str, FrameRecord] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # tick -> why the camera captured no frame at it
    ticks: set[str] = field(default_factory=set)
    alarms: set[str] = field(default_factory=set)

    def add(self, step: Step) -> None:
        record = step.record
        if isinstance(record, Accepted):
            kinds = {TICK_TYPE: self.ticks, ALARM_TYPE: self.alarms}
            kinds.get(record.type, set()).add(record.event)
            if record.type == FRAME_TYPE:
                self.frames.setdefault(record.chain, FrameRecord(Journey(record.chain)))
        elif isinstance(record, Outcome) and _is_refused_picture(record):
            self.refused[record.event] = record.reason or f"status {record.status}"
        if frame := self.frames.get(record.chain):
            frame.journey.add(step)
            if isinstance(record, Outcome) and is_decision(record):
                frame.decided = True

    @property
    def decided(self) -> int:
        return sum(frame.decided for frame in self.frames.values())

    def finished(self, frames: int) -> bool:
        return len(self.frames) + len(self.refused) >= frames and all(
            frame.journey.ended for frame in self.frames.values()
        )


def is_decision(record: Outcome) -> bool:
    """Whether the alarm took the frame's hotspots: its own Trigger, and an answer without complaint."""
    by_alarm = record.type == HOTSPOTS_TYPE and record.trigger.rpartition("/")[2].endswith("-alarm")
    return by_alarm and record.outcome in ("delivered", "replied")


def _is_refused_picture(record: Outcome) -> bool:
    """Whether a camera refused the picture that a tick brought it to."""
    return record.type == TICK_TYPE and record.outcome == "dead-lettered" and "-camera" in record.trigger
