"""What every service does in its first second, done once before the fork, so that the forks share its traces.

A first run writes to memory: bytecode is specialised, types and modules fill their caches, lazy imports happen.
Done in the fork server, those pages are written once for all; it halves what a process has for itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

import flask
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gthread import TConn

from libskylark.config import NodeSettings, from_environment
from libskylark.event import Event
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

_Message = MutableMapping[str, Any]


def rehearse() -> None:
    """Boot a service of each kind a few times and let it answer requests, all within this process."""
    for _ in range(_ROUNDS):
        _rehearse_threads()
        _rehearse_function()
    asyncio.run(_rehearse_asgi())
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


async def _rehearse_asgi() -> None:
    loop = asyncio.get_running_loop()
    worker = _worker("asgi")
    worker.asgi, worker.loop = _asgi_application, loop
    for request in _REQUESTS * _ROUNDS:
        client, server = socket.socketpair()
        with client:
            client.setblocking(False)
            await loop.connect_accepted_socket(lambda: ASGIProtocol(worker), server)
            await loop.sock_sendall(client, request)
            while await loop.sock_recv(client, 4096):
                pass
    worker.tmp.close()


async def _asgi_application(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
