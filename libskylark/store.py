"""A node's Redis: pooled connections kept warm, time-outs, and a few retries of what failed in passing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from libskylark.config import NodeSettings
from libskylark.errors import StoreUnavailable

Result = TypeVar("Result")
RedisClient = redis.Redis

_ATTEMPTS = 3
_TRANSIENT = (redis.ConnectionError, redis.TimeoutError)


class Store:
    """One node's Redis at `host:port`; threads share its pool of connections."""

    def __init__(self, host: str, port: int, password: str | None = None, timeout_s: float = 2.0) -> None:
        self.address = f"{host}:{port}"
        # Retries are ours to count (tenacity, below), so redis-py's own are off.
        self.client: RedisClient = redis.Redis(
            host=host,
            port=port,
            password=password,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )

    def run(self, operation: Callable[[RedisClient], Result]) -> Result:
        """`operation` on the client, repeated where Redis failed in passing; it must be safe to repeat.

        Raises StoreUnavailable where Redis does not answer, or answers with an error.
        """
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.02, max=0.2),
            retry=retry_if_exception_type(_TRANSIENT),
            reraise=True,
        )
        try:
            return retrying(operation, self.client)
        except redis.RedisError as error:
            raise StoreUnavailable(self.address, str(error) or type(error).__name__) from None

    def run_script(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """Runs scripts/<name>.lua atomically."""
        script = self.client.register_script(script_source(name))
        return self.run(lambda client: script(keys=keys, args=arguments, client=client))

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        self.run(lambda client: client.ping())

    def close(self) -> None:
        self.client.close()


class Stores:
    """The Redis of every node: ours by the settings, the others' by the address that `host_of` knows."""

    def __init__(self, settings: NodeSettings, host_of: Callable[[str], str]) -> None:
        self._settings = settings
        self._host_of = host_of
        self._by_host: dict[str, Store] = {}
        self._lock = Lock()
        self.local = self._at(settings.host)

    def of(self, node: str) -> Store:
        """Raises UnknownNode where nobody knows the node."""
        return self.local if node == self._settings.node else self._at(self._host_of(node))

    def _at(self, host: str) -> Store:
        with self._lock:
            if host not in self._by_host:
                password = self._settings.password
                self._by_host[host] = Store(host, self._settings.redis_port, password, self._settings.store_timeout_s)
            return self._by_host[host]


@cache
def script_source(name: str) -> str:
    return files("libskylark").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
