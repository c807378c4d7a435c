"""Intervals of medians and of their ratios, against published values and against what they promise."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.bench.statistics import Estimate, median, median_ratio, quantile

POSITIVE = st.lists(st.floats(0.001, 1e9), min_size=2, max_size=40)


@pytest.mark.parametrize(
    ("count", "rank", "coverage"),
    # H. A. David and H. N. Nagaraja, Order Statistics: ranks of the 95 % interval of a median
    [(6, 1, 0.969), (8, 1, 0.992), (9, 2, 0.961), (10, 2, 0.979), (15, 4, 0.965), (20, 6, 0.959), (30, 10, 0.957)],
)
def test_the_interval_of_a_median_lies_between_the_ranks_of_the_tables(count: int, rank: int, coverage: float) -> None:
    values = list(range(1, count + 1))
    estimate = median(reversed(values))
    assert (estimate.low, estimate.high) == (rank, count + 1 - rank)
    assert estimate.coverage == pytest.approx(coverage, abs=5e-4)
    assert estimate.value == (count + 1) / 2


@pytest.mark.parametrize(("count", "coverage"), [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375)])
def test_few_values_give_their_whole_range_and_say_what_that_is_worth(count: int, coverage: float) -> None:
    estimate = median(range(count))
    assert (estimate.low, estimate.high, estimate.coverage) == (0, count - 1, coverage)


def test_the_coverage_is_exact() -> None:
    """Of all ways in which 7 values can lie below or above the median, the share whose interval holds it."""
    held = 0
    for signs in product((-1, 1), repeat=7):
        estimate = median([sign * (1 + place) for place, sign in enumerate(signs)], confidence=0.8)
        held += estimate.low <= 0 <= estimate.high
    assert median(range(7), confidence=0.8).coverage == held / 2**7 == 0.875


def test_a_ratio_has_the_interval_of_the_published_example() -> None:
    """The example of ci.ratio.median2 in the R package statpsych, by one of the method's authors."""
    below = [32, 39, 26, 35, 43, 27, 40, 37, 34, 29, 49, 42, 40]
    above = [36, 44, 47, 42, 49, 39, 46, 31, 33, 48]
    estimate = median_ratio(above, below)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.162162, 0.927667, 1.455933), abs=1e-6)


@given(POSITIVE, POSITIVE)
def test_a_ratio_turned_over_has_the_interval_turned_over(above: list[float], below: list[float]) -> None:
    one, other = median_ratio(above, below), median_ratio(below, above)
    assert one.low <= one.value <= one.high
    assert (one.value * other.value, one.low * other.high) == pytest.approx((1, 1))


def test_a_sample_of_one_has_no_interval() -> None:
    assert median_ratio([6.0], [2.0, 4.0]) == Estimate(2.0, 2.0, 2.0, 0.0)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.floats(0.5, 0.99))
def test_the_interval_holds_the_median_and_covers_what_was_asked(values: list[float], confidence: float) -> None:
    estimate = median(values, confidence)
    assert min(values) <= estimate.low <= estimate.value <= estimate.high <= max(values)
    whole_range = 1 - 2 / 2 ** len(values)
    assert estimate.coverage >= min(confidence, max(0.0, whole_range))


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values_with_that_share_below(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value < found for value in values) <= share * len(values)
    assert sum(value <= found for value in values) >= math.floor(share * len(values))


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match=r"found 0\.0, expected positive values"):
        median_ratio([0.0, 1.0], [1.0])


def test_results_have_rounded_intervals() -> None:
    assert Estimate(1.0, 0.12345, 2.0, 0.95).interval(2) == [0.12, 2.0]
