"""Viewers of the page's stream as tests need them: one that reads message by message, one that reads nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.dashboard.conftest import PATIENCE_S


class Viewer:
    """A context manager around one connection to /api/events; it reads only what it is asked for."""

    def __init__(self, url: str, path: str = "/api/events", headers: str = "", buffer_bytes: int = 1 << 20) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_S)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self._socket.connect((parts.hostname, parts.port or 80))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode())

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers, by their names in lower case."""
        with closing(self._socket.makefile("rb", buffering=0)) as lines:
            status = int(lines.readline().split()[1])
            headers = {}
            while line := lines.readline().strip().decode():
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
        return status, headers

    def messages(self) -> Iterator[tuple[str, str, Any]]:
        """(id, event, data) of each message; after `head`."""
        fields: dict[str, str] = {}
        for line in self._lines():
            name, _, value = line.partition(": ")
            if not line and "data" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}
            elif name:
                fields[name] = value

    def _lines(self) -> Iterator[str]:
        """Lines of the body, out of its chunks."""
        rest = b""
        with closing(self._socket.makefile("rb")) as body:
            while size := int(body.readline(), 16):
                rest += body.read(size)
                body.readline()
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    yield line.decode()
