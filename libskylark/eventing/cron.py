"""Which cron schedules Knative's parser takes: croniter, which computes the times here, takes more than that."""

from __future__ import annotations

import re
from typing import Final

_MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# Name, lowest and highest value, names of values; seconds may be left out.
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("seconds", 0, 59, {}),
    ("minutes", 0, 59, {}),
    ("hours", 0, 23, {}),
    ("days of the month", 1, 31, {}),
    ("months", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("days of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_DESCRIPTORS: Final = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
_PART: Final = re.compile(r"(?:[*?]|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


def check_cron(schedule: str) -> None:
    """Raises ValueError for what is no schedule of 5 fields, of 6 with the seconds first, and no descriptor."""
    if schedule.startswith("@"):
        if schedule not in _DESCRIPTORS:
            raise ValueError(f"expected one of {', '.join(sorted(_DESCRIPTORS))}")
        return
    given = schedule.split()
    if len(given) not in (5, 6):
        raise ValueError("expected 5 fields, or 6 with the seconds first")
    for text, (name, low, high, names) in zip(given, _FIELDS[-len(given) :], strict=True):
        for part in text.split(","):
            if not _holds(part, low, high, names):
                raise ValueError(f"not a cron schedule: found {part!r} for {name}, which go from {low} to {high}")


def _holds(part: str, low: int, high: int, names: dict[str, int]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or (match["step"] is not None and int(match["step"]) == 0):
        return False
    ends = [match[end].lower() for end in ("first", "last") if match[end] is not None]
    if not all(end in names or end.isdecimal() for end in ends):
        return False
    numbers = [names[end] if end in names else int(end) for end in ends]
    return numbers == sorted(numbers) and all(low <= number <= high for number in numbers)
