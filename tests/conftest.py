"""What all tests share: an environment without the machine's settings, real Redis servers, HTTP services in threads."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import settings as hypothesis_settings
from werkzeug.serving import make_server

from libskylark.config import NodeSettings
from libskylark.errors import UnknownNode
from libskylark.lab.redis_server import SERVER_VARIABLE, find_redis_server, redis_command
from libskylark.store import Store, Stores
from libskylark.testing import FakeClock

ROOT = Path(__file__).parents[1]

# Shared machines are slow now and then; CI draws the same examples every time.
hypothesis_settings.register_profile("skylark", deadline=None, max_examples=60, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("skylark")


@pytest.hookimpl(optionalhook=True)  # there is no such hook without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadscope` keeps the labs of all tests in one worker."""
    if config.getoption("dist") != "loadscope":
        return None
    from tests.sharing import LabsApart

    return LabsApart(config, log)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test, but for the choice of the Redis server."""
    for name in list(os.environ):
        if name.startswith(("SKYLARK_", "NODE_", "LOCAL_NODE_", "KUBE")) and name != SERVER_VARIABLE:
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class RedisNode:
    """A running Redis server as one node's store."""

    host: str
    port: int

    def client(self) -> redis.Redis:
        return redis.Redis(self.host, self.port)

    def flush(self) -> None:
        with closing(self.client()) as client:
            client.flushall()

    def settings(self, node: str = "here", **changes: Any) -> NodeSettings:
        return NodeSettings(node=node, host=self.host, redis_port=self.port, **changes)


def free_port(*hosts: str) -> int:
    """A port that is free on every one of `hosts`."""
    while True:
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in hosts]
            probes[0].bind((hosts[0], 0))
            port: int = probes[0].getsockname()[1]
            try:
                for host, probe in list(zip(hosts, probes, strict=True))[1:]:
                    probe.bind((host, port))
            except OSError:
                continue
            return port


@pytest.fixture(scope="session")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisNode, RedisNode]]:
    """Two servers on two loopback addresses and one port, as two nodes have them."""
    hosts = ("127.0.0.1", "127.0.0.2")
    port = free_port(*hosts)
    with ExitStack() as stack:
        nodes = []
        for host in hosts:
            directory = tmp_path_factory.mktemp("redis")
            command = redis_command(find_redis_server(), host, port, directory, aof="no")
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            nodes.append(RedisNode(host, port))
        for node in nodes:
            _await_redis(node)
        yield nodes[0], nodes[1]


def _await_redis(node: RedisNode) -> None:
    deadline_s = time.monotonic() + 10
    pace = threading.Event()
    with closing(node.client()) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline_s, f"no Redis at {node.host}:{node.port}"
                pace.wait(0.01)


@pytest.fixture
def redis_node(redis_servers: tuple[RedisNode, RedisNode]) -> RedisNode:
    """The Redis of the node `here`, empty."""
    redis_servers[0].flush()
    return redis_servers[0]


@pytest.fixture
def other_node(redis_servers: tuple[RedisNode, RedisNode]) -> RedisNode:
    """The Redis of the node `there`, empty."""
    redis_servers[1].flush()
    return redis_servers[1]


@pytest.fixture
def store(redis_node: RedisNode) -> Iterator[Store]:
    with closing(Store(redis_node.host, redis_node.port)) as store:
        yield store


@pytest.fixture
def stores(redis_node: RedisNode, other_node: RedisNode) -> Iterator[Stores]:
    """The stores of the nodes `here` and `there`, and of `gone`, where nobody answers."""
    hosts = {"there": other_node.host, "gone": "127.0.0.3"}

    def host_of(node: str) -> str:
        if node not in hosts:
            raise UnknownNode(node, list(hosts))
        return hosts[node]

    stores = Stores(redis_node.settings(store_timeout_s=0.5), host_of)
    yield stores
    for node in ("here", *hosts):
        stores.of(node).close()


@pytest.fixture
def clock() -> FakeClock:
    """Stands at the beginning of a minute."""
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def unused_port() -> int:
    return free_port("127.0.0.1")


Serve = Callable[[Any], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(app)`: the port at which a WSGI application now answers on 127.0.0.1."""
    with ExitStack() as stack:

        def start(app: Any) -> int:
            server = make_server("127.0.0.1", 0, app, threaded=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server.port

        yield start


Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("brokers/default.yaml", text)`: the path of a new file under tmp_path."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make
