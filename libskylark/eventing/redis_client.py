"""The broker's client of its node's Redis: commands packed in C, and nothing sent twice behind its back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


class _Connection(Connection):
    """Packs commands as redis-py's synchronous connections do."""

    def pack_command(self, *args: Any) -> list[bytes]:
        if " " in str(args[0]):  # SCRIPT LOAD and the like are two words to Redis
            return super().pack_command(*args)
        return [hiredis.pack_command(args)]


def redis_client(host: str, port: int, password: str | None, timeout_s: float, name: Callable[[], str]) -> Redis:
    """A client that answers in bytes, and gives up after one try; `name` is asked for that of a new connection."""

    async def on_connect(connection: Any) -> None:
        connection.client_name = name()
        await connection.on_connect()

    pool = ConnectionPool(
        connection_class=_Connection,
        host=host,
        port=port,
        password=password,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),  # a commit that is sent again must be known to be one
        redis_connect_func=on_connect,
    )
    return Redis.from_pool(pool)
