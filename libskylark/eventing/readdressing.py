"""Asks the node's elect for another address of an event whose node cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from yarl import URL

from libskylark.clock import Clock
from libskylark.errors import InvalidEvent
from libskylark.event import NODE, OWNER
from libskylark.eventing.delivery import Answer, Courier, write_request
from libskylark.eventing.entry import Content, NewEntry
from libskylark.eventing.intake import Intake, passed_on
from libskylark.logs import fields_of

log = logging.getLogger("skylark.broker")

Load = Callable[[], Awaitable[Content]]
"""Gives the whole event, which may be read again for it."""

Elsewhere = Callable[[Answer], Awaitable[NewEntry | None]]
"""Given the answer of an attempt that failed: the event, addressed to another node, or None to go on trying."""


class Readdresser:
    """Knows which nodes are gone. `url` is the elect's; it is asked once a node was not reached for `after_s`."""

    def __init__(
        self, url: URL, courier: Courier, intake: Intake, clock: Clock, after_s: float, timeout_s: float
    ) -> None:
        self._url = url
        self._courier = courier
        self._intake = intake
        self._clock = clock
        self._after_s = after_s
        self._timeout_s = timeout_s
        self._gone: set[str] = set()

    def watch(self, trigger: str, node: str, attributes: Mapping[str, str], load: Load) -> Elsewhere | None:
        """Follows one delivery to the broker of `node`; None for an event that was not addressed to that node, or
        that only this node can take: there is the memory which it follows.

        The time runs from now, and anew from every answer of the node, whatever it says. For a node from which an
        event was taken away elect is asked after one failure, until the node is reached again.
        """
        if attributes.get(NODE) != node or attributes.get(OWNER) == node:
            return None
        since_s = self._clock.now_s()

        async def elsewhere(answer: Answer) -> NewEntry | None:
            nonlocal since_s
            now_s = self._clock.now_s()
            if answer.status != 0:
                self.reached(node)
                since_s = now_s
            elif node in self._gone or now_s - since_s >= self._after_s:
                return await self._ask(trigger, node, await load())
            return None

        return elsewhere

    def reached(self, node: str) -> None:
        """The node has answered."""
        self._gone.discard(node)

    async def _ask(self, trigger: str, node: str, content: Content) -> NewEntry | None:
        namespace = trigger.partition("/")[0]
        request = write_request(self._url.with_query(avoid=node), content.event, content.headers, namespace, False)
        answer = await self._courier.post(request, self._timeout_s)
        try:
            new = self._readdressed(trigger, node, content, answer)
        except InvalidEvent as error:
            fields = {**fields_of(content.event), "trigger": trigger}
            log.warning("%s: event %s stays with %s: %s", trigger, content.event.id, node, error, extra=fields)
            return None
        self._gone.add(node)
        other = new.content.event.attributes[NODE]
        fields = {**fields_of(content.event), "trigger": trigger}
        log.warning("%s: event %s goes to %s, %s is gone", trigger, content.event.id, other, node, extra=fields)
        return new

    def _readdressed(self, trigger: str, node: str, content: Content, answer: Answer) -> NewEntry:
        """The entry of elect's answer; raises InvalidEvent where that is not this event with another address."""
        event, asked = answer.reply, content.event
        if event is None:
            raise InvalidEvent({"elect": answer.reason or "knows no other node"})
        if (event.id, event.source) != (asked.id, asked.source):
            raise InvalidEvent({"elect": f"answered with event {event.id} of {event.source}"})
        if (other := event.attributes.get(NODE)) is None or other == node:
            raise InvalidEvent({NODE: f"found {other!r}, expected another node than {node}"})
        new = self._intake.replied(trigger, content, event, passed_on(answer.headers.items()))
        if not new.triggers:
            raise InvalidEvent({NODE: f"found {other!r}, for which no Trigger takes the event"})
        if new.content.ttl <= 0:
            raise InvalidEvent({"ttl": "is spent"})
        return new
