"""PingSources: events by the cron schedule, at their planned time, stored once."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from croniter import croniter

from libskylark.clock import Clock, Ticks, rfc3339
from libskylark.errors import StoreUnavailable
from libskylark.event import EPOCH, TICK_TYPE, Event, derived_id
from libskylark.eventing.delivery import Answer, Courier, write_request
from libskylark.eventing.intake import Intake
from libskylark.eventing.objects import PingSource
from libskylark.eventing.resolve import Target
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.stream import Stream, StreamFull

_MINUTE_S: Final = 60.0
# The Gregorian calendar repeats itself, days of the week included, after 400 years.
_CALENDAR_S: Final = 12_622_780_800
# Planned times are rounded to the millisecond; the next one is looked for behind that.
_ROUNDING_S: Final = 0.002
_RETRY_S: Final = 0.2

Sleep = Callable[[float], Awaitable[None]]

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


class PingRunner:
    """Runs one PingSource until it is cancelled."""

    def __init__(
        self,
        source: PingSource,
        target: str | Target,
        intake: Intake,
        stream: Stream,
        courier: Courier,
        clock: Clock,
        tick_s: float = _MINUTE_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`target` is the `namespace/name` of a broker here, or an address elsewhere."""
        self._source = source
        self._target = target
        self._intake = intake
        self._stream = stream
        self._courier = courier
        self._clock = clock
        self._ticks = Ticks(tick_s)
        self._sleep = sleep
        self._schedule = Schedule(source.spec.schedule, source.spec.timezone, tick_s)
        self._path = f"/apis/v1/namespaces/{source.namespace}/pingsources/{source.name}"

    async def run(self) -> None:
        """Fires at every planned time. One that passed while nothing could be sent is not made up for."""
        last_ms = await self._stream.last_tick_ms(self._source.id)
        after_s = self._clock.now_s()
        if last_ms is not None and (missed_s := self._schedule.next_s(last_ms / 1000)) <= after_s:
            log.warning("PingSource %s: nothing was sent from %s on", self._source.id, rfc3339(missed_s))
        while True:
            planned_s = self._schedule.next_s(after_s)
            while (wait_s := planned_s - self._clock.now_s()) > 0:
                await self._sleep(wait_s)
            following_s = self._schedule.next_s(planned_s)
            if not await self._fire(planned_s, following_s):
                log.warning("PingSource %s: missed the tick of %s", self._source.id, rfc3339(planned_s))
            # A process that was asleep goes on with the present.
            now_s = self._clock.now_s()
            after_s = planned_s if now_s < self._schedule.next_s(following_s) else now_s

    def event(self, planned_s: float) -> Event:
        """The event of a planned time; the same one whenever it is asked for."""
        spec = self._source.spec
        body = base64.b64decode(spec.data_base64) if spec.data_base64 else (spec.data or "").encode()
        time = rfc3339(planned_s)
        attributes = {
            "specversion": "1.0",
            "id": derived_id(self._path, time),
            "source": self._path,
            "type": TICK_TYPE,
            "time": time,
            EPOCH: str(self._ticks.epoch_at(planned_s)),
        }
        if spec.content_type:
            attributes["datacontenttype"] = spec.content_type
        if spec.ce_overrides and spec.ce_overrides.extensions:
            attributes.update(spec.ce_overrides.extensions)
        return Event(attributes, body)

    async def _fire(self, planned_s: float, until_s: float) -> bool:
        """Sends the event of a planned time, trying until the next one is due; whether it got through."""
        event = self.event(planned_s)
        while self._clock.now_s() < until_s:
            if await self._send(event, planned_s):
                return True
            await self._sleep(_RETRY_S)
        return False

    async def _send(self, event: Event, planned_s: float) -> bool:
        if isinstance(self._target, Target):
            if not self._stream.is_first:  # ticks that come into a broker here are told apart by the stream
                return True
            return not (await self._post(self._target, event)).failed
        new = self._intake.arrived(self._target, event, {})
        try:
            await self._stream.add(new, tick=(self._source.id, round(planned_s * 1000)))
        except (StoreUnavailable, StreamFull):
            return False
        return True

    async def _post(self, target: Target, event: Event) -> Answer:
        request = write_request(target.url, event, {}, self._source.namespace, structured=False)
        return await self._courier.post(request, RetryPolicy().timeout_s)
