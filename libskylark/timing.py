"""What a run of a function read, where, and how long that took: the Server-Timing header of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HEADER: Final = "Server-Timing"

_HEADER_CHARS: Final = 512  # of what is written
_READ_CHARS: Final = 4096  # of what is looked at: others write this header too
_COUNT: Final = 8
_ENTRY: Final = re.compile(
    r"(?:^|,)[ \t]*skylark-(?P<what>state|memory|commit);dur=(?P<ms>\d{1,9}(?:\.\d{1,3})?)"
    r'(?:;desc="(?P<place>inline|local|remote|waited) (?P<node>[\w.-]{1,63})";size=(?P<size>\d{1,12}))?[ \t]*(?=,|$)',
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Timing:
    """One round trip of a run: `what` is "state", "memory" or "commit"; the commit has no place and no size.

    `place` is "inline" (the state was in the event), "local", "remote", or "waited": local, once its push arrived.
    """

    what: str
    ms: float
    place: str = ""
    node: str = ""
    size_bytes: int = 0


def write_timings(timings: Iterable[Timing]) -> str:
    """The header's value, at most 512 characters: the first ones, as many as fit."""
    text = ""
    for timing in timings:
        entry = f"skylark-{timing.what};dur={timing.ms:.3f}"
        if timing.place:
            entry += f';desc="{timing.place} {timing.node}";size={timing.size_bytes}'
        longer = f"{text}, {entry}" if text else entry
        if len(longer) > _HEADER_CHARS:
            break
        text = longer
    return text


def read_timings(text: str) -> tuple[Timing, ...]:
    """What `write_timings` wrote, at most 8 of them; anything else in the header is left out."""
    found = _ENTRY.finditer(text[:_READ_CHARS])
    return tuple(
        Timing(m["what"], float(m["ms"]), m["place"] or "", m["node"] or "", int(m["size"] or 0))
        for m, _ in zip(found, range(_COUNT), strict=False)
    )
