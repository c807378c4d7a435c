"""Functions that are called again and again: in one process, as a WSGI server calls them, and as servers over HTTP."""

from __future__ import annotations

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from libskylark.bench.kinds import STATE_BYTES, Kind
from libskylark.bench.nodes import HERE, free_port, running_redis
from libskylark.bench.wsgi_calls import Call, Cost, caller
from libskylark.codec import encode
from libskylark.errors import LabError
from libskylark.event import Event, to_http
from libskylark.key import StateKey
from libskylark.lab.process import ProcessSpec, log_tail
from libskylark.lab.readiness import wait_until_ready
from libskylark.nodeservices import Successors
from libskylark.policy import Candidate
from libskylark.state import encode_inline, redis_key, stored_frames
from libskylark.store import Store

_HOST: Final = "127.0.0.1"
_START_S: Final = 30.0
_STOP_S: Final = 30.0
_CALL_S: Final = 10.0
_YEAR_S: Final = 365 * 86400.0

_KEY: Final = StateKey("overhead", HERE, "given")
_FRAMES: Final = {"value": encode(bytes(STATE_BYTES))}


class Called:
    """A context manager around all kinds, in one process and as servers, beside a Redis and an elect for them."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = kinds
        self._calls = 0
        self._stack = ExitStack()

    def __enter__(self) -> Called:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skylark-bench-")))
            redis_port = free_port()
            stack.enter_context(running_redis(HERE, redis_port, directory / "redis"))
            store = stack.enter_context(closing(Store(_HOST, redis_port)))
            bundle: Any = stored_frames(_FRAMES, ())
            store.run(lambda client: client.hset(redis_key(_KEY), mapping=bundle))
            node = {
                "NODE_NAME": HERE,
                "LOCAL_NODE_HOST": _HOST,
                "SKYLARK_REDIS_PORT": str(redis_port),
                "SKYLARK_ELECT_PORT": str(stack.enter_context(_elect())),
            }
            folders = {kind.name: _write(directory / f"kind{number}", kind) for number, kind in enumerate(self._kinds)}
            environments = {kind.name: {**node, **kind.environment} for kind in self._kinds}
            self._caller = stack.enter_context(caller(folders, environments))
            self._servers = {
                name: stack.enter_context(_server(folder, environments[name])) for name, folder in folders.items()
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def in_process(self, kind: Kind, calls: int) -> Cost:
        """Raises LabError where one of so many calls is not answered with 200."""
        self._caller.send((kind.name, [self._call(kind) for _ in range(calls)]))
        try:
            answer: Cost | str = self._caller.recv()
        except EOFError:
            raise LabError("the process that calls the functions has ended") from None
        if isinstance(answer, str):
            raise LabError(f"{kind.name}: {answer}")
        return answer

    def over_http(self, kind: Kind, calls: int) -> Cost:
        """Raises LabError where one of so many calls is not answered with 200."""
        return self._servers[kind.name].take([self._call(kind) for _ in range(calls)])

    def rss_mib(self, kind: Kind) -> float:
        """What the server's worker occupies now."""
        return self._servers[kind.name].rss_mib()

    def _call(self, kind: Kind) -> Call:
        """An event of its own, for which no answer is on record."""
        self._calls += 1
        state = {"redis": {"skylarkkey": str(_KEY)}, "inline": {"skylarkstate": encode_inline(_FRAMES)}}
        event = Event.new(
            "dev.skylark.bench.asked",
            "/skylark/bench/overhead",
            {"number": self._calls},
            id=str(self._calls),
            **state.get(kind.state, {}),
        )
        return to_http(event)


class _Server:
    """A gunicorn with one worker, and a connection to it."""

    def __init__(self, name: str, connection: http.client.HTTPConnection, worker: psutil.Process) -> None:
        self._name = name
        self._connection = connection
        self._worker = worker

    def take(self, calls: Sequence[Call]) -> Cost:
        taken_us, before_s = [], self._cpu_s()
        for headers, body in calls:
            started = time.perf_counter()
            self._connection.request("POST", "/", body, dict(headers))
            answer = self._connection.getresponse()
            said = answer.read()
            taken_us.append((time.perf_counter() - started) * 1e6)
            if answer.status != 200:
                raise LabError(f"{self._name} answered {answer.status}: {said[:200]!r}")
        return Cost(statistics.median(taken_us), (self._cpu_s() - before_s) * 1e6 / len(calls))

    def rss_mib(self) -> float:
        return self._worker.memory_info().rss / 2**20

    def _cpu_s(self) -> float:
        times = self._worker.cpu_times()
        return times.user + times.system


@contextmanager
def _server(folder: Path, environment: Mapping[str, str]) -> Iterator[_Server]:
    """`folder`/function.py under gunicorn; raises LabError where it does not start."""
    port, log = free_port(), folder / "log"
    options = ["--worker-class=gthread", "--threads=4", "--no-control-socket", "--keep-alive=60"]
    command = [sys.executable, "-m", "gunicorn", *options, f"--bind={_HOST}:{port}", "function:app"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own command line
            command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=output
        )
    try:
        spec = ProcessSpec(folder.name, HERE, "function", _HOST, port, folder, log, app="function:app")
        if said := wait_until_ready(spec, time.monotonic() + _START_S, lambda: process.poll() is not None):
            raise LabError(f"{folder.name} did not start: {said}\n{log_tail(log)}".rstrip())
        (worker,) = psutil.Process(process.pid).children()
        with closing(http.client.HTTPConnection(_HOST, port, timeout=_CALL_S)) as connection:
            yield _Server(folder.name, connection, worker)
    finally:
        process.terminate()
        process.wait(_STOP_S)


class _Silent(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: a measurement is no service that somebody watches."""


@contextmanager
def _elect() -> Iterator[int]:
    """The port of what answers as elect does where nobody takes the event: state stays on the node, for a year."""
    here = Candidate(HERE, _HOST, 0.0, None, 0)
    answer = Successors(0, time.time() + _YEAR_S, "skylark", 200.0, here, [here], [], []).to_json()
    app = Flask("elect")
    app.add_url_rule("/successor", "successor", lambda: answer)
    server = make_server(_HOST, 0, app, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="elect", daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _write(folder: Path, kind: Kind) -> Path:
    folder.mkdir()
    (folder / "function.py").write_text(kind.source, encoding="utf-8")
    return folder
