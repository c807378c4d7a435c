"""The broker's HTTP face: a raw ASGI application that answers 202 when an event is stored, and not before."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from itertools import chain
from typing import Any, Final

from libskylark import problem
from libskylark.errors import InvalidEvent, StoreUnavailable, StreamFull
from libskylark.event import from_http
from libskylark.eventing.intake import Intake, passed_on
from libskylark.eventing.metrics import BrokerMetrics, Queue
from libskylark.eventing.settings import BrokerSettings
from libskylark.eventing.stream import Stream
from libskylark.metrics import CONTENT_TYPE as METRICS_TYPE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_RETRY_AFTER: Final = (b"retry-after", b"1")
_SMALL_BYTES: Final = 64 * 1024  # a body up to here has room whatever others hold; connections bound how many
_CHUNKS_AT_ONCE: Final = 64  # of a body, before others have a turn: reading those that are there does not wait
_MANY_CHUNKS: Final = 16_384
_TINY_BYTES: Final = 8  # of a chunk in the mean; from so many of them on, nobody means well
_EMPTY: Final = [(b"content-length", b"0")]
_ALLOW: Final = (b"allow", b"POST, OPTIONS")
# CloudEvents' web hooks ask so before they send, without a token; Knative's ingress says yes for any Broker, too.
_WELCOME: Final = [*_EMPTY, _ALLOW, (b"webhook-allowed-origin", b"*"), (b"webhook-allowed-rate", b"*")]


class _Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self, status: int, detail: str, faults: dict[str, str] | None = None, headers: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = problem.problem(status, detail, faults)
        self.headers = [*headers, (b"content-type", problem.CONTENT_TYPE.encode())]


class Ingress:
    """Routes of a broker: events at /namespace/broker, hops at /namespace/broker/trigger, /health, /ready, /metrics."""

    def __init__(
        self,
        intake: Intake,
        stream: Stream,
        settings: BrokerSettings,
        metrics: BrokerMetrics,
        queues: Callable[[], Mapping[str, Queue]],
        token: str | None = None,
    ) -> None:
        """With a token, events are taken only from those who present it; `queues` are those of the Triggers."""
        self._intake = intake
        self._stream = stream
        self._settings = settings
        self._metrics = metrics
        self._queues = queues
        self._token = token.encode() if token is not None else None
        self._held_bytes = 0  # of all bodies that are read, or wait to be stored

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        try:
            parts = scope["path"].strip("/").split("/")
            if parts[0] in ("http:", "https:"):  # the absolute form of a request's target
                parts = parts[3:] or [""]
            if len(parts) == 1:
                status, headers, body = await self._status(parts[0], scope["method"])
            elif scope["method"] == "OPTIONS" and len(parts) <= 3:
                status, headers, body = 200, _WELCOME, b""
            else:
                await self._take(parts, scope, receive)
                status, headers, body = 202, _EMPTY, b""
        except _Refused as refused:
            status, headers, body = refused.status, refused.headers, refused.body
            self._metrics.count_refusal(status)
        if body:
            headers = [*headers, (b"content-length", str(len(body)).encode())]
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, parts: list[str], scope: Scope, receive: Receive) -> None:
        """Reads the event and stores it; raises _Refused."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self._token is not None:
            self._authorize(headers.get("authorization", ""), self._token)
        broker = f"{parts[0]}/{parts[1]}"
        trigger = f"{parts[0]}/{parts[2]}" if len(parts) == 3 else None
        if len(parts) > 3 or not self._intake.has_broker(broker):
            known = ", ".join(f"/{name}" for name in self._intake.brokers)
            raise _Refused(404, f"no broker at {scope['path']}; there is {known}")
        if trigger is not None and not self._intake.has_trigger(broker, trigger):
            raise _Refused(404, f"Broker {broker} has no Trigger {trigger}")
        if scope["method"] != "POST":
            raise _Refused(405, "events are sent with POST", headers=(_ALLOW,))
        self._check_headers(scope["headers"], headers)
        body = await self._body(headers.get("content-length", ""), receive)
        try:
            await self._store(broker, trigger, headers, body)
        finally:
            self._held_bytes -= len(body)

    async def _store(self, broker: str, trigger: str | None, headers: dict[str, str], body: bytes) -> None:
        if not self._intake.has_broker(broker):  # the objects were exchanged while the body was read
            raise _Refused(404, f"there is no broker {broker} any more")
        try:
            event = from_http(headers.items(), body)
            passed = passed_on(headers.items())
            if trigger is None:
                new = self._intake.arrived(broker, event, passed)
            else:
                new = self._intake.handed_over(trigger, event, passed)
            is_new = await self._stream.add(new)
        except InvalidEvent as error:
            raise _Refused(400, "the request is no event that this broker can take", error.faults) from None
        except StoreUnavailable as error:
            raise _Refused(503, str(error), headers=(_RETRY_AFTER,)) from None
        except StreamFull as error:
            raise _Refused(429, str(error), headers=(_RETRY_AFTER,)) from None
        self._metrics.count_event(broker, event.type, new.outcome if is_new else "duplicate")

    @staticmethod
    def _authorize(authorization: str, token: bytes) -> None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token):
            return
        detail = "the bearer token is not this broker's" if given else "this broker takes events with a bearer token"
        challenge = b'Bearer realm="skylark"' + (b', error="invalid_token"' if given else b"")
        raise _Refused(401, detail, headers=((b"www-authenticate", challenge),))

    def _check_headers(self, pairs: list[tuple[bytes, bytes]], named: dict[str, str]) -> None:
        limits = self._settings
        if len(pairs) > limits.max_headers:
            raise _Refused(431, f"found {len(pairs)} headers, expected at most {limits.max_headers}")
        if (size := len(b"".join(chain.from_iterable(pairs)))) > limits.max_header_bytes:
            raise _Refused(431, f"found {size} bytes of headers, expected at most {limits.max_header_bytes}")
        if len(named) != len(pairs):
            counts = Counter(name.decode("latin-1") for name, _ in pairs)
            if faults := {name[3:]: f"found {n} times" for name, n in counts.items() if n > 1 and name[:3] == "ce-"}:
                raise _Refused(400, "an attribute has one value", faults)
        if (coding := named.get("transfer-encoding")) is not None and coding.lower() != "chunked":
            raise _Refused(400, f"found transfer coding {coding!r}, expected chunked or none")

    async def _body(self, content_length: str, receive: Receive) -> bytes:
        """The body, whose bytes count as held from now on."""
        if content_length.isdecimal():
            self._check_size(int(content_length), self._held_bytes + int(content_length))
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None, "a server runs each request in a task"
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        # What asyncio.timeout does, at a fifth of its cost: most bodies are there already.
        timer = loop.call_later(self._settings.body_timeout_s, expire)
        try:
            return await self._chunks(receive)
        except asyncio.CancelledError:
            if not late or task.uncancel():  # the server wants the task to end
                raise
            wait_s = self._settings.body_timeout_s
            raise _Refused(408, f"the body did not arrive within {wait_s:g} s") from None
        finally:
            timer.cancel()

    async def _chunks(self, receive: Receive) -> bytes:
        body, size, count = bytearray(), 0, 0  # a list of chunks would take many times their size, where they are small
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Refused(408, "the connection ended within the body")
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                self._held_bytes += len(chunk)
                self._check_size(size, self._held_bytes)
                more = message.get("more_body", False)
                if not body and not more:
                    return chunk
                body += chunk
                if not more:
                    return bytes(body)
                count += 1
                if count % _CHUNKS_AT_ONCE == 0:
                    if count >= _MANY_CHUNKS and size < count * _TINY_BYTES:
                        raise _Refused(400, f"found {count} chunks of {size} bytes together, expected larger ones")
                    await asyncio.sleep(0)
        except BaseException:
            self._held_bytes -= size
            raise

    def _check_size(self, size: int, held_bytes: int) -> None:
        if size > self._settings.max_body_bytes:
            raise _Refused(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        if held_bytes > self._settings.max_held_bytes and size > _SMALL_BYTES:
            detail = f"bodies of {self._settings.max_held_bytes} bytes are being read, there is no room for one more"
            raise _Refused(503, detail, headers=(_RETRY_AFTER,))

    async def _status(self, name: str, method: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if name not in ("health", "ready", "metrics"):
            raise _Refused(404, f"nothing at /{name}; events go to /namespace/broker")
        if method not in ("GET", "HEAD"):
            raise _Refused(405, f"/{name} is read with GET", headers=((b"allow", b"GET, HEAD"),))
        if name == "metrics":
            text = self._metrics.text(*self._stream.stored, self._queues())
            return 200, [(b"content-type", METRICS_TYPE.encode())], text
        if name == "health":
            report: dict[str, object] = {"status": "alive", "pid": os.getpid()}
        elif await self._stream.is_ready():
            report = {"status": "ready", "waiting": self._stream.waiting}
        else:
            raise _Refused(503, f"Redis at {self._stream.address} does not answer", headers=(_RETRY_AFTER,))
        return 200, [(b"content-type", b"application/json")], json.dumps(report).encode()
