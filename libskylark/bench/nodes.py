"""Two nodes for a measurement: a Redis server each, and the emulated link between them in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from libskylark.config import NodeSettings
from libskylark.errors import LabError, UnknownNode
from libskylark.lab.links import Figures
from libskylark.lab.process import ProcessSpec, log_tail
from libskylark.lab.readiness import wait_until_ready
from libskylark.lab.redis_server import find_redis_server, redis_command
from libskylark.lab.relay import LinkRelay
from libskylark.store import Stores

HERE: Final = "here"
THERE: Final = "there"

_HOSTS: Final = {HERE: "127.0.0.1", THERE: "127.0.0.2"}
_START_S: Final = 15.0
_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class TwoNodes:
    """The stores as either node has them: its own is near, the other's is at the far end of the link."""

    here: Stores
    there: Stores

    def round_trip_ms(self, times: int) -> float:
        """The median of so many PINGs from here to there."""
        remote = self.here.of(THERE)
        remote.ping()  # makes the connection
        taken_s = []
        for _ in range(times):
            started_s = time.perf_counter()
            remote.ping()
            taken_s.append(time.perf_counter() - started_s)
        return statistics.median(taken_s) * 1000

    def flush(self) -> None:
        for stores in (self.here, self.there):
            stores.local.run(lambda client: client.flushall())


@contextmanager
def two_nodes(figures: Figures, most_bytes: int, seed: int = 0) -> Iterator[TwoNodes]:
    """Two nodes with a link of these figures, over which at most so many bytes are sent at once.

    `seed` is that of the link's jitter. The servers write append-only files, in a temporary folder. Raises LabError
    where one of the processes does not start, SettingError where SKYLARK_REDIS_SERVER names no server.
    """
    port = free_port()
    move_timeout_s = 30 + 4 * most_bytes * 8 / (figures.bandwidth_mbps * 1e6)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skylark-bench-")))
        for node in _HOSTS:
            stack.enter_context(running_redis(node, port, directory / node))
        links: dict[str, dict[str, str]] = {HERE: {THERE: stack.enter_context(_link(figures, port, seed))}, THERE: {}}
        both = []
        for node, host in _HOSTS.items():
            settings = NodeSettings(node=node, host=host, redis_port=port, move_timeout_s=move_timeout_s)
            stores = Stores(settings, partial(_host_of, links[node]))
            both.append(stores)
            for other in (node, *links[node]):
                stack.callback(stores.of(other).close)
        yield TwoNodes(*both)


def _host_of(hosts: dict[str, str], node: str) -> str:
    if node not in hosts:
        raise UnknownNode(node, list(hosts))
    return hosts[node]


@contextmanager
def running_redis(node: str, port: int, directory: Path) -> Iterator[None]:
    """The Redis of HERE or THERE, with an append-only file; raises LabError where it does not start."""
    command = redis_command(find_redis_server(), _HOSTS[node], port, directory)
    log = directory / "redis.log"
    spec = ProcessSpec(f"redis-{node}", node, "redis", _HOSTS[node], port, directory, log, argv=tuple(command))
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603  our own command line
    try:
        said = wait_until_ready(spec, time.monotonic() + _START_S, lambda: process.poll() is not None)
        if said:
            raise LabError(f"{spec.name} did not start: {said}\n{log_tail(log)}".rstrip())
        yield
    finally:
        process.terminate()
        process.wait(_STOP_S)


@contextmanager
def _link(figures: Figures, port: int, seed: int) -> Iterator[str]:
    """The address at which `here` reaches the Redis of `there`.

    In this process, the relay would wait for the interpreter whenever the measurement itself works.
    """
    spawning = multiprocessing.get_context("spawn")  # a fork would copy whatever threads this process has
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve_link, args=(figures, port, seed, theirs), name="links", daemon=True)
    process.start()
    theirs.close()  # so that the end of that process ends the pipe
    try:
        address: str = ours.recv()
    except EOFError:
        raise LabError("the link between the two nodes did not start") from None
    try:
        yield address
    finally:
        ours.close()
        process.join(_STOP_S)


def _serve_link(figures: Figures, port: int, seed: int, control: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the measurement, which then closes the pipe
    with LinkRelay(seed) as relay:
        address, _ = relay.open(HERE, THERE, _HOSTS[THERE], port)
        relay.set(HERE, THERE, figures)
        control.send(address)
        with contextlib.suppress(EOFError):
            control.recv()


def free_port() -> int:
    """A port that is free at both nodes' addresses."""
    while True:
        with socket.socket() as here, socket.socket() as there:
            here.bind((_HOSTS[HERE], 0))
            port: int = here.getsockname()[1]
            with contextlib.suppress(OSError):
                there.bind((_HOSTS[THERE], port))
                return port
