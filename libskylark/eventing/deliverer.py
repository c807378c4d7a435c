"""Brings one event to the end of its delivery to one Trigger: attempts, the dead letter sink, the answer."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from libskylark.clock import Clock
from libskylark.errors import InvalidEvent
from libskylark.event import TRACE, Event
from libskylark.eventing.addressing import for_dead_letter_sink, for_subscriber, is_spent
from libskylark.eventing.cargo import Cargo, EventLost
from libskylark.eventing.delivery import Answer, Courier, Result
from libskylark.eventing.entry import Content, seconds_left
from libskylark.eventing.intake import Intake, passed_on
from libskylark.eventing.lane import Lane
from libskylark.eventing.outcome import End, undelivered
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.resolve import Target
from libskylark.eventing.subscriptions import Subscription, Subscriptions
from libskylark.logs import fields_of
from libskylark.tracing import span, traceparent

_NO_ROOM: Final = 507
_LOOP_DETECTED: Final = 508
_NO_TTL_LEFT: Final = Answer(_LOOP_DETECTED, "the event has no TTL left: a loop of Brokers")
_TRACEPARENT: Final = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

log = logging.getLogger("skylark.broker")


class Deliverer:
    """Attempts by the subscription that is in force at each of them."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        intake: Intake,
        courier: Courier,
        readdresser: Readdresser,
        clock: Clock,
        is_overfull: Callable[[], bool],
    ) -> None:
        """`is_overfull` says that the stream has no room for an answer."""
        self._subscriptions = subscriptions
        self._intake = intake
        self._courier = courier
        self._readdresser = readdresser
        self._clock = clock
        self._is_overfull = is_overfull
        self._failing: set[str] = set()

    def forget(self, triggers: set[str]) -> None:
        """These have changed: that they fail is told anew."""
        self._failing -= triggers

    async def deliver(self, trigger: str, cargo: Cargo, lane: Lane) -> End:
        """To whatever end; nothing but a fault of ours is raised. `cargo` is left loaded where a letter is kept."""
        try:
            subscription = self._subscriptions.get(trigger)
            if subscription is None:
                return await self._nowhere(trigger, cargo)
            structured = subscription.policy.structured
            content = cargo.whole(structured) or await cargo.load(structured)
            if seconds_left(content.event, self._clock) <= 0:
                return End("expired", Result(Answer(0), 0), reason="expirytime has passed")
            parent = content.headers.get(TRACE) or content.event.attributes.get(TRACE)
            del content
            with span(f"deliver to {trigger}", "producer", parent, **{"skylark.trigger": trigger}) as current:
                end = await self._delivered(subscription, cargo, lane)
                if current is not None:
                    current.set_attributes(_told(cargo.known.event, end))
                return end
        except EventLost:
            return undelivered("Redis has lost the event", None)

    async def _nowhere(self, trigger: str, cargo: Cargo, result: Result | None = None) -> End:
        content = await cargo.load()
        reason = f"no Trigger {trigger} any more"
        log.warning(
            "event %s: %s; kept in the dead letters",
            content.event.id,
            reason,
            extra={**fields_of(content.event), "trigger": trigger},
        )
        return End("dead-lettered", result or Result(Answer(0, reason), 0), letter=content, reason=reason)

    async def _delivered(self, subscription: Subscription, cargo: Cargo, lane: Lane) -> End:
        attempts = 0
        while True:
            if cargo.known.hop and subscription.target.node is not None:
                # Two nodes that disagree on where a function runs would hand the event to each other for ever.
                reason = f"was handed to this node, but the subscriber is on {subscription.target.node}"
                return await self._dead(subscription, cargo, lane, Result(Answer(0, reason), attempts))
            if is_spent(subscription.target, cargo.known):
                return await self._spent(subscription, cargo, lane, attempts)
            result = await self._attempts(subscription, cargo, lane, attempts)
            if not result.superseded:
                return await self._end_of(subscription, cargo, lane, result)
            cargo.unload()  # another one may need another room
            current = self._subscriptions.get(subscription.trigger)
            if current is None:
                return await self._nowhere(subscription.trigger, cargo, result)
            subscription, attempts = current, result.attempts

    async def _end_of(self, subscription: Subscription, cargo: Cargo, lane: Lane, result: Result) -> End:
        if result.readdressed is not None:
            reason = f"{subscription.target.node} is gone: {result.answer.reason}"
            return End("readdressed", result, reply=result.readdressed, reason=reason)
        if result.expired:
            reason = f"expirytime comes before the next attempt: {result.answer.reason}"
            return End("expired", result, reason=reason)
        if result.answer.failed:
            return await self._dead(subscription, cargo, lane, result)
        if subscription.target.node is not None:
            return End("forwarded", result)
        return await self._answered(subscription, cargo, lane, result)

    async def _attempts(self, subscription: Subscription, cargo: Cargo, lane: Lane, attempts: int) -> Result:
        trigger, node, elsewhere = subscription.trigger, subscription.target.node, None
        if node is not None:
            elsewhere = self._readdresser.watch(trigger, node, cargo.known.event.attributes, cargo.load)
        result = await self._courier.deliver(
            partial(for_subscriber, subscription, cargo),
            subscription.policy,
            partial(_paused, cargo, lane),
            partial(self._note_failure, subscription),
            lambda: seconds_left(cargo.known.event, self._clock),
            elsewhere,
            superseded=lambda: self._subscriptions.get(trigger) != subscription,
            attempts=attempts,
        )
        if node is not None and result.answer.status != 0:
            self._readdresser.reached(node)
        if trigger in self._failing and not result.answer.failed:
            self._failing.remove(trigger)
            log.info("%s: %s takes events again", trigger, subscription.target.url)
        return result

    def _note_failure(self, subscription: Subscription, answer: Answer) -> None:
        if subscription.trigger not in self._failing:  # one line when it starts, not one per event
            self._failing.add(subscription.trigger)
            log.warning("%s: %s %s", subscription.trigger, subscription.target.url, answer.reason)

    async def _answered(self, subscription: Subscription, cargo: Cargo, lane: Lane, result: Result) -> End:
        answer = result.answer
        if answer.reply is None:
            return End("delivered", result)
        try:
            headers = _passed_back(answer, answer.reply, cargo.known.event)
            reply = self._intake.replied(subscription.trigger, cargo.known, answer.reply, headers)
        except InvalidEvent as error:
            faulty = Answer(502, f"answered with a faulty event: {error}", answer.body, answer.headers)
            return await self._dead(subscription, cargo, lane, Result(faulty, result.attempts))
        if reply.triggers and self._is_overfull():
            # Two Triggers that answer each other would fill any stream, and what waits for room would never get it.
            full = Result(Answer(_NO_ROOM, "the stream has no room for the reply"), result.attempts)
            end = await self._dead(subscription, cargo, lane, full, reply.content)
            return replace(end, letter_for=reply.triggers)
        if reply.content.ttl > 0 or not reply.triggers:
            return End("replied", result, reply=reply)
        spent = Result(Answer(_LOOP_DETECTED, "the reply has no TTL left: a loop of Triggers"), result.attempts)
        end = await self._dead(subscription, cargo, lane, spent, reply.content)
        return replace(end, outcome="expired", letter_for=reply.triggers)

    async def _spent(self, subscription: Subscription, cargo: Cargo, lane: Lane, attempts: int) -> End:
        """The end of an event that would go on with a loop of Brokers; its letter needs another TTL to be replayed."""
        end = await self._dead(subscription, cargo, lane, Result(_NO_TTL_LEFT, attempts))
        return replace(end, outcome="expired", letter=end.letter and replace(end.letter, ttl=0))

    async def _dead(
        self, subscription: Subscription, cargo: Cargo, lane: Lane, result: Result, reply: Content | None = None
    ) -> End:
        """To the dead letter sink if there is one that takes it, else to the dead letters: the event, or its reply."""
        answer = result.answer
        event = (reply or cargo.known).event
        log.warning(
            "%s: event %s of %s is dead after %d attempts: %s",
            subscription.trigger,
            event.id,
            event.source,
            result.attempts,
            answer.reason,
            extra={**fields_of(event), "trigger": subscription.trigger},
        )
        reason = answer.reason
        if (sink := subscription.sink) is not None:
            told = await self._told_sink(subscription, sink, cargo, lane, answer, reply)
            if not told.failed:
                return End("dead-lettered", result, sink=str(sink.url), reason=reason)
            log.error("%s: dead letter sink %s %s", subscription.trigger, sink.url, told.reason)
            reason = f"{reason}; dead letter sink {sink.url}: {told.reason}"
        return End("dead-lettered", result, letter=reply or await cargo.load(), reason=reason)

    async def _told_sink(
        self, subscription: Subscription, sink: Target, cargo: Cargo, lane: Lane, answer: Answer, reply: Content | None
    ) -> Answer:
        """What the dead letter sink says in the end to the event, or to its reply."""
        if is_spent(sink, reply or cargo.known):
            return _NO_TTL_LEFT
        write = partial(for_dead_letter_sink, subscription, sink, cargo, reply, answer)
        pause = partial(_paused, cargo, lane, wakeable=False)  # changed objects give the sink no other attempts
        policy = subscription.policy
        sent = await self._courier.deliver(write, policy, pause, lambda _: None, lambda: math.inf, takes_reply=False)
        return sent.answer


def _told(event: Event, end: End) -> dict[str, str | int]:
    """A delivery as spans tell it, by OpenTelemetry's names where it has one."""
    return {
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
        "skylark.chain": event.chain,
        "skylark.outcome": end.outcome,
        "skylark.attempts": end.result.attempts,
        "http.response.status_code": end.result.answer.status,
    }


def _passed_back(answer: Answer, reply: Event, request: Event) -> dict[str, str]:
    """The headers that go with a reply: those of its answer, under the span that it names, else under this one."""
    own = reply.attributes.get(TRACE, "")
    # One that was copied from the request says nothing of the reply, and one of another form is no header.
    if own == request.attributes.get(TRACE) or not _TRACEPARENT.fullmatch(own):
        own = traceparent() or ""
    headers = passed_on(answer.headers.items())
    return {TRACE: own, **headers} if own else headers


async def _paused(cargo: Cargo, lane: Lane, delay_s: float, wakeable: bool = True) -> None:
    """A pause in which the body is not held."""
    cargo.unload()
    await lane.pause(delay_s, wakeable)
