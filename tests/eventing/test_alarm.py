"""The timer of a connection: when it rings, and how often the event loop hears of it, on a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from libskylark.eventing.alarm import Alarm


class Timer:
    def __init__(self, due_s: float, call: Callable[[], None]) -> None:
        self.due_s = due_s
        self.call: Callable[[], None] | None = call

    def when(self) -> float:
        return self.due_s

    def cancel(self) -> None:
        self.call = None


class Loop:
    """An event loop's clock and timers."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, due_s: float, call: Callable[[], None]) -> Any:
        self.timers.append(Timer(due_s, call))
        return self.timers[-1]

    def go_to(self, time_s: float) -> None:
        while due := [timer for timer in self.timers if timer.call and timer.due_s <= time_s]:
            timer = min(due, key=Timer.when)
            self.now_s = max(self.now_s, timer.due_s)
            call, timer.call = timer.call, None
            assert call is not None
            call()
        self.now_s = time_s


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), max_size=12))
def test_it_rings_when_it_was_last_set_for(steps: list[tuple[int, int]]) -> None:
    loop, rung = Loop(), list[float]()
    alarm = Alarm(cast(asyncio.AbstractEventLoop, loop), lambda: rung.append(loop.now_s))
    expected, due_s = list[float](), None
    for pause_s, wait_s in steps:
        at_s = loop.now_s + pause_s
        if due_s is not None and due_s <= at_s:
            expected.append(due_s)
        loop.go_to(at_s)
        alarm.set(wait_s)
        due_s = at_s + wait_s
        assert sum(timer.call is not None for timer in loop.timers) == 1
    loop.go_to(1000)
    assert rung == expected + ([due_s] if due_s is not None else [])


def test_setting_it_later_costs_no_timer() -> None:
    loop, rung = Loop(), list[float]()
    alarm = Alarm(cast(asyncio.AbstractEventLoop, loop), lambda: rung.append(loop.now_s))
    for second in range(100):
        loop.go_to(second / 10)
        alarm.set(5)
    assert len(loop.timers) <= 3
    alarm.close()
    loop.go_to(1000)
    assert rung == []
