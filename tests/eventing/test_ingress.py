"""Bodies that come slowly, or not at all, without a server between the test and the application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from libskylark.clock import SystemClock
from libskylark.errors import StoreUnavailable
from libskylark.eventing.ingress import Ingress
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import load_objects
from libskylark.eventing.metrics import BrokerMetrics
from libskylark.eventing.settings import BrokerSettings
from libskylark.eventing.stream import Stream

SETTINGS: dict[str, Any] = {"max_body_bytes": 100, "max_held_bytes": 1000}
HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


class Request:
    """One request to a broker whose Redis is away; its messages come from a queue."""

    def __init__(self, token: str | None = None, **settings: float) -> None:
        stream = Stream("127.0.0.1", 1, None, lambda entry: None, lambda: None)
        intake, limits = Intake(load_objects([]), SystemClock()), BrokerSettings(**{**SETTINGS, **settings})
        self._ingress = Ingress(intake, stream, limits, BrokerMetrics("here"), dict, token)
        self.messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.answer: list[MutableMapping[str, Any]] = []

    def another(self) -> Request:
        """To the same broker."""
        other = Request()
        other._ingress = self._ingress
        return other

    async def run(self, *headers: tuple[str, str]) -> int:
        """The status."""
        pairs = [(name.encode(), value.encode()) for name, value in [*HEADERS.items(), *headers]]
        scope = {"type": "http", "method": "POST", "path": "/default/default", "headers": pairs}
        await self._ingress(scope, self.messages.get, self._send)
        return int(self.answer[0]["status"]) if self.answer else 0

    def chunk(self, body: bytes, more: bool) -> None:
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.answer.append(message)


def test_a_body_in_time_is_taken_to_the_stream() -> None:
    async def ask() -> Request:
        request = Request()
        for part in range(3):
            request.chunk(b"x" * 33, more=part < 2)
        assert await request.run() == 503
        return request

    problem = json.loads(asyncio.run(ask()).answer[1]["body"])
    assert problem["detail"] == str(StoreUnavailable("127.0.0.1:1", "not connected yet"))


def test_a_body_that_does_not_end_in_time_is_refused() -> None:
    async def ask() -> int:
        request = Request(body_timeout_s=0.05)
        request.chunk(b"x", more=True)
        status = await request.run()
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        return status

    assert asyncio.run(ask()) == 408


def test_chunks_that_are_too_long_together_are_refused() -> None:
    async def ask() -> int:
        request = Request()
        request.chunk(b"x" * 60, more=True)
        request.chunk(b"x" * 60, more=True)
        return await request.run()

    assert asyncio.run(ask()) == 413


def test_a_body_in_small_chunks_leaves_others_their_turn() -> None:
    async def ask() -> tuple[int, int]:
        request, turns = Request(max_held_bytes=10_000, max_body_bytes=10_000), 0
        for _ in range(1000):
            request.chunk(b"x", more=True)
        request.chunk(b"", more=False)
        running = asyncio.create_task(request.run())
        while not running.done():
            await asyncio.sleep(0)
            turns += 1
        return await running, turns

    status, turns = asyncio.run(ask())
    assert status == 503
    assert turns > 1000 // 64


@pytest.mark.parametrize(("part", "status"), [(b"xy", 400), (b"x" * 8, 503)])
def test_a_body_of_next_to_nothing_in_each_of_very_many_chunks_is_refused(part: bytes, status: int) -> None:
    async def ask() -> int:
        request = Request(max_body_bytes=1_000_000, max_held_bytes=1_000_000)
        for _ in range(17_000):
            request.chunk(part, more=True)
        request.chunk(b"", more=False)
        return await request.run()

    assert asyncio.run(ask()) == status


def test_a_body_whose_connection_ends_is_no_event() -> None:
    async def ask() -> int:
        request = Request()
        request.messages.put_nowait({"type": "http.disconnect"})
        return await request.run()

    assert asyncio.run(ask()) == 408


def test_a_server_that_stops_ends_the_request() -> None:
    async def ask() -> None:
        running = asyncio.create_task(Request().run())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(ask())


def test_bodies_that_are_read_at_once_have_a_limit_together() -> None:
    size = 200_000

    async def ask() -> list[object]:
        request = Request(max_body_bytes=size, max_held_bytes=size)
        others = [request.another(), request.another()]
        request.chunk(b"x" * 150_000, more=True)
        reading = asyncio.create_task(request.run())
        await asyncio.sleep(0)
        others[0].chunk(b"x" * 100_000, more=False)
        others[1].chunk(b"x" * 60_000, more=False)  # a small one has room
        statuses = [await other.run() for other in others]
        retry_after = dict(others[0].answer[0]["headers"])[b"retry-after"]
        assert b"no room" in others[0].answer[1]["body"]
        assert retry_after == b"1"
        request.chunk(b"", more=False)
        await reading
        again = request.another()
        again.chunk(b"x" * size, more=False)  # all is given back, whatever the end was
        await again.run()
        return [*statuses, "no room" in again.answer[1]["body"].decode()]

    # Those with room get as far as the stream, which is away.
    assert asyncio.run(ask()) == [503, 503, False]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ((), 401),
        ((("authorization", "Bearer wrong-wrong-wrong"),), 401),
        ((("authorization", "Basic 0123456789abcdef"),), 401),
        ((("authorization", "Bearer \u00e4"),), 401),
        ((("authorization", "bearer 0123456789abcdef"),), 503),
    ],
)
def test_a_broker_with_a_token_takes_events_with_it_only(given: tuple[tuple[str, str], ...], status: int) -> None:
    async def ask() -> Request:
        request = Request(token="0123456789abcdef")
        request.chunk(b"", more=False)
        assert await request.run(*given) == status
        return request

    answer = asyncio.run(ask()).answer
    challenge = dict(answer[0]["headers"]).get(b"www-authenticate", b"")
    assert challenge.startswith(b'Bearer realm="skylark"') == (status == 401)
    assert b"0123456789abcdef" not in answer[1]["body"]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([(f"x-{number}", "v") for number in range(100)], 431),
        ([("x", "v" * 33_000)], 431),
        ([("ce-type", "other")], 400),
        ([("x", "1"), ("x", "2")], 503),
        ([("transfer-encoding", "gzip, chunked")], 400),
        ([("content-type", "application/cloudevents-batch+json")], 400),
    ],
)
def test_headers_have_limits_and_attributes_one_value(more: list[tuple[str, str]], status: int) -> None:
    async def ask() -> int:
        request = Request()
        request.chunk(b"", more=False)
        return await request.run(*more)

    assert asyncio.run(ask()) == status
