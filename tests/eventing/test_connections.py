"""The broker's HTTP client against servers that answer in every way, good and bad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from libskylark.eventing import connections, http_connection
from libskylark.eventing.connections import Connections
from libskylark.eventing.http_connection import Connection, Response
from tests.eventing.conftest import free_port

EMPTY = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers each request with the next pieces of `script`, written one by one; None closes the connection."""

    def __init__(self, *script: list[bytes | None]) -> None:
        self.script = list(script)
        self.connections = 0
        self.requests: list[bytes] = []
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(size))
                for piece in self.script.pop(0):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def posting(server: Server) -> AsyncIterator[Callable[[float], Awaitable[Response]]]:
    """A function that posts to the server, and waits so many seconds at most."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    connections = Connections(body_limit_bytes=1000)
    url = URL(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/path?q=1")

    async def post(timeout_s: float = 10.0) -> Response:
        return await connections.post(url, {"ce-id": "1", "x": "\xe9"}, b"body", timeout_s)

    async with listening:
        yield post
        connections.close()


def answered(*script: list[bytes | None]) -> list[Response]:
    """What came of one request for each answer of the script."""

    async def ask() -> list[Response]:
        async with posting(Server(*script)) as post:
            return [await post(10.0) for _ in script]

    return asyncio.run(ask())


def test_a_request_is_written_and_its_connection_kept() -> None:
    async def ask() -> Server:
        server = Server([EMPTY], [EMPTY], [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", None], [EMPTY])
        async with posting(server) as post:
            for _ in range(4):
                await post(10.0)
        return server

    server = asyncio.run(ask())
    lines = server.requests[0].decode("latin-1").split("\r\n")
    assert lines[0] == "POST /path?q=1 HTTP/1.1"
    assert lines[1].startswith("Host: 127.0.0.1:")
    assert {"ce-id: 1", "x: \xe9", "Content-Length: 4"} <= set(lines)
    assert lines[-2:] == ["", "body"]
    assert server.connections == 2


ANSWERS = {
    b"HTTP/1.1 204 No Content\r\nX-Y: z\r\n\r\n": Response(204, [("x-y", "z")], b""),
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi": Response(200, [("content-length", "2")], b"hi"),
    b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n": Response(
        500, [("transfer-encoding", "chunked")], b"hi!"
    ),
    CHUNKED + b"2\r\nhi\r\n0\r\nce-type: late\r\n\r\n": Response(200, [("transfer-encoding", "chunked")], b"hi"),
    b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" + EMPTY: Response(202, [("content-length", "0")], b""),
}


@given(st.sampled_from([*ANSWERS]), st.lists(st.integers(0, 80), max_size=5))
def test_an_answer_is_read_in_whatever_pieces_it_comes(answer: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(answer)]
    pieces: list[bytes | None] = [answer[start:end] for start, end in pairwise(places)]
    assert answered(pieces, [EMPTY]) == [ANSWERS[answer], Response(202, [("content-length", "0")], b"")]


def test_a_body_may_end_with_its_connection() -> None:
    pieces: list[bytes | None] = [b"HTTP/1.0 200 OK\r\n\r\n", b"he", b"llo", None]
    assert answered(pieces, [EMPTY])[0] == Response(200, [], b"hello")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
    ],
)
def test_a_body_that_is_too_long_is_not_read(answer: bytes) -> None:
    first, second = answered([answer], [EMPTY])
    assert (first.status, first.body) == (200, None)
    assert second.status == 202


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ([None], "closed before the answer's end"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", None], "closed before the answer's end"),
        ([b"SSH-2.0-x\r\n"], "no HTTP"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], "no HTTP"),
        ([b"HTTP/1.1 200 OK\r\nX: ", b"x" * 70_000], "head is longer than 65536 bytes"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 3000, "head is longer than 65536 bytes"),
        ([CHUNKED + b"1;", b"x" * 70_000], "head is longer than 65536 bytes"),
        ([CHUNKED + b"0\r\nX: ", b"x" * 70_000], "head is longer than 65536 bytes"),
    ],
)
def test_what_is_no_answer_is_a_connection_error(script: list[bytes | None], fault: str) -> None:
    with pytest.raises(ConnectionError, match=fault):
        answered(script)


def test_a_kept_connection_that_ends_before_the_answer_costs_no_attempt() -> None:
    async def ask() -> Server:
        server = Server([EMPTY], [None], [EMPTY], [None], [None])
        async with posting(server) as post:
            assert [(await post(10.0)).status for _ in range(2)] == [202, 202]
            with pytest.raises(ConnectionError, match="closed before the answer's end"):
                await post(10.0)
        return server

    server = asyncio.run(asyncio.wait_for(ask(), 10))
    assert server.requests == server.requests[:1] * 5
    assert server.connections == 3, "once more is once, and over a new connection"


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", EMPTY[:-1]])
def test_a_request_whose_answer_had_begun_is_not_sent_again(begun: bytes) -> None:
    async def ask() -> Server:
        server = Server([EMPTY], [begun, None])
        async with posting(server) as post:
            await post(10.0)
            with pytest.raises(ConnectionError, match="closed before the answer's end"):
                await post(10.0)
        return server

    assert len(asyncio.run(asyncio.wait_for(ask(), 10)).requests) == 2


def test_the_time_for_an_answer_holds_for_both_tries_together() -> None:
    async def ask() -> None:
        server = Server([EMPTY], [None], [])
        async with posting(server) as post:
            await post(10.0)
            with pytest.raises(TimeoutError):
                await post(0.2)
        assert len(server.requests) == 3

    asyncio.run(asyncio.wait_for(ask(), 10))


@pytest.mark.parametrize(
    "head", [b"Content-Length: 1000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nf4240\r\n", b"\r\n"]
)
def test_of_a_refusal_that_is_too_long_the_beginning_is_read(head: bytes) -> None:
    pieces: list[bytes | None] = [b"HTTP/1.1 503 No\r\n" + head, *[b"x" * 1000] * 100]
    first, second = answered(pieces, [EMPTY])
    assert (first.status, first.body) == (503, b"x" * 1000)
    assert second.status == 202


def test_an_answer_that_is_long_for_its_body_leaves_its_connection_of_use() -> None:
    async def ask() -> Server:
        chunk = b"1;" + b"x" * 100 + b"\r\nx\r\n"
        server = Server([CHUNKED + chunk * 1000 + b"0\r\n\r\n"], [EMPTY])
        async with posting(server) as post:
            assert (await post(10.0)).body == b"x" * 1000
            await post(10.0)
        return server

    assert asyncio.run(ask()).connections == 1


@pytest.mark.parametrize(("status", "body"), [(200, None), (503, b"x" * 1000)])
def test_a_body_in_tiny_chunks_is_given_up_once(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes | None
) -> None:
    """What comes behind the limit is neither kept nor looked at again, chunk for chunk."""
    ends: list[bytes | None] = []
    finish = Connection._finish

    def counted(connection: Connection, found: bytes | None, reusable: bool = False) -> None:
        ends.append(found)
        finish(connection, found, reusable)

    monkeypatch.setattr(Connection, "_finish", counted)
    head = CHUNKED.replace(b"200", str(status).encode())
    (answer,) = answered([head + b"1\r\nx\r\n" * 10_000])
    assert (answer.status, answer.body) == (status, body)
    assert ends == [body]


def test_an_answer_that_does_not_come_in_time_ends_the_connection() -> None:
    async def ask() -> None:
        server = Server([EMPTY], [], [EMPTY])
        async with posting(server) as post:
            await post(10.0)
            with pytest.raises(TimeoutError):
                await post(0.05)
            await server.closed.wait()
            assert (await post(10.0)).status == 202
        assert server.connections == 2

    asyncio.run(asyncio.wait_for(ask(), 10))


def test_a_request_that_is_given_up_ends_its_connection() -> None:
    async def ask() -> None:
        server = Server([])
        async with posting(server) as post:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(post(10.0), 0.05)
            await server.closed.wait()

    asyncio.run(asyncio.wait_for(ask(), 10))


@pytest.mark.parametrize("more", [b"", EMPTY])
def test_a_connection_is_left_when_it_was_idle_or_said_what_nobody_asked(
    monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    if not more:
        monkeypatch.setattr(http_connection, "_KEEPALIVE_S", 0.05)

    async def ask() -> None:
        server = Server([EMPTY + more], [EMPTY])
        async with posting(server) as post:
            assert (await post(0.04)).status == 202
            await server.closed.wait()
            assert (await post(10.0)).status == 202
        assert server.connections == 2

    asyncio.run(asyncio.wait_for(ask(), 10))


@pytest.mark.parametrize(
    ("url", "headers", "fault"),
    [
        ("http://127.0.0.1/", {"a": "b\r\nc: d"}, "line break"),
        ("http://127.0.0.1/", {"a\n": "b"}, "line break"),
        ("http://127.0.0.1/", {"a": "\0"}, "line break or a NUL"),
        ("http://127.0.0.1/", {"a": "\u20ac"}, "latin-1"),
        ("ftp://127.0.0.1/", {}, "absolute http or https"),
        ("/path", {}, "absolute http or https"),
    ],
)
def test_what_cannot_be_sent_is_a_value_error(url: str, headers: dict[str, str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        asyncio.run(Connections(1000).post(URL(url), headers, b"", 1.0))


def test_nobody_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        asyncio.run(Connections(1000).post(URL(f"http://127.0.0.1:{free_port()}/"), {}, b"", 5.0))


@pytest.mark.parametrize(
    ("url", "lines"),
    [
        ("http://host/", ["POST / HTTP/1.1", "Host: host"]),
        ("https://host:443/a b", ["POST /a%20b HTTP/1.1", "Host: host"]),
        ("http://[::1]:8080", ["POST / HTTP/1.1", "Host: [::1]:8080"]),
        ("http://me:pw@host/", ["POST / HTTP/1.1", "Host: host", "Authorization: Basic bWU6cHc="]),
    ],
)
def test_a_request_starts_as_its_address_says(url: str, lines: list[str]) -> None:
    _, start = connections._route(URL(url))
    assert start.split("\r\n") == [*lines, "User-Agent: skylark"]
