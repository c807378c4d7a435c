"""PingSources: events by the cron schedule, at their planned time, stored once."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from croniter import croniter

from libskylark.clock import Clock, Ticks, rfc3339
from libskylark.errors import InvalidEvent, StoreUnavailable, StreamFull
from libskylark.event import EPOCH, Event, derived_id
from libskylark.eventing.delivery import Courier, write_request
from libskylark.eventing.intake import Intake
from libskylark.eventing.resolve import Target
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.sources import PingSource, PingSourceSpec
from libskylark.eventing.stream import Stream

_MINUTE_S: Final = 60.0
# The Gregorian calendar repeats itself, days of the week included, after 400 years.
_CALENDAR_S: Final = 12_622_780_800
# Planned times are rounded to the millisecond; the next one is looked for behind that.
_ROUNDING_S: Final = 0.002
_RETRY_S: Final = (0.2, 5.0)  # the first pause after a failure, and the longest
_POST_TIMEOUT_S: Final = RetryPolicy().timeout_s
# Of one dispatcher to send a tick elsewhere: nobody else does before this one has given up.
_TURN_S: Final = _POST_TIMEOUT_S + 5.0

Sleep = Callable[[float], Awaitable[None]]
Count = Callable[[str, str, str], None]
"""Is told of every tick that a broker here has taken: its `namespace/name`, the event's type, and the outcome."""

log = logging.getLogger("skylark.broker")


class Schedule:
    """A cron schedule on a clock whose minute lasts `tick_s` real seconds."""

    def __init__(self, cron: str, timezone: str | None = None, tick_s: float = _MINUTE_S) -> None:
        self._cron = cron
        self._zone = ZoneInfo(timezone or "UTC")
        self._tick_s = tick_s

    def next_s(self, after_s: float) -> float:
        """The first planned time after `after_s`; both in real Unix seconds, to the millisecond."""
        virtual_s = (after_s + _ROUNDING_S) * _MINUTE_S / self._tick_s
        cycle, position_s = divmod(virtual_s, _CALENDAR_S)
        start = datetime.fromtimestamp(math.floor(position_s), self._zone)
        planned_s: float = croniter(self._cron, start, second_at_beginning=True).get_next(float)
        return round((cycle * _CALENDAR_S + planned_s) * self._tick_s / _MINUTE_S, 3)


@dataclass(frozen=True, slots=True)
class Ping:
    """A PingSource, and where it sends to: the `namespace/name` of a broker here, or an address elsewhere."""

    source: PingSource
    target: str | Target

    @property
    def traits(self) -> tuple[PingSourceSpec, str | Target]:
        """All that its events depend on, but for its name."""
        return self.source.spec, self.target


class PingRunner:
    """Runs one PingSource."""

    def __init__(
        self,
        ping: Ping,
        intake: Intake,
        stream: Stream,
        courier: Courier,
        clock: Clock,
        tick_s: float = _MINUTE_S,
        count: Count = lambda *_: None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._source = source = ping.source
        self._target = ping.target
        self._intake = intake
        self._stream = stream
        self._courier = courier
        self._clock = clock
        self._ticks = Ticks(tick_s)
        self._count = count
        self._sleep = sleep
        self._stopping = asyncio.Event()
        self._schedule = Schedule(source.spec.schedule, source.spec.timezone, tick_s)

    async def run(self, since_s: float | None = None) -> float:
        """Fires at every planned time after `since_s` (by default, from now on) until it is told to stop.

        A time that passed while nothing could be sent is not made up for. Answers until when every planned time has
        been seen to: that is the `since_s` of a runner that takes over.
        """
        if since_s is None:
            since_s = await self._start_s()
        while await self._reaches(planned_s := self._schedule.next_s(since_s)):
            following_s = self._schedule.next_s(planned_s)
            if not await self._fire(planned_s, following_s):
                if self._stopping.is_set():
                    return since_s
                log.warning("PingSource %s: missed the tick of %s", self._source.id, rfc3339(planned_s))
            # A process that was asleep goes on with the present.
            now_s = self._clock.now_s()
            since_s = planned_s if now_s < self._schedule.next_s(following_s) else now_s
        return max(since_s, min(self._clock.now_s(), planned_s - 2 * _ROUNDING_S))

    def stop(self) -> None:
        """Waits for no further planned time, and sends nothing again; what is being sent now may end."""
        self._stopping.set()

    async def _start_s(self) -> float:
        last_ms = await self._stream.last_tick_ms(self._source.id)
        now_s = self._clock.now_s()
        if last_ms is not None and (missed_s := self._schedule.next_s(last_ms / 1000)) <= now_s:
            log.warning("PingSource %s: nothing was sent from %s on", self._source.id, rfc3339(missed_s))
        return now_s

    async def _reaches(self, planned_s: float) -> bool:
        """Waits for a planned time; False where it is told to stop before."""
        while (wait_s := planned_s - self._clock.now_s()) > 0:
            if self._stopping.is_set():
                return False
            await self._pause(wait_s)
        return True

    async def _pause(self, wait_s: float) -> None:
        """Sleeps, until it is told to stop."""
        waits = [asyncio.ensure_future(each) for each in (self._sleep(wait_s), self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def event(self, planned_s: float) -> Event:
        """The event of a planned time; the same one whenever it is asked for."""
        spec = self._source.spec
        body = base64.b64decode(spec.data_base64) if spec.data_base64 else (spec.data or "").encode()
        time = rfc3339(planned_s)
        own = self._source.attributes(derived_id(self._source.path, time))
        return Event({"time": time, EPOCH: str(self._ticks.epoch_at(planned_s)), **own}, body)

    async def _fire(self, planned_s: float, until_s: float) -> bool:
        """Sends the event of a planned time, trying until the next one is due; whether it is over by then."""
        event = self.event(planned_s)
        tick = self._source.id, round(planned_s * 1000)
        pause_s, longest_s = _RETRY_S
        while not self._stopping.is_set() and (left_s := until_s - self._clock.now_s()) > 0:
            if await self._send(event, tick, left_s):
                return True
            await self._pause(min(pause_s, max(until_s - self._clock.now_s(), 0.0)))
            pause_s = min(2 * pause_s, longest_s)
        return False

    async def _send(self, event: Event, tick: tuple[str, int], left_s: float) -> bool:
        """One try; whether that is the end of this tick, be it that it got through or that it never will."""
        try:
            if isinstance(self._target, Target):
                return await self._stream.send_once(tick, self._post(self._target, event), _TURN_S, left_s + _TURN_S)
            return await self._store(self._target, event, tick)
        except InvalidEvent as error:
            self._give_up(event, str(error))
            return True

    async def _store(self, broker: str, event: Event, tick: tuple[str, int]) -> bool:
        if not self._intake.has_broker(broker):  # removed just now, and this source's successor goes elsewhere
            return False
        try:
            new = self._intake.arrived(broker, event, {})
            if await self._stream.add(new, tick):  # else another dispatcher has, and counts it
                self._count(broker, event.type, new.outcome)
        except (StoreUnavailable, StreamFull):
            return False
        return True

    def _post(self, target: Target, event: Event) -> Callable[[], Awaitable[bool]]:
        async def post() -> bool:
            request = write_request(target.url, event, {}, self._source.namespace, structured=False)
            answer = await self._courier.post(request, _POST_TIMEOUT_S, takes_reply=False)
            if answer.failed and not answer.retryable:
                self._give_up(event, f"{target.url} {answer.reason}")
            return not answer.retryable

        return post

    def _give_up(self, event: Event, reason: str) -> None:
        """Another try would end alike, here and in any other dispatcher."""
        log.error("PingSource %s: the tick of %s is lost: %s", self._source.id, event.attributes["time"], reason)
