"""The broker's routes: an event is answered 202 when it is stored, and not before."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from libskylark.errors import InvalidEvent, StoreUnavailable, StreamFull
from libskylark.event import from_message
from libskylark.eventing.entry import NewEntry
from libskylark.eventing.http_messages import RETRY_AFTER, Head, Refused, Reply, Response, Take
from libskylark.eventing.intake import Intake, passed_on
from libskylark.eventing.metrics import BrokerMetrics, Queue
from libskylark.eventing.stream import Stream
from libskylark.metrics import CONTENT_TYPE as METRICS_TYPE

_ALLOW: Final = ("Allow", "POST, OPTIONS")
_READ: Final = ("GET", "HEAD")
_ACCEPTED: Final = Response(202)
# CloudEvents' web hooks ask so before they send, without a token; Knative's ingress says yes for any Broker, too.
_WELCOME: Final = Response(200, (_ALLOW, ("WebHook-Allowed-Origin", "*"), ("WebHook-Allowed-Rate", "*")))


class Ingress:
    """Routes of a broker: events at /namespace/broker, hops at /namespace/broker/trigger, /health, /ready, /metrics."""

    def __init__(
        self,
        intake: Intake,
        stream: Stream,
        metrics: BrokerMetrics,
        queues: Callable[[], Mapping[str, Queue]],
        token: str | None = None,
    ) -> None:
        """With a token, events are taken only from those who present it; `queues` are those of the Triggers."""
        self._intake = intake
        self._stream = stream
        self._metrics = metrics
        self._queues = queues
        self._token = token.encode() if token is not None else None
        self._asking: set[asyncio.Task[None]] = set()

    def admit(self, head: Head) -> Take:
        """What becomes of a request; raises Refused for one whose body need not be read."""
        parts = head.parts
        if len(parts) == 1:
            return self._status(parts[0], head.method)
        if head.method == "OPTIONS" and len(parts) <= 3:
            return lambda _, reply: reply(_WELCOME)
        if self._token is not None:
            self._authorize(head.headers.get("authorization", ""), self._token)
        broker = f"{parts[0]}/{parts[1]}"
        trigger = f"{parts[0]}/{parts[2]}" if len(parts) == 3 else None
        if len(parts) > 3 or not self._intake.has_broker(broker):
            known = ", ".join(f"/{name}" for name in self._intake.brokers)
            raise Refused(404, f"no broker at /{'/'.join(parts)}; there is {known}")
        if trigger is not None and not self._intake.has_trigger(broker, trigger):
            raise Refused(404, f"Broker {broker} has no Trigger {trigger}")
        if head.method != "POST":
            raise Refused(405, "events are sent with POST", headers=(_ALLOW,))
        if faults := {name[3:]: f"found {n} times" for name, n in head.repeated.items() if name.startswith("ce-")}:
            raise Refused(400, "an attribute has one value", faults)
        return partial(self._store, broker, trigger, head.headers)

    def count_refusal(self, status: int) -> None:
        self._metrics.count_refusal(status)

    def _store(self, broker: str, trigger: str | None, headers: dict[str, str], body: bytes, reply: Reply) -> None:
        if not self._intake.has_broker(broker):  # the objects were exchanged while the body was read
            raise Refused(404, f"there is no broker {broker} any more")
        try:
            event = from_message(headers, body)
            passed = passed_on(headers.items())
            if trigger is None:
                new = self._intake.arrived(broker, event, passed)
            else:
                new = self._intake.handed_over(trigger, event, passed)
            stored = self._stream.put(new)
        except InvalidEvent as error:
            raise Refused(400, "the request is no event that this broker can take", error.faults) from None
        except StoreUnavailable as error:
            raise _unavailable(error) from None
        except StreamFull as error:
            raise _full(error) from None
        stored.add_done_callback(partial(self._stored, broker, new, reply))

    def _stored(self, broker: str, new: NewEntry, reply: Reply, stored: asyncio.Future[list[str]]) -> None:
        try:
            ids = stored.result()
        except StoreUnavailable as error:
            reply(_unavailable(error).response)
        except StreamFull as error:
            reply(_full(error).response)
        else:
            outcome = new.outcome if new.was_stored_as(ids) else "duplicate"
            self._metrics.count_event(broker, new.content.event.type, outcome)
            reply(_ACCEPTED)

    @staticmethod
    def _authorize(authorization: str, token: bytes) -> None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token):
            return
        detail = "the bearer token is not this broker's" if given else "this broker takes events with a bearer token"
        challenge = 'Bearer realm="skylark"' + (', error="invalid_token"' if given else "")
        raise Refused(401, detail, headers=(("WWW-Authenticate", challenge),))

    def _status(self, name: str, method: str) -> Take:
        tell = {"health": self._tell_health, "ready": self._tell_ready, "metrics": self._tell_metrics}.get(name)
        if tell is None:
            raise Refused(404, f"nothing at /{name}; events go to /namespace/broker")
        if method not in _READ:
            raise Refused(405, f"/{name} is read with GET", headers=(("Allow", ", ".join(_READ)),))
        return lambda _, reply: tell(reply)

    def _tell_health(self, reply: Reply) -> None:
        reply(_json({"status": "alive", "pid": os.getpid()}))

    def _tell_metrics(self, reply: Reply) -> None:
        text = self._metrics.text(*self._stream.stored, self._queues())
        reply(Response(200, (("Content-Type", METRICS_TYPE),), text))

    def _tell_ready(self, reply: Reply) -> None:
        asking = asyncio.create_task(self._ask_redis(reply))
        self._asking.add(asking)  # a task that nobody knows may vanish
        asking.add_done_callback(self._asking.discard)

    async def _ask_redis(self, reply: Reply) -> None:
        if await self._stream.is_ready():
            reply(_json({"status": "ready", "waiting": self._stream.waiting}))
        else:
            away = Refused(503, f"Redis at {self._stream.address} does not answer", headers=(RETRY_AFTER,))
            reply(away.response)


def _json(report: Mapping[str, object]) -> Response:
    return Response(200, (("Content-Type", "application/json"),), json.dumps(report).encode())


def _unavailable(error: StoreUnavailable) -> Refused:
    return Refused(503, str(error), headers=(RETRY_AFTER,))


def _full(error: StreamFull) -> Refused:
    return Refused(429, str(error), headers=(RETRY_AFTER,))
