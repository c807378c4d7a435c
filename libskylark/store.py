"""A node's Redis: pooled connections kept warm, time-outs, and a few retries of what failed in passing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
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
    """One node's Redis at `host:port`; threads share its pools of connections, one pool for each time-out."""

    def __init__(
        self,
        host: str,
        port: int,
        password: str | None = None,
        timeout_s: float = 2.0,
        move_timeout_s: float = 30.0,
    ) -> None:
        self.address = f"{host}:{port}"
        self._host = host
        self._port = port
        self._password = password
        self._timeout_s = timeout_s
        self._move_timeout_s = move_timeout_s
        self._clients: dict[float, RedisClient] = {}
        self._lock = Lock()
        self._own: RedisClient | None = None
        self.client: RedisClient = self._client(timeout_s)

    def run(self, operation: Callable[[RedisClient], Result]) -> Result:
        """`operation` on the client, repeated where Redis failed in passing; it must be safe to repeat.

        Raises StoreUnavailable where Redis does not answer, or answers with an error.
        """

        def ask() -> Result:
            try:
                return operation(self.client)  # nearly always: tenacity takes as long as the round trip does
            except _TRANSIENT:
                return self._retrying()(operation, self.client)

        return self._answer(ask)

    def wait(self, operation: Callable[[RedisClient], Result], timeout_s: float) -> Result:
        """`operation`, once, which may block for `timeout_s`; raises StoreUnavailable like `run`.

        What Redis does not end by then is given up one store time-out later.
        """
        client = self._client(timeout_s + self._timeout_s)
        return self._answer(lambda: operation(client))

    def bulk(self, operation: Callable[[RedisClient], Result]) -> Result:
        """`operation`, once, which moves much over a slow link; raises StoreUnavailable like `run`.

        Its time-out is for the whole of what is sent, and for each silence in what is received.
        """
        client = self._client(self._move_timeout_s)
        return self._answer(lambda: operation(client))

    def exchange(self, commands: Sequence[Sequence[Any]], sending: AbstractContextManager[Any]) -> list[Any]:
        """The raw answers to commands, each sent once, that move much over a slow link; raises StoreUnavailable.

        `sending` is entered while they are sent. Others may then send, while the answers are on their way.
        """
        pool = self._client(self._move_timeout_s).connection_pool

        def ask() -> list[Any]:
            connection: Any = pool.get_connection()  # half of its methods have no types
            try:
                with sending:
                    connection.send_packed_command(connection.pack_commands(commands))
                return [connection.read_response() for _ in commands]
            except BaseException:
                connection.disconnect()  # an answer that nobody reads would be taken for the next one's
                raise
            finally:
                pool.release(connection)

        return self._answer(ask)

    def on_own_connection(self, operation: Callable[[RedisClient], Result]) -> Result:
        """`operation`, once, on a connection that is kept for this alone; only one thread may use it.

        Raises StoreUnavailable like `run`; the next call then makes another connection.
        """
        if self._own is None:
            self._own = redis.Redis(connection_pool=self.client.connection_pool, single_connection_client=True)
        own = self._own
        return self._answer(lambda: operation(own))

    def run_script(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """Runs scripts/<name>.lua atomically."""
        script = self.client.register_script(script_source(name))
        return self.run(lambda client: script(keys=keys, args=arguments, client=client))

    def run_bulk_script(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """The same with much to send, as `bulk` does it."""
        script = self.client.register_script(script_source(name))
        return self.bulk(lambda client: script(keys=keys, args=arguments, client=client))

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        self.run(lambda client: client.ping())

    def close(self) -> None:
        with self._lock:
            for client in (*self._clients.values(), *([self._own] if self._own else [])):
                client.close()

    def _client(self, timeout_s: float) -> RedisClient:
        with self._lock:
            if timeout_s not in self._clients:
                # Retries are ours to count (tenacity, above), so redis-py's own are off. RESP 3 and telling the
                # client's name would take four round trips more for each new connection: far over a link to the cloud.
                self._clients[timeout_s] = redis.Redis(
                    host=self._host,
                    port=self._port,
                    password=self._password,
                    socket_timeout=timeout_s,
                    socket_connect_timeout=self._timeout_s,
                    socket_keepalive=True,
                    retry=Retry(NoBackoff(), 0),
                    protocol=2,
                    driver_info=None,
                )
            return self._clients[timeout_s]

    @staticmethod
    def _retrying() -> Retrying:
        return Retrying(
            stop=stop_after_attempt(_ATTEMPTS - 1),
            wait=wait_random_exponential(multiplier=0.02, max=0.2),
            retry=retry_if_exception_type(_TRANSIENT),
            reraise=True,
        )

    def _answer(self, ask: Callable[[], Result]) -> Result:
        try:
            return ask()
        except redis.RedisError as error:
            raise StoreUnavailable(self.address, str(error) or type(error).__name__) from None


class Stores:
    """The Redis of every node: ours by the settings, the others' by the address that `host_of` knows."""

    def __init__(self, settings: NodeSettings, host_of: Callable[[str], str]) -> None:
        self.settings = settings
        self._host_of = host_of
        self._by_host: dict[str, Store] = {}
        self._lock = Lock()
        self.local = self._at(settings.host)

    def of(self, node: str) -> Store:
        """Raises UnknownNode where nobody knows the node."""
        return self.local if node == self.settings.node else self._at(self._host_of(node))

    def _at(self, host: str) -> Store:
        with self._lock:
            if host not in self._by_host:
                known = self.settings
                self._by_host[host] = Store(
                    host, known.redis_port, known.password, known.store_timeout_s, known.move_timeout_s
                )
            return self._by_host[host]


@cache
def script_source(name: str) -> str:
    return files("libskylark").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
