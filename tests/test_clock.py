from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.clock import SystemClock, Ticks, rfc3339
from libskylark.testing import FakeClock

epochs = st.integers(0, 10**8)
ticks = st.sampled_from([0.5, 1.0, 2.0, 2.5, 5.0, 60.0])


@given(epochs, ticks)
def test_an_epoch_begins_at_its_tick_and_ends_before_the_next(epoch: int, tick_s: float) -> None:
    grid = Ticks(tick_s)
    assert grid.epoch_at(grid.starts_s(epoch)) == epoch
    assert grid.epoch_at(grid.ends_s(epoch) - 0.01) == epoch
    assert grid.ends_s(epoch) == grid.starts_s(epoch + 1)


def test_a_time_stamp_rounded_down_belongs_to_the_tick_it_was_made_at() -> None:
    assert Ticks(60.0).epoch_at(120.0 - 0.0005) == 2


@given(epochs, ticks)
def test_the_text_of_a_tick_gives_back_its_epoch(epoch: int, tick_s: float) -> None:
    grid = Ticks(tick_s)
    stamp = datetime.fromisoformat(rfc3339(grid.starts_s(epoch)))
    assert grid.epoch_at(stamp.timestamp()) == epoch


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_800_000_000.1234) == "2027-01-15T08:00:00.123Z"


def test_a_fake_clock_moves_only_when_it_is_moved() -> None:
    clock = FakeClock(10.0)
    assert clock.now_s() == clock.now_s() == 10.0
    clock.advance(2.5)
    assert clock.now_s() == 12.5


def test_the_system_clock_tells_unix_time() -> None:
    assert SystemClock().now_s() == pytest.approx(datetime.now(UTC).timestamp(), abs=5)
