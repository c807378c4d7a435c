"""An observer of the lab: a subscriber on loopback that collects events of some types, through real Triggers."""

from __future__ import annotations

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from libskylark.errors import InvalidEvent
from libskylark.event import Event, from_http
from libskylark.render import BROKER, NAMESPACE
from libskylark.yamlfile import dump

log = logging.getLogger("skylark.observer")


class Observer:
    """A context manager; `events` are those that came, each once however often it was delivered."""

    def __init__(self, types: list[str], host: str = "127.0.0.1") -> None:
        self._types = types
        self._events: dict[tuple[str, str], Event] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="observer", daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def triggers(self) -> str:
        """The Triggers, as YAML, that bring the events here."""
        host, port = self._server.server_address[:2]
        uri = f"http://{host!s}:{port}/"
        manifests: list[dict[str, Any]] = [
            {
                "apiVersion": "eventing.knative.dev/v1",
                "kind": "Trigger",
                "metadata": {"name": f"observe-{event_type.replace('.', '-')}", "namespace": NAMESPACE},
                "spec": {
                    "broker": BROKER,
                    "filter": {"attributes": {"type": event_type}},
                    "subscriber": {"uri": uri},
                },
            }
            for event_type in self._types
        ]
        return "---\n".join(map(dump, manifests))

    def events(self, event_type: str) -> list[Event]:
        """The events of a type, in the order in which they came first."""
        with self._lock:
            return [event for event in self._events.values() if event.type == event_type]

    def _take(self, headers: list[tuple[str, str]], body: bytes) -> int:
        try:
            event = from_http(headers, body)
        except InvalidEvent as error:
            log.warning("an event cannot be read: %s", error)
            return 400
        with self._lock:
            self._events.setdefault((event.source, event.id), event)
        return 202

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.send_response(take(list(self.headers.items()), body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                log.debug(format, *args)

        return Handler
