"""Medians and their ratios with confidence intervals, and quantiles: nothing is assumed of how times are distributed.

The interval of a median is the exact one between two order statistics (the inverted sign test: H. A. David and
H. N. Nagaraja, Order Statistics, 3rd ed., 7.1). The interval of a ratio is that of D. G. Bonett and R. M. Price,
Confidence Intervals for Ratios of Means and Medians, J. Educ. Behav. Stat. 45(6), 2020, for independent samples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95

_NORMAL: Final = statistics.NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value`, and the interval from `low` to `high` that covers the truth in a share of `coverage` of all samples."""

    value: float
    low: float
    high: float
    coverage: float

    def interval(self, digits: int = 3) -> list[float]:
        """`[low, high]`, as results have it."""
        return [round(self.low, digits), round(self.high, digits)]


def median(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median, and the narrowest symmetric interval of order statistics that covers it with `confidence`.

    Fewer than 6 values cannot give 95 %: the interval is then their whole range, and `coverage` says what that is
    worth (93.75 % of 5 values, 75 % of 3, 0 of a single one). Raises ValueError for no values.
    """
    ordered = _ordered(values)
    rank, coverage = _rank(len(ordered), confidence)
    return Estimate(statistics.median(ordered), ordered[rank - 1], ordered[-rank], coverage)


def coverage_of(count: int, confidence: float = CONFIDENCE) -> float:
    """What the interval of the median of so many values is worth; 0 for a single one."""
    return _rank(count, confidence)[1]


def _rank(count: int, confidence: float) -> tuple[int, float]:
    """The order statistic, from either end, at which the interval of a median stops, and what that covers."""
    rank, below = 1, 1  # of the 2 ** count ways to lie below or above the median, those with less than `rank` below
    while rank < count // 2 and 1 - 2 * (wider := below + math.comb(count, rank)) / 2**count >= confidence:
        below, rank = wider, rank + 1
    return rank, 1 - 2 * below / 2**count


def median_ratio(above: Iterable[float], below: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """How many times the median of `below` that of `above` is, for positive values of two independent samples.

    A sample of one has no spread: with one, the interval is the ratio itself and `coverage` is 0. Raises ValueError
    for no values, and for values that are not positive.
    """
    over, under = _ordered(above), _ordered(below)
    if min(over[0], under[0]) <= 0:
        raise ValueError(f"found {min(over[0], under[0])!r}, expected positive values")
    ratio = statistics.median(over) / statistics.median(under)
    if min(len(over), len(under)) < 2:
        return Estimate(ratio, ratio, ratio, 0.0)
    deviation = math.hypot(_log_deviation(over), _log_deviation(under))
    factor = math.exp(_NORMAL.inv_cdf((1 + confidence) / 2) * deviation)
    return Estimate(ratio, ratio / factor, ratio * factor, confidence)


def quantile(values: Iterable[float], share: float) -> float:
    """The value that a `share` (from 0 up to 1) of the values lies below; one of them. ValueError for no values."""
    ordered = _ordered(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _ordered(values: Iterable[float]) -> Sequence[float]:
    ordered = sorted(values)
    if not ordered:
        raise ValueError("found no values, expected at least one")
    return ordered


def _log_deviation(ordered: Sequence[float]) -> float:
    """Standard error of the logarithm of a median, from the distance of two order statistics around it."""
    count = len(ordered)
    rank = max(1, round((count + 1) / 2 - math.sqrt(count)))
    below: int = sum(math.comb(count, fewer) for fewer in range(rank))
    z = _NORMAL.inv_cdf(1 - below / 2**count)
    return (math.log(ordered[-rank]) - math.log(ordered[rank - 1])) / (2 * z)
