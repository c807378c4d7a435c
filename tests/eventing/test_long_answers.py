"""Long answers over real connections: how much of them is held at once, and that one that stalls ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from libskylark.eventing.answer_room import AnswerRoom
from libskylark.eventing.connections import Connections
from libskylark.eventing.http_connection import Response

WAIT_S = 20.0
BODY_BYTES = 1024 * 1024
LIMIT_BYTES = 4 * BODY_BYTES
BODY = b"x" * BODY_BYTES
LENGTH = f"Content-Length: {BODY_BYTES}\r\n\r\n".encode()
KINDS = {
    "/length": LENGTH + BODY,
    "/chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY_BYTES, BODY),
    "/to-the-end": b"\r\n" + BODY,
}


class Server:
    """Answers with a long body of the kind that the path says; /stall sends the head of one only."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
                writer.write(b"HTTP/1.1 200 OK\r\n" + KINDS.get(path, LENGTH))
                await writer.drain()
                if path == "/to-the-end":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Client:
    """Connections to two of these servers, and their room."""

    def __init__(self, *ports: int) -> None:
        self.ports = ports
        self.room = AnswerRoom(LIMIT_BYTES)
        self.connections = Connections(BODY_BYTES, room=self.room)

    async def post(self, path: str, server: int = 0, timeout_s: float = WAIT_S, takes_reply: bool = True) -> Response:
        url = URL(f"http://127.0.0.1:{self.ports[server]}{path}")
        return await self.connections.post(url, {}, b"", timeout_s, takes_reply)

    async def most_held_bytes(self, tasks: list[asyncio.Task[Response]]) -> int:
        most_bytes = 0
        while not all(task.done() for task in tasks):
            most_bytes = max(most_bytes, self.room.held_bytes)
            await asyncio.sleep(0)
        return most_bytes

    async def until_held(self, held_bytes: int) -> None:
        while self.room.held_bytes != held_bytes:
            await asyncio.sleep(0)


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    servers = [await asyncio.start_server(Server().serve, "127.0.0.1", 0) for _ in range(2)]
    client = Client(*(server.sockets[0].getsockname()[1] for server in servers))
    async with servers[0], servers[1]:
        yield client
        client.connections.close()


def run(test: Callable[[Client], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with connected() as client:
            await asyncio.wait_for(test(client), WAIT_S)

    asyncio.run(limited())


def test_long_answers_are_read_as_there_is_room_for_them() -> None:
    async def check(client: Client) -> None:
        for _ in range(2):  # over new connections, and over kept ones
            tasks = [asyncio.create_task(client.post(path, n % 2)) for n in range(12) for path in KINDS]
            assert 0 < await client.most_held_bytes(tasks) <= LIMIT_BYTES
            assert [task.result().body == BODY for task in tasks] == [True] * 36
            assert client.room.held_bytes == 0

    run(check)


def test_an_answer_that_stalls_ends_with_its_time_which_stands_still_for_those_that_wait() -> None:
    async def check(client: Client) -> None:
        stalling = [asyncio.create_task(client.post("/stall", n % 2, timeout_s=1.0)) for n in range(3)]
        await client.until_held(3 * BODY_BYTES)
        waiting = [asyncio.create_task(client.post("/length", n % 2, timeout_s=0.5)) for n in range(4)]
        ends = await asyncio.gather(*stalling, return_exceptions=True)
        assert [type(end) for end in ends] == [TimeoutError] * 3
        assert [(await task).body == BODY for task in waiting] == [True] * 4
        assert client.room.held_bytes == 0

    run(check)


def test_an_answer_that_is_given_up_while_it_waits_or_is_read_leaves_its_room() -> None:
    async def check(client: Client) -> None:
        tasks = [asyncio.create_task(client.post("/stall")) for _ in range(5)]
        await client.until_held(2 * BODY_BYTES)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.until_held(0)
        assert (await client.post("/length")).body == BODY

    run(check)


@pytest.mark.parametrize("path", [*KINDS])
def test_of_an_answer_that_nobody_takes_the_beginning_is_read_without_room(path: str) -> None:
    async def check(client: Client) -> None:
        task = asyncio.create_task(client.post(path, takes_reply=False))
        assert await client.most_held_bytes([task]) == 0
        assert task.result().status == 200
        assert task.result().body == BODY[: 64 * 1024]

    run(check)
