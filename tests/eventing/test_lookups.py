"""Names that are slow to look up delay nobody else, and are looked up once at a time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from yarl import URL

from libskylark.eventing.connections import Connections
from libskylark.eventing.lookups import Lookups

WAIT_S = 10.0


class Resolver:
    """Leads every name to 127.0.0.1; those that begin with "slow" when they are let go, "unknown" nowhere."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: Counter[str] = Counter()

    def __call__(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked[host] += 1
        if host.startswith("slow"):
            self.go.wait(WAIT_S)
        if host == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "both":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in ("127.0.0.9", "127.0.0.1")]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr("libskylark.eventing.lookups.socket.getaddrinfo", resolver)
    yield resolver
    resolver.go.set()


def test_a_slow_name_is_looked_up_once_for_all_and_delays_no_other(resolver: Resolver) -> None:
    async def check() -> None:
        lookups = Lookups(at_once=2)
        slow = [asyncio.create_task(lookups.addresses("slow")) for _ in range(50)]
        assert await lookups.addresses("quick") == ["127.0.0.1"]
        slow[0].cancel()
        resolver.go.set()
        assert await asyncio.gather(*slow[1:]) == [["127.0.0.1"]] * 49
        assert resolver.asked == {"slow": 1, "quick": 1}
        assert await lookups.addresses("slow") == ["127.0.0.1"]
        assert resolver.asked["slow"] == 2, "nothing is kept"
        lookups.close()

    asyncio.run(asyncio.wait_for(check(), WAIT_S))


def test_an_address_needs_no_lookup(resolver: Resolver) -> None:
    async def check() -> None:
        lookups = Lookups()
        assert [await lookups.addresses(host) for host in ("127.0.0.1", "::1")] == [["127.0.0.1"], ["::1"]]
        lookups.close()

    asyncio.run(check())
    assert not resolver.asked


def test_a_name_that_is_unknown_is_so_for_all_who_asked(resolver: Resolver) -> None:
    async def check() -> None:
        lookups = Lookups()
        faults = await asyncio.gather(*(lookups.addresses("unknown") for _ in range(3)), return_exceptions=True)
        assert [str(fault) for fault in faults] == ["[Errno -2] Name or service not known"] * 3
        assert await lookups.addresses("known") == ["127.0.0.1"]
        lookups.close()

    asyncio.run(check())


def test_a_stop_waits_for_no_lookup(resolver: Resolver) -> None:
    async def check() -> None:
        lookups = Lookups(at_once=1)
        waiting = [asyncio.create_task(lookups.addresses(host)) for host in ("slow-1", "slow-2")]
        await asyncio.sleep(0)
        lookups.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
        assert resolver.asked["slow-2"] == 0

    asyncio.run(asyncio.wait_for(check(), WAIT_S))


def test_all_addresses_of_a_name_are_tried_within_the_time_for_the_answer(resolver: Resolver) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def check() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        connections = Connections(1000)
        async with listening:
            assert (await connections.post(URL(f"http://both:{port}/"), {}, b"", WAIT_S)).status == 202
            with pytest.raises(TimeoutError):
                await connections.post(URL(f"http://slow:{port}/"), {}, b"", 0.05)
        connections.close()

    asyncio.run(asyncio.wait_for(check(), WAIT_S))
