"""News for the page's viewers: collected into numbered batches that all viewers share, as server-sent events.

A batch is encoded once. The last few hundred are kept in a ring, in which each viewer has a place: one that comes
back goes on where it was, and one that falls behind the ring is told to begin anew. Nothing is kept per viewer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

HEARTBEAT_S: Final = 15.0

_BATCH_S: Final = 0.1  # news of so long go out together
_BATCHES: Final = 300  # that are kept
_MOST_ITEMS: Final = 400  # of one batch; what is more is dropped, which costs a dot on the page
_PIECE_BYTES: Final = 16_384  # less than what a socket has room for when it says that it can be written to
_SEND_BUFFER_BYTES: Final = 1 << 18
_PATIENCE_S: Final = 10.0  # with a viewer that does not read

Item = Mapping[str, Any] | Callable[[], Mapping[str, Any] | None]
"""One piece of news, or what makes it when its batch is closed (None: there is nothing to tell any more)."""


class News:
    """A context manager around the thread that closes batches."""

    def __init__(self, batch_s: float = _BATCH_S, batches: int = _BATCHES, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._batch_s = batch_s
        self._heartbeat_s = heartbeat_s
        self._boot = f"{time.time_ns():x}"  # numbers of an earlier process mean nothing in this one
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=batches)
        self._number = 0
        self._pending: dict[str, Item] = {}
        self._anonymous = 0
        self._changed = threading.Condition()
        self._closed = False
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="news", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """All viewers' streams end; safe in a signal handler."""
        self._leaving.set()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> News:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._thread.join()

    def add(self, item: Item, key: str = "") -> None:
        """Tells the viewers; of several items of one batch with the same `key`, only the last one."""
        with self._changed:
            if not key:
                if len(self._pending) >= _MOST_ITEMS:
                    return
                self._anonymous += 1
                key = f"#{self._anonymous}"
            self._pending.pop(key, None)
            self._pending[key] = item
            self._changed.notify_all()

    @property
    def cursor(self) -> str:
        """The id of the last batch: what comes after it is news to whoever has seen everything until now."""
        return f"{self._boot}-{self._number}"

    def feed(self, after: str | None) -> Iterator[bytes]:
        """The stream of one viewer, from the batch after the id `after` on, or from now on for None."""
        number = self._place(after)
        yield b"retry: 1000\n\n"
        while True:
            with self._changed:
                self._await_news(number)
                if self._closed:
                    return
                newest, batches = self._number, [entry for entry in self._ring if entry[0] > number]
            if newest == number:
                yield b": still here\n\n"
                continue
            if number < 0 or (batches and batches[0][0] > number + 1):
                yield self._message(newest, "reset", b"{}")
            else:
                for _, message in batches:
                    yield message
            number = newest

    def _await_news(self, number: int) -> None:
        self._changed.wait_for(lambda: self._closed or self._number > number, self._heartbeat_s)

    def _place(self, after: str | None) -> int:
        """The number of the last batch that a viewer has; -1 where it must begin anew."""
        if after is None:
            return self._number
        boot, _, number = after.rpartition("-")
        known = boot == self._boot and number.isdecimal() and len(number) < 16
        return int(number) if known and int(number) <= self._number else -1

    def _run(self) -> None:
        while not self._leaving.is_set():
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending) or self._closed)
            self._leaving.wait(self._batch_s)
            with self._changed:
                items, self._pending = list(self._pending.values()), {}
            # Items are made without the lock: what makes them may wait for somebody who adds.
            told = [made for item in items if (made := item() if callable(item) else item) is not None]
            if not told:
                continue
            with self._changed:
                self._number += 1
                self._ring.append((self._number, self._message(self._number, "news", orjson.dumps(told))))
                self._changed.notify_all()

    def _message(self, number: int, event: str, data: bytes) -> bytes:
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._boot.encode(), number, event.encode(), data)


def sent_gently(messages: Iterator[bytes], connection: socket.socket | None) -> Iterator[bytes]:
    """The messages in pieces, each when the viewer's connection has room for it, so that sending never blocks.

    A viewer that reads nothing for ten seconds is cut off. Without the connection, messages go as they are.
    """
    if connection is None:
        yield from messages
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    room = select.poll()
    room.register(connection, select.POLLOUT)
    for message in messages:
        for start in range(0, len(message), _PIECE_BYTES):
            if not room.poll(_PATIENCE_S * 1000):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # else the server would wait to send the end
                return
            yield message[start : start + _PIECE_BYTES]
