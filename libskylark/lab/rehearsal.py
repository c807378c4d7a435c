"""What every service does in its first second, done once before the fork, so that the forks share its traces.

A first run writes to memory: bytecode is specialised, types and modules fill their caches, lazy imports happen.
Done in the fork server, those pages are written once for all; it halves what a process has for itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

import flask
from gunicorn.workers.gthread import TConn

from libskylark.clock import SystemClock
from libskylark.config import NodeSettings, from_environment
from libskylark.event import Event
from libskylark.eventing.http_messages import Head, Response, Take
from libskylark.eventing.http_server import HttpServer
from libskylark.eventing.server_connection import ServerConnection
from libskylark.eventing.settings import BrokerSettings
from libskylark.function import Function
from libskylark.lab.process import ProcessSpec, WorkerClass
from libskylark.lab.service import Service
from libskylark.testing import invoke

#: Python specialises code that has run eight times.
_ROUNDS: Final = 10
_BODY: Final = b'{"specversion": "1.0"}'
_REQUESTS: Final = (
    b"GET /ready HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY),
)
_PEERS: Final = (("127.0.0.1", 1), ("127.0.0.1", 2))


def rehearse() -> None:
    """Boot a service of each kind a few times and let it answer requests, all within this process."""
    for _ in range(_ROUNDS):
        _rehearse_threads()
        _rehearse_function()
    asyncio.run(_rehearse_broker())
    os.environ.pop("SERVER_SOFTWARE", None)  # gunicorn's arbiter leaves it


def _worker(worker_class: WorkerClass) -> Any:
    spec = ProcessSpec("rehearsal", "", "function", "", 0, Path(), Path(), app="none", worker_class=worker_class)
    return Service(spec, 0, 0).worker([])


def _rehearse_threads() -> None:
    worker = _worker("gthread")
    worker.wsgi = _flask_application()
    for request in _REQUESTS:
        client, server = socket.socketpair()
        with client, server:
            client.sendall(request)
            worker.handle(TConn(worker.cfg, server, *_PEERS))
    worker.tmp.close()


def _flask_application() -> flask.Flask:
    application = flask.Flask("rehearsal")

    @application.get("/ready")
    def ready() -> str:
        return "ok"

    @application.post("/")
    def take() -> Any:
        return flask.request.get_json(), 200, {"ce-id": "1"}

    return application


def _rehearse_function() -> None:
    function = Function("rehearsal", "dev.skylark.rehearsed", settings=from_environment(NodeSettings, {}))
    function.handler(_remember)
    invoke(function, Event.new("dev.skylark.rehearsal", "/rehearsal", {"number": 1}))  # no store is asked
    with function.test_client() as client:
        client.get("/metrics")


def _remember(event: Event, memory: MutableMapping[str, Any]) -> dict[str, Any]:
    memory["seen"] = memory.get("seen", 0) + 1
    return {"seen": memory["seen"]}


async def _rehearse_broker() -> None:
    loop = asyncio.get_running_loop()
    worker = _worker("asgi")
    worker.loop = loop
    server = HttpServer(BrokerSettings(), _Broker(), SystemClock())
    for request in _REQUESTS * _ROUNDS:
        client, accepted = socket.socketpair()
        with client:
            client.setblocking(False)
            await loop.connect_accepted_socket(lambda: ServerConnection(server, worker), accepted)
            await loop.sock_sendall(client, request)
            while await loop.sock_recv(client, 4096):
                pass
    worker.tmp.close()


class _Broker:
    def admit(self, head: Head) -> Take:
        return lambda _, reply: reply(Response(202))

    def count_refusal(self, status: int) -> None:
        raise AssertionError(f"nothing is refused here, found {status}")
