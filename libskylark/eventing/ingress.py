"""The broker's HTTP face: a raw ASGI application that answers 202 when an event is stored, and not before."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from libskylark import problem
from libskylark.errors import InvalidEvent, StoreUnavailable
from libskylark.event import from_http
from libskylark.eventing.intake import Intake, passed_on
from libskylark.eventing.stream import Stream, StreamFull

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY_TIMEOUT_S: Final = 10.0
_RETRY_AFTER_S: Final = b"1"
_EMPTY: Final = [(b"content-length", b"0")]


class _Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self, status: int, detail: str, faults: dict[str, str] | None = None, headers: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = problem.problem(status, detail, faults)
        self.headers = [*headers, (b"content-type", problem.CONTENT_TYPE.encode())]


class _Gone(Exception):
    """The sender hung up before its event was read."""


class Ingress:
    """Routes of a broker: events at /namespace/broker, hops at /namespace/broker/trigger, /health and /ready."""

    def __init__(self, intake: Intake, stream: Stream, max_body_bytes: int) -> None:
        self._intake = intake
        self._stream = stream
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request."""
        try:
            parts = scope["path"].strip("/").split("/")
            if len(parts) == 1:
                status, headers, body = await self._status(parts[0], scope["method"])
            else:
                await self._take(parts, scope, receive)
                status, headers, body = 202, _EMPTY, b""
        except _Refused as refused:
            status, headers, body = refused.status, refused.headers, refused.body
        except _Gone:
            return
        if body:
            headers = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, parts: list[str], scope: Scope, receive: Receive) -> None:
        """Reads the event and stores it; raises _Refused."""
        broker = f"{parts[0]}/{parts[1]}"
        trigger = f"{parts[0]}/{parts[2]}" if len(parts) == 3 else None
        if len(parts) > 3 or not self._intake.has_broker(broker):
            known = ", ".join(f"/{name}" for name in self._intake.brokers)
            raise _Refused(404, f"no broker at {scope['path']}; there is {known}")
        if trigger is not None and not self._intake.has_trigger(broker, trigger):
            raise _Refused(404, f"Broker {broker} has no Trigger {trigger}")
        if scope["method"] != "POST":
            raise _Refused(405, "events are sent with POST", headers=((b"allow", b"POST"),))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = await self._body(headers.get("content-length", ""), receive)
        try:
            event = from_http(headers.items(), body)
            passed = passed_on(headers.items())
            if trigger is None:
                new = self._intake.arrived(broker, event, passed)
            else:
                new = self._intake.handed_over(trigger, event, passed)
            await self._stream.add(new)
        except InvalidEvent as error:
            raise _Refused(400, "the request is no event that this broker can take", error.faults) from None
        except StoreUnavailable as error:
            raise _Refused(503, str(error), headers=((b"retry-after", _RETRY_AFTER_S),)) from None
        except StreamFull as error:
            raise _Refused(429, str(error), headers=((b"retry-after", _RETRY_AFTER_S),)) from None

    async def _body(self, content_length: str, receive: Receive) -> bytes:
        if content_length.isdecimal() and int(content_length) > self._max_body_bytes:
            raise self._too_large()
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None, "a server runs each request in a task"
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        # What asyncio.timeout does, at a fifth of its cost: most bodies are there already.
        timer = loop.call_later(_BODY_TIMEOUT_S, expire)
        try:
            return await self._chunks(receive)
        except asyncio.CancelledError:
            if not late or task.uncancel():  # the server wants the task to end
                raise
            raise _Refused(408, f"the body did not arrive within {_BODY_TIMEOUT_S:g} s") from None
        finally:
            timer.cancel()

    async def _chunks(self, receive: Receive) -> bytes:
        chunks, size = list[bytes](), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            if (size := size + len(chunk)) > self._max_body_bytes:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> _Refused:
        return _Refused(413, f"the body is larger than {self._max_body_bytes} bytes")

    async def _status(self, name: str, method: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if name not in ("health", "ready"):
            raise _Refused(404, f"nothing at /{name}; events go to /namespace/broker")
        if method not in ("GET", "HEAD"):
            raise _Refused(405, f"/{name} is read with GET", headers=((b"allow", b"GET"),))
        if name == "health":
            report: dict[str, object] = {"status": "alive", "pid": os.getpid()}
        elif await self._stream.is_ready():
            report = {"status": "ready", "waiting": self._stream.waiting}
        else:
            raise _Refused(503, f"Redis at {self._stream.address} does not answer")
        return 200, [(b"content-type", b"application/json")], json.dumps(report).encode()
