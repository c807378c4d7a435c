"""Real processes for the tests of the lab, on loopback addresses that no parallel run shares."""

from __future__ import annotations

import os
import queue
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from libskylark.lab.process import EventKind, ProcessEvent, ProcessSpec
from libskylark.lab.redis_server import find_redis_server, redis_command
from libskylark.lab.supervisor import Supervisor

FLASK_APP = """
import os, flask
app = flask.Flask("tiny")

@app.get("/ready")
def ready():
    return f"{os.getpid()} {os.getppid()} {os.environ.get('GREETING', '')} {'HOME' in os.environ} {os.getcwd()}"
"""

ASGI_APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""

SpecMaker = Callable[..., ProcessSpec]


@pytest.fixture
def host() -> str:
    """A loopback address for this test alone, of 127.64.0.0/10."""
    draw = random.Random(os.urandom(8))
    return f"127.{64 + draw.randrange(64)}.{draw.randrange(256)}.{1 + draw.randrange(254)}"


@pytest.fixture
def flask_service(tmp_path: Path, host: str) -> SpecMaker:
    """Makes specs of a tiny Flask function, or of another source text."""

    def make(name: str = "n1-tiny", source: str = FLASK_APP, port: int = 9000, **fields: object) -> ProcessSpec:
        folder = tmp_path / "functions" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "function.py").write_text(source)
        log = tmp_path / "run" / f"{name}.log"
        values = {"role": "function", "app": "function:app", "environment": {"GREETING": name}, **fields}
        return ProcessSpec(name, "n1", host=host, port=port, directory=folder, log=log, **values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def asgi_broker(flask_service: SpecMaker) -> ProcessSpec:
    return flask_service("n1-broker", ASGI_APP, 8090, role="broker", worker_class="asgi")


@pytest.fixture
def redis(tmp_path: Path, host: str) -> ProcessSpec:
    directory = tmp_path / "run" / "redis"
    argv = redis_command(find_redis_server(), host, 36379, directory, password='pass "word\\')
    environment = {"SKYLARK_REDIS_PASSWORD": 'pass "word\\'}
    log = tmp_path / "run" / "n1-redis.log"
    return ProcessSpec("n1-redis", "n1", "redis", host, 36379, directory, log, environment, tuple(argv))


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A running supervisor; afterwards nothing of what it started may be alive."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with Supervisor(tmp_path / "run", preload=()) as running:
        yield running
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=5)  # one that has just ended may not have been waited for yet
    assert alive == []


def wait_for(supervisor: Supervisor, kind: EventKind, name: str = "", timeout_s: float = 10.0) -> ProcessEvent:
    """The next event of this kind and process; what comes before it is passed over."""
    deadline_s = time.monotonic() + timeout_s
    seen: list[ProcessEvent] = []
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            event = supervisor.events.get(timeout=left_s)
        except queue.Empty:
            break
        if (event.kind, event.name) == (kind, name):
            return event
        seen.append(event)
    raise AssertionError(f"no {kind} of {name or 'the fork server'} within {timeout_s} s; heard {seen}")
