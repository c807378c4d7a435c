"""The broker's HTTP server within gunicorn's ASGI worker: what its connections share, and their end with the worker.

gunicorn's worker owns the sockets. What its own protocol does for any ASGI application costs more than all else that
a broker does with an event, and it knows no limits for slow heads, endless heads or too many connections.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from gunicorn.workers import gasgi

from libskylark.clock import Clock
from libskylark.eventing.bodies import BodyRoom
from libskylark.eventing.http_messages import Application
from libskylark.eventing.server_connection import ServerConnection
from libskylark.eventing.settings import BrokerSettings

_LOOK_S: Final = 0.25


class HttpServer:
    """Serves an application in this process."""

    def __init__(self, settings: BrokerSettings, application: Application, clock: Clock) -> None:
        self.settings = settings
        self.application = application
        self.clock = clock
        self.room = BodyRoom(settings)
        self._open: set[ServerConnection] = set()
        self._look_timer: asyncio.TimerHandle | None = None

    def install(self) -> None:
        """Has gunicorn's ASGI worker serve by it, in this process; the lifespan is still the worker's own.

        gunicorn has no place for this, and a worker class of our own would protect only those who name it.
        """
        gasgi.ASGIProtocol = partial(ServerConnection, self)

    def note_open(self, connection: ServerConnection, worker: Any) -> None:
        """It was made; when the worker ends, it is closed as soon as it is idle."""
        self._open.add(connection)
        if self._look_timer is None:
            self._look_timer = worker.loop.call_later(_LOOK_S, self._look, worker)

    def note_closed(self, connection: ServerConnection) -> None:
        self._open.discard(connection)

    def _look(self, worker: Any) -> None:
        """A worker that stops waits for its connections, and tells nobody; senders keep theirs open."""
        self._look_timer = None
        if not worker.alive:
            for connection in [*self._open]:
                connection.close_idle()
        elif self._open:
            self._look_timer = worker.loop.call_later(_LOOK_S, self._look, worker)
