"""Connections of the broker's server on a real event loop, with an application whose answers the test gives."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from libskylark.clock import SystemClock
from libskylark.eventing.http_messages import Head, Refused, Reply, Response, Take
from libskylark.eventing.http_server import HttpServer
from libskylark.eventing.server_connection import ServerConnection
from libskylark.eventing.settings import BrokerSettings

WAIT_S = 15.0
log = logging.getLogger("skylark.broker")
LATER = b"POST /later HTTP/1.1\r\nHost: h\r\n\r\n"
NOW = b"POST /now HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
BIG = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"
REFUSED = b"POST /none HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


class Application:
    """/now echoes, /later answers when the test does, /big is long, /late is refused with its body, all else is 404."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.replies: list[Reply] = []
        self.refusals: list[int] = []
        self.asked = asyncio.Event()

    def admit(self, head: Head) -> Take:
        self.heads.append(head)
        takes: dict[str, Take] = {"now": self._echo, "later": self._wait, "big": self._tell, "late": self._refuse}
        if head.parts[0] not in takes:
            raise Refused(404, "nothing here")
        return takes[head.parts[0]]

    def count_refusal(self, status: int) -> None:
        self.refusals.append(status)

    def _echo(self, body: bytes, reply: Reply) -> None:
        self.bodies.append(body)
        reply(Response(200, body=body))

    def _wait(self, body: bytes, reply: Reply) -> None:
        self.bodies.append(body)
        self.replies.append(reply)
        self.asked.set()

    def _tell(self, body: bytes, reply: Reply) -> None:
        self.bodies.append(body)
        reply(Response(200, body=b"x" * 500_000))

    def _refuse(self, body: bytes, reply: Reply) -> None:
        if body == b"fault":
            raise ZeroDivisionError("broken")
        raise Refused(400, "no event")


class Worker:
    """What a connection knows of gunicorn's."""

    def __init__(self, keepalive: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.cfg = SimpleNamespace(keepalive=keepalive)
        self.alive = True
        self.none_left = asyncio.Event()
        self._nr_conns = 0

    @property
    def nr_conns(self) -> int:
        return self._nr_conns

    @nr_conns.setter
    def nr_conns(self, count: int) -> None:
        self._nr_conns = count
        if not count:
            self.none_left.set()


class Serving:
    """A server with one connection, and its other end."""

    def __init__(self, keepalive: float, limits: dict[str, Any]) -> None:
        self.application = Application()
        self.worker = Worker(keepalive)
        self.server = HttpServer(BrokerSettings(**limits), self.application, SystemClock())
        self.loop = self.worker.loop

    async def connect(self) -> None:
        self.client, accepted = socket.socketpair()
        self.client.setblocking(False)
        connections: list[ServerConnection] = []

        def accept() -> ServerConnection:
            connections.append(ServerConnection(self.server, self.worker))
            return connections[0]

        await self.loop.connect_accepted_socket(accept, accepted)
        connection = connections.pop()
        parts = (connection, connection._reader, connection._alarm)
        self.parts: list[weakref.ref[Any]] = [weakref.ref(part) for part in parts]

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.loop.sock_sendall(self.client, piece)

    async def until(self, end: bytes) -> bytes:
        """What comes, to these bytes."""
        said = b""
        while not said.endswith(end):
            said += (received := await self.loop.sock_recv(self.client, 65536))
            assert received, f"expected {end!r}, found the end after {said!r}"
        return said

    async def to_the_end(self) -> bytes:
        said = b""
        while received := await self.loop.sock_recv(self.client, 65536):
            said += received
        return said

    async def ask(self, request: bytes) -> int:
        """The status of one answer with a body."""
        await self.send(request)
        said = await self.until(b"\r\n\r\n") if request.startswith(b"HEAD") else b""
        while b"\r\n\r\n" not in said or len(said) < length_of(said):
            said += (received := await self.loop.sock_recv(self.client, 65536))
            assert received, f"found the end after {said!r}"
        return int(said.split()[1])

    async def gone(self) -> None:
        """Waits until the connection has ended; nothing is left of it, though nobody looked for cycles."""
        await self.worker.none_left.wait()
        self.application.replies.clear()
        await asyncio.sleep(0)
        assert [part() for part in self.parts] == [None] * 3
        assert self.server.room.held_bytes == 0


def length_of(said: bytes) -> int:
    head, _, _ = said.partition(b"\r\n\r\n")
    (length,) = [line.split(b": ")[1] for line in head.splitlines() if line.startswith(b"Content-Length: ")]
    return len(head) + 4 + int(length)


def run(test: Callable[[Serving], Awaitable[None]], keepalive: float = 30.0, **limits: Any) -> None:
    async def serve() -> None:
        serving = Serving(keepalive, limits)
        await serving.connect()
        with closing(serving.client):
            await test(serving)
        await serving.gone()

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(serve(), WAIT_S))
    finally:
        gc.enable()


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(LATER + LATER + NOW + REFUSED + NOW)
        await serving.application.asked.wait()
        first, second = serving.application.replies
        second(Response(202, body=b"2"))
        first(Response(202, body=b"1"))
        await serving.send(b"GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        said = await serving.to_the_end()
        assert statuses(said) == [202, 202, 200, 404, 200, 200]
        assert said.index(b"\r\n\r\n1HTTP") < said.index(b"\r\n\r\n2HTTP") < said.index(b"\r\n\r\nhiHTTP")
        assert said.count(b"Connection: close") == 1

    run(test)


def test_of_many_pipelined_requests_few_are_under_way() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(LATER * 20)
        await serving.application.asked.wait()
        replies = serving.application.replies
        assert len(replies) == 8
        for number in range(20):
            while len(replies) <= number:
                await asyncio.sleep(0)
            replies[number](Response(202, body=b"%02d" % number))
        said = await serving.until(b"\r\n\r\n19")
        assert statuses(said) == [202] * 20

    run(test)


def test_while_an_answer_is_awaited_little_is_read() -> None:
    count = 4000
    padded = b"GET /now?%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"p" * 200)

    async def test(serving: Serving) -> None:
        sending = asyncio.create_task(serving.send(LATER + padded * count))
        await serving.application.asked.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sending.done()
        assert len(serving.application.heads) < 100
        serving.application.replies[0](Response(202))
        said = b""
        while said.count(b"HTTP/1.1 200") < count:
            said += await serving.loop.sock_recv(serving.client, 1 << 20)
        await sending

    run(test)


def test_while_an_answer_is_awaited_one_piece_more_is_read() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(LATER)
        await serving.application.asked.wait()
        for _ in range(3):
            await serving.send(NOW)
            while not serving.application.bodies[1:]:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
        assert len(serving.application.bodies) == 2
        serving.application.replies[0](Response(202))
        said = b""
        while said.count(b"\r\n\r\nhi") < 3:
            said += await serving.loop.sock_recv(serving.client, 65536)

    run(test)


@pytest.mark.parametrize("request_", [BIG * 1000, BIG.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
def test_who_does_not_read_its_answers_is_hung_up_on(request_: bytes) -> None:
    async def test(serving: Serving) -> None:
        serving.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sending = asyncio.create_task(serving.send(request_))
        await serving.worker.none_left.wait()
        assert 0 < len(serving.application.bodies) <= 2
        await asyncio.gather(sending, return_exceptions=True)

    run(test, body_timeout_s=0.1, head_timeout_s=600)


def test_who_reads_slowly_gets_all_of_its_answers() -> None:
    async def test(serving: Serving) -> None:
        sending = asyncio.create_task(serving.send(BIG * 10 + NOW))
        said = await serving.until(b"\r\n\r\nhi")
        assert statuses(said) == [200] * 11
        await sending

    run(test)


def test_who_waits_to_be_asked_for_a_body_is_asked_once_and_in_turn() -> None:
    waiting = b"POST /now HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"

    async def test(serving: Serving) -> None:
        for piece in (waiting[:30], waiting[30:]):
            await serving.send(piece)
        assert await serving.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await serving.send(b"h", b"i")
        assert statuses(await serving.until(b"hi")) == [200]
        await serving.send(LATER + waiting)
        await serving.application.asked.wait()
        serving.application.replies[0](Response(202))
        assert statuses(await serving.until(b"Continue\r\n\r\n")) == [202, 100]
        await serving.send(b"hi")
        assert statuses(await serving.until(b"hi")) == [200]
        await serving.send(waiting.replace(b"/now", b"/none"))
        assert statuses(await serving.to_the_end()) == [404]
        assert serving.application.refusals == [404]

    run(test)


@pytest.mark.parametrize(
    ("line", "connection"),
    [
        (b"GET /now HTTP/1.0\r\n", b"close"),
        (b"GET /now HTTP/1.0\r\nConnection: keep-alive\r\n", b"keep-alive"),
        (b"GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", b"close"),
        (b"GET /now HTTP/1.1\r\nHost: h\r\n", None),
    ],
)
def test_whether_the_connection_stays_is_told(line: bytes, connection: bytes | None) -> None:
    async def test(serving: Serving) -> None:
        for _ in range(1 if connection == b"close" else 3):
            await serving.send(line + b"\r\n")
            told = [
                part[12:] for part in (await serving.until(b"\r\n\r\n")).split(b"\r\n") if part[:11] == b"Connection:"
            ]
            assert told == ([] if connection is None else [connection])
        if connection == b"close":
            assert await serving.to_the_end() == b""

    run(test)


def test_a_server_without_keep_alive_closes_after_each_answer() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(NOW + NOW)
        said = await serving.to_the_end()
        assert statuses(said) == [200]
        assert b"Connection: close" in said

    run(test, keepalive=0)


def test_who_says_no_more_is_answered_and_the_connection_closed() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(LATER + NOW)
        serving.client.shutdown(socket.SHUT_WR)
        await serving.application.asked.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        serving.application.replies[0](Response(202))
        said = await serving.to_the_end()
        assert statuses(said) == [202, 200]
        assert said.count(b"Connection: close") == 1

    run(test)


@pytest.mark.parametrize("said", [b"", LATER[:20], NOW[:-1], REFUSED[:-1], BIG])
def test_nothing_is_left_of_a_connection_that_ends(said: bytes) -> None:
    async def test(serving: Serving) -> None:
        await serving.send(said)
        for _ in range(10):
            await asyncio.sleep(0)

    run(test)


def test_a_body_is_held_until_it_is_stored_though_its_sender_has_gone() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(b"POST /later HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345" * 20)
        await serving.application.asked.wait()
        assert serving.server.room.held_bytes == 100
        serving.client.close()
        serving.application.replies[0](Response(202))  # to nobody, which ends the connection
        await serving.worker.none_left.wait()
        assert serving.server.room.held_bytes == 7 * 5  # of those under way
        for reply in serving.application.replies[1:]:
            reply(Response(202))
        del reply

    run(test)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (REFUSED, 404),
        (
            REFUSED.replace(b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            404,
        ),
        (NOW.replace(b"/now", b"/late"), 400),
        (NOW.replace(b"Host", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHost"), 200),
        (b"GET /now HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
    ],
)
def test_what_is_no_fault_of_the_connection_leaves_it_to_the_next_request(request_: bytes, status: int) -> None:
    async def test(serving: Serving) -> None:
        for _ in range(2):
            assert await serving.ask(request_) == status
            assert await serving.ask(NOW) == 200
        assert serving.application.refusals == ([status] * 2 if status >= 400 else [])

    run(test)


def test_a_fault_of_ours_is_told_and_logged_and_leaves_the_connection(capsys: pytest.CaptureFixture[str]) -> None:
    async def test(serving: Serving) -> None:
        assert await serving.ask(NOW.replace(b"/now", b"/late").replace(b"2\r\n\r\nhi", b"5\r\n\r\nfault")) == 500
        assert await serving.ask(NOW) == 200

    log.addHandler(handler := logging.StreamHandler(sys.stdout))
    log.propagate = False  # pytest's own handler would keep the traceback, and with it the connection
    try:
        run(test)
    finally:
        log.removeHandler(handler)
        log.propagate = True
    assert "ZeroDivisionError: broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /none HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n",
        b"POST /none HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3d0900\r\n",
    ],
)
def test_what_is_refused_is_told_though_a_large_body_follows(request_: bytes) -> None:
    async def test(serving: Serving) -> None:
        sending = asyncio.create_task(serving.send(request_ + b"x" * 4_000_000))
        said = await serving.to_the_end()
        assert statuses(said) == [404]
        assert b"Connection: close" in said
        await sending
        assert serving.application.refusals == [404]

    run(test)


def test_a_connection_is_closed_when_nothing_comes_for_a_while() -> None:
    async def test(serving: Serving) -> None:
        assert await serving.ask(NOW) == 200
        assert await serving.to_the_end() == b""
        assert serving.application.refusals == []

    run(test, keepalive=0.05)


@pytest.mark.parametrize(("late", "what"), [(NOW[:20], "head"), (NOW[:-1], "body"), (REFUSED[:-1], "body")])
@pytest.mark.parametrize("first", [b"", NOW, LATER])
def test_what_does_not_end_in_time_is_told_so(first: bytes, late: bytes, what: str) -> None:
    async def test(serving: Serving) -> None:
        await serving.send(first + late)
        if first == LATER:
            await serving.application.asked.wait()
            serving.application.replies[0](Response(202))
        said = await serving.to_the_end()
        refusal = (
            (404, "nothing here") if b"none" in late else (408, f"the request's {what} did not arrive within 0.05 s")
        )
        assert statuses(said)[-1] == refusal[0] == serving.application.refusals[0]
        assert json.loads(said.rpartition(b"\r\n\r\n")[2])["detail"] == refusal[1]

    run(test, head_timeout_s=0.05, body_timeout_s=0.05)


@pytest.mark.parametrize("more", [b"1\r\nx\r\n", b"1;e=e\r\nx\r\n", b"", b"0\r\nT: "])
def test_a_body_has_its_time_however_much_of_it_comes(more: bytes) -> None:
    async def test(serving: Serving) -> None:
        await serving.send(b"POST /now HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + (more or b"1;"))
        answer = asyncio.create_task(serving.to_the_end())
        with suppress(ConnectionError):
            while not answer.done():
                await serving.send(more if more.endswith(b"x\r\n") else b"e")
                await asyncio.sleep(0)
        assert statuses(await answer) == [408]

    run(test, body_timeout_s=0.1)


def test_a_worker_that_stops_answers_what_is_under_way_and_closes() -> None:
    async def test(serving: Serving) -> None:
        await serving.send(LATER)
        await serving.application.asked.wait()
        serving.worker.alive = False
        serving.application.replies[0](Response(202))
        said = await serving.to_the_end()
        assert statuses(said) == [202]
        assert b"Connection: close\r\n" in said

    run(test)


@pytest.mark.parametrize("asked", [0, 1])
def test_a_worker_that_stops_does_not_wait_for_those_who_ask_nothing(asked: int) -> None:
    async def test(serving: Serving) -> None:
        for _ in range(asked):
            assert await serving.ask(NOW) == 200
        serving.worker.alive = False
        assert await serving.to_the_end() == b""

    run(test)


def test_more_connections_than_may_be_open_are_told_and_counted() -> None:
    async def test(serving: Serving) -> None:
        first, parts = serving.client, serving.parts
        await serving.connect()
        said = await serving.to_the_end()
        assert (statuses(said), serving.application.refusals) == ([503], [503])
        assert b"Retry-After: 1\r\n" in said
        serving.client.close()
        serving.client, serving.parts = first, parts
        assert await serving.ask(NOW) == 200

    run(test, max_connections=1)
