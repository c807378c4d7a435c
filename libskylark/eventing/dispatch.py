"""Brings every stored event to every Trigger that wants it, and every such delivery to one recorded outcome."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Final

from libskylark.clock import Clock, rfc3339
from libskylark.errors import InvalidEvent
from libskylark.eventing.delivery import Answer, Courier, Result, write_request
from libskylark.eventing.entry import TTL, Content, Entry, seconds_left
from libskylark.eventing.intake import Intake, passed_on
from libskylark.eventing.lane import Lane
from libskylark.eventing.outcome import End, for_sink, settlement, undelivered
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.resolve import Target
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.stream import Stream

_LOOP_DETECTED: Final = 508
_SINK_POLICY: Final = RetryPolicy(retries=3)

log = logging.getLogger("skylark.broker")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A Trigger as the dispatcher sees it: where its events go, and how hard that is tried."""

    trigger: str  # namespace/name
    namespace: str
    target: Target
    policy: RetryPolicy
    sink: Target | None = None


class Dispatcher:
    """One lane per Trigger, fed by the stream."""

    def __init__(
        self,
        subscriptions: Iterable[Subscription],
        intake: Intake,
        courier: Courier,
        readdresser: Readdresser,
        clock: Clock,
        in_flight: int = 32,
    ) -> None:
        self._intake = intake
        self._courier = courier
        self._readdresser = readdresser
        self._clock = clock
        self._in_flight = in_flight
        self._stream: Stream | None = None
        self._lanes: dict[str, Lane] = {}
        self._failing: set[str] = set()
        self._subscriptions: dict[str, Subscription] = {}
        self.exchange(subscriptions)

    def attach(self, stream: Stream) -> None:
        """Where outcomes are stored; called before the stream starts."""
        self._stream = stream

    def exchange(self, subscriptions: Iterable[Subscription]) -> None:
        """Other subscriptions are in force for every attempt from now on; the queues stay as they are.

        What waits for a Trigger that is gone goes to the dead letters; a delivery under way goes on to its end.
        """
        former, self._subscriptions = self._subscriptions, {each.trigger: each for each in subscriptions}
        self._failing -= {trigger for trigger, each in former.items() if self._subscriptions.get(trigger) != each}

    def dispatch(self, entry: Entry) -> None:
        """Queues an entry at the lanes of its triggers."""
        for trigger in [*entry.remaining]:
            lane = self._lanes.get(trigger)
            if lane is None:
                lane = self._lanes[trigger] = Lane(self._in_flight, partial(self._deliver, trigger))
            lane.offer(entry)

    def begin_anew(self) -> None:
        """Forgets all entries, and starts none of them any more: another dispatcher has them."""
        self._lanes = {trigger: lane.replaced() for trigger, lane in self._lanes.items()}

    async def close(self, grace_s: float) -> None:
        """Starts no more deliveries; those under way may end within the grace. The rest stays stored."""
        await asyncio.gather(*(lane.close(grace_s) for lane in self._lanes.values()))

    async def _deliver(self, trigger: str, entry: Entry) -> Awaitable[Any]:
        started, content = perf_counter(), None
        try:
            content = await self._content(entry)
            subscription = self._subscriptions.get(trigger)
            end = self._nowhere(trigger, content) if subscription is None else await self._end_of(subscription, content)
        except Exception as error:  # a fault of ours: kept as a dead letter, so that it neither blocks nor repeats
            log.exception("delivery of entry %s to %s failed within the broker", entry.id, trigger)
            reason = f"broker fault: {error!r}"
            end = undelivered(reason, content)
        return self._settle(trigger, entry, content, end, perf_counter() - started)

    def _nowhere(self, trigger: str, content: Content | None) -> End:
        reason = f"no Trigger {trigger} any more"
        event = content.event.id if content else "(lost)"
        log.warning("event %s: %s; kept in the dead letters", event, reason)
        return undelivered(reason, content)

    async def _content(self, entry: Entry) -> Content | None:
        assert self._stream is not None, "attach comes first"
        return entry.content or await self._stream.content(entry)

    async def _end_of(self, subscription: Subscription, content: Content | None) -> End:
        if content is None:
            return undelivered("Redis has lost the event", None)
        remaining_s = partial(seconds_left, content.event, self._clock)
        if remaining_s() <= 0:
            return End("expired", Result(Answer(0), 0), reason="expirytime has passed")
        attempts = 0
        while True:
            if content.hop and subscription.target.node is not None:
                # Two nodes that disagree on where a function runs would hand the event to each other for ever.
                reason = f"was handed to this node, but the subscriber is on {subscription.target.node}"
                return await self._dead(subscription, content, Result(Answer(0, reason), attempts))
            result = await self._attempts(subscription, content, remaining_s, attempts)
            if not result.superseded:
                break
            subscription, attempts = self._current(subscription), result.attempts
        if result.readdressed is not None:
            reason = f"{subscription.target.node} is gone: {result.answer.reason}"
            return End("readdressed", result, reply=result.readdressed, reason=reason)
        if result.expired:
            reason = f"expirytime comes before the next attempt: {result.answer.reason}"
            return End("expired", result, reason=reason)
        if result.answer.failed:
            return await self._dead(subscription, content, result)
        if subscription.target.node is not None:
            return End("forwarded", result)
        return await self._answered(subscription, content, result)

    def _current(self, subscription: Subscription) -> Subscription:
        """What is in force in its place now; where its Trigger is gone, it stays in force for what is under way."""
        return self._subscriptions.get(subscription.trigger, subscription)

    async def _attempts(
        self, subscription: Subscription, content: Content, remaining_s: Callable[[], float], attempts: int
    ) -> Result:
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
            return Result(Answer(0, f"the event cannot be written: {error}"), attempts)
        lane = self._lanes[subscription.trigger]
        result = await self._courier.deliver(
            request,
            subscription.policy,
            lane.pause,
            partial(self._note_failure, subscription),
            remaining_s,
            elsewhere,
            superseded=lambda: self._current(subscription) != subscription,
            attempts=attempts,
        )
        if node is not None and result.answer.status != 0:
            self._readdresser.reached(node)
        if subscription.trigger in self._failing and not result.answer.failed:
            self._failing.remove(subscription.trigger)
            log.info("%s: %s takes events again", subscription.trigger, subscription.target.url)
        return result

    def _note_failure(self, subscription: Subscription, answer: Answer) -> None:
        if subscription.trigger not in self._failing:  # one line when it starts, not one per event
            self._failing.add(subscription.trigger)
            log.warning("%s: %s %s", subscription.trigger, subscription.target.url, answer.reason)

    async def _answered(self, subscription: Subscription, content: Content, result: Result) -> End:
        answer = result.answer
        if answer.reply is None:
            return End("delivered", result)
        try:
            headers = passed_on(answer.headers.items())
            reply = self._intake.replied(subscription.trigger, content, answer.reply, headers)
        except InvalidEvent as error:
            faulty = Answer(502, f"answered with a faulty event: {error}", answer.body, answer.headers)
            return await self._dead(subscription, content, Result(faulty, result.attempts))
        if reply.content.ttl > 0 or not reply.triggers:
            return End("replied", result, reply=reply)
        spent = Result(Answer(_LOOP_DETECTED, "the reply has no TTL left: a loop of Triggers"), result.attempts)
        end = await self._dead(subscription, reply.content, spent)
        return replace(end, outcome="expired", letter_for=reply.triggers)

    async def _dead(self, subscription: Subscription, content: Content, result: Result) -> End:
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
            return End("dead-lettered", result, reason=answer.reason)
        return End("dead-lettered", result, letter=content, reason=answer.reason)

    async def _sent_to_sink(self, subscription: Subscription, sink: Target, content: Content, answer: Answer) -> bool:
        event = for_sink(content.event, subscription.target.url, answer)
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
        self, trigger: str, entry: Entry, content: Content | None, end: End, duration_s: float
    ) -> Awaitable[Any]:
        stored = settlement(trigger, entry, content, end, duration_s, rfc3339(self._clock.now_s()))
        assert self._stream is not None, "attach comes first"
        return self._stream.settle(stored)
