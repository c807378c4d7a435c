"""What the broker keeps in its node's Redis, by name, and how much of it; commit.lua says what each holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libskylark.eventing import journal

EVENTS: Final = "broker:events"
DONE: Final = "broker:done"
DEAD_LETTERS: Final = "broker:dead-letters"
DISPATCHERS: Final = "broker:dispatchers"
TICKS: Final = "broker:ticks"
PARTITIONS: Final = "broker:partitions"
HANDED: Final = "broker:handed"
SEEN: Final = "broker:seen"
GENERATIONS: Final = "broker:generations"
SIZES: Final = "broker:sizes"
LIFE: Final = "broker:life"

GROUP: Final = "dispatchers"  # the consumer group of EVENTS; the scripts name it too

#: In the order in which commit.lua takes them.
COMMIT_KEYS: Final = (
    EVENTS,
    journal.KEY,
    DONE,
    DEAD_LETTERS,
    DISPATCHERS,
    TICKS,
    PARTITIONS,
    HANDED,
    SEEN,
    GENERATIONS,
    SIZES,
)


@dataclass(frozen=True, slots=True)
class Caps:
    """How much is kept at most: of events that wait, of dead letters, and of events that duplicates are known by."""

    events: int = 100_000
    events_bytes: int = 1024**3
    letters: int = 10_000
    letters_bytes: int = 256 * 1024**2
    digests: int = 1_000_000  # of some 110 bytes each
