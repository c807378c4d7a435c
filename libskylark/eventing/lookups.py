"""Looks up the addresses of hosts' names, so that one that takes its time delays no other."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

_AT_ONCE: Final = 16


class Lookups:
    """One lookup of a name at a time, whoever asks for it, in threads that nothing else uses.

    A name that is slow takes one thread, until the system's resolver gives up. Of such names, `at_once` hold up no
    other one. Nothing is kept: a name may lead elsewhere the next time.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="lookup")
        self._under_way: dict[str, asyncio.Future[list[Any]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """What a host's name leads to now, or the host, where it is an address itself.

        Raises OSError where nothing is found, and ValueError for what can be no name.
        """
        if _is_address(host):
            return [host]
        found = self._under_way.get(host)
        if found is None:
            look = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
            found = self._under_way[host] = asyncio.get_running_loop().run_in_executor(self._pool, look)
            found.add_done_callback(partial(self._end, host))
        return [str(info[4][0]) for info in await asyncio.shield(found)]

    def close(self) -> None:
        """Gives up all of them."""
        for found in [*self._under_way.values()]:
            found.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _end(self, host: str, found: asyncio.Future[list[Any]]) -> None:
        del self._under_way[host]
        if not found.cancelled():
            found.exception()  # nobody may wait for it any more


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
