"""Several elects of one node: two real processes on one Redis, the same ticks, and the work of an epoch done once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from libskylark.clock import rfc3339
from libskylark.codec import encode
from libskylark.errors import StoreUnavailable
from libskylark.event import TICK_TYPE, Event, from_http, to_http
from libskylark.jobs import JOBS, Push, read_moves
from libskylark.jobs import encode as encode_job
from libskylark.key import StateKey
from libskylark.lab.process import ProcessSpec
from libskylark.lab.readiness import wait_until_ready
from libskylark.memory import COUNTERS
from libskylark.services import node_info
from libskylark.services.lease import Lease
from libskylark.state import redis_key, stored_frames
from libskylark.store import Store
from tests.conftest import RedisNode, Serve, Write, free_port

TICK_S = 3600.0  # hardly an epoch ends while a test runs, and none of them minds
LEASE = "skylark:lease:background"


def until(condition: Callable[[], Any], what: str) -> None:
    pace, deadline_s = threading.Event(), time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, f"not within 30 s: {what}"
        pace.wait(0.02)


class Replica:
    """An elect of the node `here`, as the image starts it."""

    def __init__(self, process: subprocess.Popen[bytes], spec: ProcessSpec) -> None:
        self.process = process
        self.spec = spec
        self.url = spec.url
        self.log = spec.log

    def tick(self, epoch: int, id: str) -> requests.Response:
        event = Event.new(TICK_TYPE, "/pingsource", {}, id=id, time=rfc3339(epoch * TICK_S))
        headers, body = to_http(event)
        return requests.post(self.url, data=body, headers=headers, timeout=30)


@pytest.fixture
def replicas(
    redis_node: RedisNode, other_node: RedisNode, serve: Serve, write: Write, tmp_path: Path
) -> Iterator[list[Replica]]:
    constellation = f"""\
nodes:
  - {{name: here, type: Sat, ip: {redis_node.host}}}
  - {{name: there, type: Sat, ip: {other_node.host}}}
link_types: {{Sat-to-Sat: {{latency_ms: 10, bandwidth_mbps: 40}}}}
links: [[here, there]]
functions: {{detect: {{nodes: [Sat], consumes: [t]}}}}
"""
    path = write("constellation.yaml", constellation)
    port = serve(node_info.create_app(redis_node.settings("here", constellation=path, tick_s=TICK_S)))
    environment = {
        **os.environ,
        "NODE_NAME": "here",
        "LOCAL_NODE_HOST": redis_node.host,
        "NODE_INFO_PORT": str(port),
        "SKYLARK_REDIS_PORT": str(redis_node.port),
        "SKYLARK_BIND_HOST": "127.0.0.1",
        "SKYLARK_TICK": f"{TICK_S}s",
        "SKYLARK_FUNCTIONS": str(tmp_path),
        "SKYLARK_GRACE": "5s",
    }
    with ExitStack() as stack:
        started = [start(stack, {**environment, "PORT": str(free_port("127.0.0.1"))}, tmp_path, i) for i in range(2)]
        for replica in started:  # once both are there, so that they begin and end at the same time
            stack.callback(replica.process.terminate)
        for replica in started:
            await_ready(replica)
        yield started


def start(stack: ExitStack, environment: dict[str, str], directory: Path, number: int) -> Replica:
    log = directory / f"elect-{number}.log"
    command = [sys.executable, "-m", "libskylark.serving", "elect"]
    with log.open("wb") as output:
        process = stack.enter_context(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
    port = int(environment["PORT"])
    return Replica(process, ProcessSpec("elect", "here", "function", "127.0.0.1", port, directory, log, app="elect"))


def await_ready(replica: Replica) -> None:
    said = wait_until_ready(replica.spec, time.monotonic() + 60, lambda: replica.process.poll() is not None)
    assert not said, f"{said}\n{replica.log.read_text()}"


@pytest.fixture
def epoch() -> int:
    return int(time.time() // TICK_S)


def counted(store: Store, name: str) -> int:
    return int(store.run(lambda client: client.hget(COUNTERS, name)) or 0)


def test_a_tick_that_both_get_is_told_once(replicas: list[Replica], store: Store, epoch: int) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: replicas[number % 2].tick(epoch, "the tick"), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    told = [from_http(list(answer.headers.items()), answer.content) for answer in answers]
    assert len({(event.id, event.source, event.data, event.attributes["time"]) for event in told}) == 1
    assert told[0].json()["epoch"] == epoch
    assert counted(store, "runs:elect") == 1


def test_several_ticks_of_an_epoch_are_told_once(replicas: list[Replica], store: Store, epoch: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: replicas[number % 2].tick(epoch, f"tick {number}"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + 7 * [202]
    assert [answer.content for answer in answers if answer.status_code == 202] == 7 * [b""]


def queue_push(store: Store, number: int) -> StateKey:
    key = StateKey("chain", "there", f"task{number}")
    bundle: dict[Any, Any] = stored_frames({"n": encode(number)}, ["detect"])
    store.run(lambda client: client.hset(redis_key(key), mapping=bundle))
    store.run(lambda client: client.pexpire(redis_key(key), 60_000))
    job = Push(str(key), "there", "skylark", 20.0, 1, 40.0, 200.0, 10, (), time.time())
    store.run(lambda client: client.xadd(JOBS, {"job": encode_job(job)}))
    return key


def writes(there: Store) -> int:
    """How often the script that takes a push has run there."""
    stats: Any = there.run(lambda client: client.info("commandstats"))
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("eval", "evalsha"))


def test_state_is_pushed_once_and_by_the_other_where_one_is_killed(
    replicas: list[Replica], store: Store, other_node: RedisNode
) -> None:
    with closing(Store(other_node.host, other_node.port)) as there:
        until(lambda: store.run(lambda client: client.get(LEASE)), "somebody leads")
        before = writes(there)
        for number in range(10):
            queue_push(store, number)
        until(lambda: store.run(lambda client: client.xlen(JOBS)) == 0, "all is pushed")
        assert len(read_moves(store, 100)) == 10
        assert writes(there) - before <= 12  # the first may find the script unknown and send it along

        holder = store.run(lambda client: client.get(LEASE))
        dead, alive = replicas if leads(store, replicas[0]) else replicas[::-1]
        kill(dead)
        until(lambda: store.run(lambda client: client.get(LEASE)) != holder, "the other leads")
        queue_push(store, 10)
        until(lambda: store.run(lambda client: client.xlen(JOBS)) == 0, "the other pushes")
        assert len(read_moves(store, 100)) == 11
        assert alive.process.poll() is None


def leads(store: Store, replica: Replica) -> bool:
    """Whether the connection that holds the lease is one of the replica's worker."""
    holder: Any = store.run(lambda client: client.get(LEASE))
    number = holder.decode().partition("/")[2]
    (connection,) = store.run(lambda client: client.client_list(client_id=[number]))
    port = int(connection["addr"].rpartition(":")[2])
    workers = psutil.Process(replica.process.pid).children()
    return any(c.laddr.port == port for worker in workers for c in worker.net_connections("tcp"))


def kill(replica: Replica) -> None:
    """gunicorn and its worker at once, so that no other worker is started."""
    workers = psutil.Process(replica.process.pid).children()
    replica.process.kill()
    for worker in workers:
        worker.kill()
    replica.process.wait()


# The lease itself


def test_of_two_processes_one_holds_a_lease_until_its_connection_ends(redis_node: RedisNode) -> None:
    first, second = (Store(redis_node.host, redis_node.port) for _ in range(2))
    with closing(second):
        with closing(first):
            ours, others = Lease(first, "x"), Lease(second, "x")
            assert [ours.held(), others.held(), ours.held(), others.held()] == [True, False, True, False]
            assert Lease(second, "y").held()
        until(others.held, "the lease is free")


def test_a_lease_of_a_redis_that_was_started_anew_is_nobodys(store: Store) -> None:
    number: Any = store.on_own_connection(lambda client: client.client_id())
    store.run(lambda client: client.set("skylark:lease:x", f"another run/{number}"))
    assert Lease(store, "x").held()


def test_a_holder_that_has_connected_anew_holds_it_still(store: Store) -> None:
    lease = Lease(store, "x")
    assert lease.held()
    before = store.run(lambda client: client.get("skylark:lease:x"))
    number: Any = store.on_own_connection(lambda client: client.client_id())
    store.run(lambda client: client.client_kill_filter(_id=number))
    with pytest.raises(StoreUnavailable):  # it learns of that by the next command
        lease.held()
    assert lease.held()
    assert store.run(lambda client: client.get("skylark:lease:x")) != before


def test_of_two_that_find_a_holder_gone_one_takes_over(store: Store) -> None:
    store.run(lambda client: client.set("skylark:lease:x", "gone"))
    taken = [store.run_script("lease", ["skylark:lease:x"], ["gone", us]) for us in ("a", "b")]
    assert taken == [1, 0]
