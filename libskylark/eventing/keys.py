"""What the broker keeps in its node's Redis, by name; commit.lua says what each holds."""

from __future__ import annotations

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
)
