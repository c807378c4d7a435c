"""What gunicorn's ASGI worker leaves open: slow heads, endless heads, too many connections, answers that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

from libskylark import problem
from libskylark.eventing.settings import BrokerSettings

RETRY_AFTER_S: Final = "1"
_LINGER_S: Final = 0.5
_CHUNK_BYTES: Final = 64 * 1024  # what may come along with a head in one piece
_PIECE_BYTES: Final = 8 * 1024  # of what has come, that is parsed at once
_NOT_IMPLEMENTED: Final = 501


def guard(settings: BrokerSettings, on_refused: Callable[[int], None]) -> None:
    """Has gunicorn's ASGI worker keep the settings' limits, in this process.

    `on_refused` is called with the status of every answer that the application does not give. gunicorn has no place
    for all this, and a worker class of our own would guard only those who name it.
    """
    ASGIProtocol._check_h1c_protocol_available()  # else it is noted at our class, and looked for at this one
    gasgi.ASGIProtocol = partial(GuardedProtocol, settings, on_refused)


class GuardedProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's side of one connection; every answer that the application does not give is a problem, too."""

    _task: asyncio.Task[None] | None
    _closed: bool

    def __init__(self, settings: BrokerSettings, on_refused: Callable[[int], None], worker: Any) -> None:
        for name, value in _gunicorn_settings(settings):
            worker.cfg.set(name, value)
        super().__init__(worker)
        self._settings = settings
        self._on_refused = on_refused
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        limit = self._settings.max_connections
        if self.worker.nr_conns > limit:
            self._send_error_response(503, f"{limit} connections are open", (("Retry-After", RETRY_AFTER_S),))
            self._close_transport()
        else:
            # For the first head; gunicorn's --keep-alive is the time for each of the others.
            self._head_timer = self.worker.loop.call_later(self._settings.head_timeout_s, self._end_slow_head)

    def data_received(self, data: bytes) -> None:
        # For each chunk of a body, gunicorn's parser moves all that it was given along with it.
        for start in range(0, len(data), _PIECE_BYTES):
            if self._closed:
                return
            super().data_received(data[start : start + _PIECE_BYTES])
        if self._current_request is not None:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > self._settings.max_header_bytes + _CHUNK_BYTES and not self._closed:
            self._send_error_response(431, f"the head is longer than {self._settings.max_header_bytes} bytes")
            self._close_transport()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._awaiting_request and self._task is not None:
            self._task.cancel()  # gunicorn would have it wait for three seconds more
            self._task = None
        super().connection_lost(exc)
        # The parser refers to us: together they would stay until a full collection, which is rare.
        self._callback_parser = None

    def _end_slow_head(self) -> None:
        if self.req_count > 1 or self._current_request is not None or self._closed:
            return
        if self._head_bytes:
            wait_s = self._settings.head_timeout_s
            self._send_error_response(408, f"the request's head did not arrive within {wait_s:g} s")
        self._close_transport()
        self._request_ready.set()

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return False  # an upgrade may be ignored: the request is answered as any other

    def _send_error_response(self, status: int, message: str, extra_headers: Iterable[tuple[str, str]] = ()) -> None:
        # A 5xx would have Knative's senders try again what can never be read.
        status = 400 if status == _NOT_IMPLEMENTED else status
        self._is_refused = True
        self._on_refused(status)
        body = problem.problem(status, message)
        headers = {
            "Content-Type": problem.CONTENT_TYPE,
            "Content-Length": str(len(body)),
            **dict(extra_headers),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{n}: {v}" for n, v in headers.items())]
        self._safe_write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def _close_transport(self) -> None:
        """Closes; where the sender may still be sending, what comes is dropped for a moment first.

        A close with unread bytes resets the connection, and the answer would be lost with it.
        """
        receiver = self._body_receiver
        is_amid = self._is_refused or (receiver is not None and not receiver._complete)
        if self._closed or not is_amid or self.transport.is_closing():
            super()._close_transport()
            return
        self._closed = True
        self.transport.write_eof()
        self._resume_reading()
        self.worker.loop.call_later(_LINGER_S, self.transport.close)


def _gunicorn_settings(settings: BrokerSettings) -> Iterable[tuple[str, Any]]:
    yield "limit_request_fields", settings.max_headers
    yield "limit_request_field_size", settings.max_header_bytes
    # Else a header with an underscore vanishes, and with it the fault of an attribute that is named so.
    yield "header_map", "dangerous"
