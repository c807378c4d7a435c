"""The request of one attempt: an event as its subscriber gets it, a broker of the constellation, or a sink."""

from __future__ import annotations

from libskylark.event import TRACE, Event
from libskylark.eventing.cargo import Cargo
from libskylark.eventing.delivery import Answer, Request, write_request
from libskylark.eventing.entry import TTL, Content
from libskylark.eventing.outcome import for_sink
from libskylark.eventing.resolve import Target
from libskylark.eventing.subscriptions import Subscription
from libskylark.tracing import traceparent


def is_spent(target: Target, content: Content) -> bool:
    """Whether the event would come to a broker that takes it no more: it has been through them too often."""
    return target.is_broker and _ttl_at(target, content) <= 0


async def for_subscriber(subscription: Subscription, cargo: Cargo) -> Request:
    """The request for the subscriber; raises ValueError like `write_request`."""
    policy, target = subscription.policy, subscription.target
    content = cargo.whole(policy.structured) or await cargo.load(policy.structured)
    headers = content.headers
    if (present := traceparent()) is not None:
        headers = {**headers, TRACE: present}
    event = _addressed(content.event, target, content)
    return write_request(target.url, event, headers, subscription.namespace, policy.structured)


async def for_dead_letter_sink(
    subscription: Subscription, sink: Target, cargo: Cargo, reply: Content | None, answer: Answer
) -> Request:
    """The request for the dead letter sink: the event, or its `reply`, with what `answer` tells of the failure."""
    content = reply or await cargo.load()
    event = _addressed(for_sink(content.event, subscription.target.url, answer), sink, content)
    return write_request(sink.url, event, content.headers, subscription.namespace, False)


def _addressed(event: Event, target: Target, content: Content) -> Event:
    """With its TTL where a broker of the constellation gets it, and nobody else."""
    if target.node is None and not target.is_broker:
        return event
    return event.with_attributes(**{TTL: str(_ttl_at(target, content))})


def _ttl_at(target: Target, content: Content) -> int:
    """One less where the event enters a broker once more, as with an answer; as it is where a node hands it on."""
    return content.ttl - 1 if target.is_broker else content.ttl
