"""Brings every stored event to every Trigger that wants it, and every such delivery to one recorded outcome."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final

from libskylark.clock import Clock, rfc3339
from libskylark.errors import InvalidEvent
from libskylark.eventing import journal
from libskylark.eventing.delivery import Answer, Courier, Result, write_request
from libskylark.eventing.entry import TTL, Content, Entry, NewEntry, seconds_left
from libskylark.eventing.intake import Intake, passed_on
from libskylark.eventing.lane import Lane
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.resolve import Target
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.stream import Stream
from libskylark.eventing.writes import Letter, Settlement

_ERROR_DATA_BYTES: Final = 1024
_LOOP_DETECTED: Final = 508
_SINK_POLICY: Final = RetryPolicy(retries=3)

log = logging.getLogger("skylark.broker")


@dataclass(slots=True)
class Subscription:
    """A Trigger as the dispatcher sees it: where its events go, how hard that is tried, and what is left to do."""

    trigger: str  # namespace/name
    namespace: str
    target: Target
    policy: RetryPolicy
    sink: Target | None = None
    failing: bool = False


@dataclass(slots=True)
class _End:
    """How a delivery ended, before it is recorded."""

    outcome: journal.OutcomeName
    result: Result
    reply: NewEntry | None = None
    letter: Content | None = None
    reason: str = ""


class Dispatcher:
    """One lane per Trigger, fed by the stream."""

    def __init__(
        self,
        subscriptions: Iterable[Subscription],
        intake: Intake,
        courier: Courier,
        readdresser: Readdresser,
        clock: Clock,
        in_flight: int = 16,
    ) -> None:
        self._intake = intake
        self._courier = courier
        self._readdresser = readdresser
        self._clock = clock
        self._stream: Stream | None = None
        self._lanes: dict[str, Lane] = {}
        for subscription in subscriptions:
            lane = Lane(in_flight, partial(self._deliver, subscription))
            self._lanes[subscription.trigger] = lane

    def attach(self, stream: Stream) -> None:
        """Where outcomes are stored; called before the stream starts."""
        self._stream = stream

    def dispatch(self, entry: Entry) -> None:
        """Queues an entry at the lanes of its triggers."""
        for trigger in [*entry.remaining]:
            lane = self._lanes.get(trigger)
            if lane is not None:
                lane.offer(entry)
            else:  # stored by an earlier process, whose files had a Trigger that is gone
                self._abandon(trigger, entry)

    def begin_anew(self) -> None:
        """Forgets all entries, and starts none of them any more: another dispatcher has them."""
        self._lanes = {trigger: lane.replaced() for trigger, lane in self._lanes.items()}

    async def close(self, grace_s: float) -> None:
        """Starts no more deliveries; those under way may end within the grace. The rest stays stored."""
        await asyncio.gather(*(lane.close(grace_s) for lane in self._lanes.values()))

    def _abandon(self, trigger: str, entry: Entry) -> None:
        lane = self._lanes[trigger] = Lane(1, partial(self._deliver_nowhere, trigger))
        lane.offer(entry)

    async def _deliver_nowhere(self, trigger: str, entry: Entry) -> Awaitable[Any]:
        reason = f"no Trigger {trigger} any more"
        content = await self._content(entry)
        end = _End("dead-lettered", Result(Answer(0, reason), 0), letter=content, reason=reason)
        log.warning("event of entry %s: %s; kept in the dead letters", entry.id, reason)
        return self._settle(trigger, entry, content, end, 0.0)

    async def _deliver(self, subscription: Subscription, entry: Entry) -> Awaitable[Any]:
        started, content = perf_counter(), None
        try:
            content = await self._content(entry)
            end = await self._end_of(subscription, content)
        except Exception as error:  # a fault of ours: kept as a dead letter, so that it neither blocks nor repeats
            log.exception("delivery of entry %s to %s failed within the broker", entry.id, subscription.trigger)
            reason = f"broker fault: {error!r}"
            end = _End("dead-lettered", Result(Answer(0, reason), 0), letter=content, reason=reason)
        return self._settle(subscription.trigger, entry, content, end, perf_counter() - started)

    async def _content(self, entry: Entry) -> Content | None:
        assert self._stream is not None, "attach comes first"
        return entry.content or await self._stream.content(entry)

    async def _end_of(self, subscription: Subscription, content: Content | None) -> _End:
        if content is None:
            reason = "Redis has lost the event"
            return _End("dead-lettered", Result(Answer(0, reason), 0), reason=reason)
        remaining_s = partial(seconds_left, content.event, self._clock)
        if remaining_s() <= 0:
            return _End("expired", Result(Answer(0), 0), reason="expirytime has passed")
        if content.hop and subscription.target.node is not None:
            # Two nodes that disagree on where a function runs would hand the event to each other for ever.
            reason = f"was handed to this node, but the subscriber is on {subscription.target.node}"
            return await self._dead(subscription, content, Result(Answer(0, reason), 0))
        result = await self._attempts(subscription, content, remaining_s)
        if result.readdressed is not None:
            reason = f"{subscription.target.node} is gone: {result.answer.reason}"
            return _End("readdressed", result, reply=result.readdressed, reason=reason)
        if result.expired:
            reason = f"expirytime comes before the next attempt: {result.answer.reason}"
            return _End("expired", result, reason=reason)
        if result.answer.failed:
            return await self._dead(subscription, content, result)
        if subscription.target.node is not None:
            return _End("forwarded", result)
        return await self._answered(subscription, content, result)

    async def _attempts(self, subscription: Subscription, content: Content, remaining_s: Callable[[], float]) -> Result:
        event, node, elsewhere = content.event, subscription.target.node, None
        if node is not None:
            event = event.with_attributes(**{TTL: str(content.ttl)})
            elsewhere = self._readdresser.watch(subscription.trigger, node, content)
        try:
            request = write_request(
                subscription.target.url,
                event,
                content.headers,
                subscription.namespace,
                subscription.policy.structured,
            )
        except ValueError as error:
            return Result(Answer(0, f"the event cannot be written: {error}"), 0)
        lane = self._lanes[subscription.trigger]
        on_failure = partial(self._note_failure, subscription)
        result = await self._courier.deliver(
            request, subscription.policy, lane.pause, on_failure, remaining_s, elsewhere
        )
        if node is not None and result.answer.status != 0:
            self._readdresser.reached(node)
        if subscription.failing and not result.answer.failed:
            subscription.failing = False
            log.info("%s: %s takes events again", subscription.trigger, subscription.target.url)
        return result

    def _note_failure(self, subscription: Subscription, answer: Answer) -> None:
        if not subscription.failing:  # one line when it starts, not one per event
            subscription.failing = True
            log.warning("%s: %s %s", subscription.trigger, subscription.target.url, answer.reason)

    async def _answered(self, subscription: Subscription, content: Content, result: Result) -> _End:
        answer = result.answer
        if answer.reply is None:
            return _End("delivered", result)
        try:
            headers = passed_on(answer.headers.items())
            reply = self._intake.replied(subscription.trigger, content, answer.reply, headers)
        except InvalidEvent as error:
            faulty = Answer(502, f"answered with a faulty event: {error}", answer.body, answer.headers)
            return await self._dead(subscription, content, Result(faulty, result.attempts))
        if reply.content.ttl > 0:
            return _End("replied", result, reply=reply)
        spent = Result(Answer(_LOOP_DETECTED, "the reply has no TTL left: a loop of Triggers"), result.attempts)
        end = await self._dead(subscription, reply.content, spent)
        return _End("expired", end.result, letter=end.letter, reason=end.reason)

    async def _dead(self, subscription: Subscription, content: Content, result: Result) -> _End:
        """To the dead letter sink if there is one that takes it, else to the dead letters."""
        answer = result.answer
        log.warning(
            "%s: event %s of %s is dead after %d attempts: %s",
            subscription.trigger,
            content.event.id,
            content.event.source,
            result.attempts,
            answer.reason,
        )
        if subscription.sink is not None and await self._sent_to_sink(subscription, subscription.sink, content, answer):
            return _End("dead-lettered", result, reason=answer.reason)
        return _End("dead-lettered", result, letter=content, reason=answer.reason)

    async def _sent_to_sink(self, subscription: Subscription, sink: Target, content: Content, answer: Answer) -> bool:
        data = answer.body[:_ERROR_DATA_BYTES] or f"dispatch error: {answer.reason}".encode()[:_ERROR_DATA_BYTES]
        event = content.event.with_attributes(
            knativeerrordest=str(subscription.target.url),
            knativeerrorcode=str(answer.status or 500),  # as Knative says it where no answer came
            knativeerrordata=base64.b64encode(data).decode(),
        )
        try:
            request = write_request(sink.url, event, content.headers, subscription.namespace, False)
        except ValueError as error:
            log.error("%s: event %s cannot be written: %s", subscription.trigger, event.id, error)
            return False
        lane = self._lanes[subscription.trigger]
        sent = await self._courier.deliver(request, _SINK_POLICY, lane.pause, lambda _: None, lambda: math.inf)
        if sent.answer.failed:
            log.error("%s: dead letter sink %s %s", subscription.trigger, sink.url, sent.answer.reason)
        return not sent.answer.failed

    def _settle(
        self, trigger: str, entry: Entry, content: Content | None, end: _End, duration_s: float
    ) -> Awaitable[Any]:
        now = rfc3339(self._clock.now_s())
        answer, attempts = end.result.answer, end.result.attempts
        record = journal.Outcome(
            event=content.event.id if content else "",
            chain=content.chain if content else "",
            type=content.event.type if content else "",
            trigger=trigger,
            outcome=end.outcome,
            status=answer.status,
            attempts=attempts,
            reply=end.reply.content.event.id if end.reply else None,
            duration_ms=round(duration_s * 1000, 3),
            time=now,
            reason=end.reason,
        )
        letters = []
        if end.letter is not None:
            letters.append(Letter(end.letter, trigger, end.reason, answer.status, attempts, now))
        settlement = Settlement(entry, trigger, journal.encode(record), end.reply, letters)
        assert self._stream is not None, "attach comes first"
        return self._stream.settle(settlement)
