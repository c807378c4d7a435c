"""Events for a broker and the subscriber that gets them, in a process of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Final, cast

import uvloop

from libskylark.bench.load import BODY_BYTES, HEAD_END, HOST, Ledger, Load, Passage, Senders
from libskylark.errors import LabError

_STOP_S: Final = 10.0
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Traffic:
    """The process, from this side."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self.subscriber: str = control.recv()

    def run(self, load: Load, port: int) -> Passage:
        """Puts a load on the broker default/default at `port`; raises LabError where it refuses an event."""
        self._control.send((load, port))
        try:
            passage = self._control.recv()
        except EOFError:
            raise LabError("the process that sends the events has ended") from None
        if not isinstance(passage, Passage):
            raise LabError(passage)
        return passage


@contextmanager
def traffic() -> Iterator[Traffic]:
    """A process with a subscriber, and senders on demand."""
    spawning = multiprocessing.get_context("spawn")  # a fork would copy whatever threads this process has
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(theirs,), name="traffic", daemon=True)
    process.start()
    theirs.close()  # so that the end of that process ends the pipe
    try:
        yield Traffic(ours)
    except EOFError:
        raise LabError("the process that sends the events did not start") from None
    finally:
        ours.close()
        process.join(_STOP_S)


def _serve(control: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the measurement, which then closes the pipe
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(EOFError):
        ledger = Ledger()
        port = runner.run(_subscribe(ledger))
        control.send(f"http://{HOST}:{port}/")
        while True:
            load, broker_port = control.recv()
            try:
                control.send(runner.run(Senders(ledger, load, broker_port).run()))
            except (LabError, OSError) as error:
                control.send(str(error))


async def _subscribe(ledger: Ledger) -> int:
    server = await asyncio.get_running_loop().create_server(lambda: _Subscriber(ledger), HOST, 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


class _Subscriber(asyncio.Protocol):
    """Takes one request at a time of a connection, all of them events of a load."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data
        if (end := data.find(HEAD_END)) < 0 or len(data) < end + len(HEAD_END) + BODY_BYTES:
            return
        self._buffer = b""
        head = data[:end].lower()
        start = head.index(b"\r\nce-id: ") + 9
        self._transport.write(_ANSWER)
        self._ledger.deliver(int(head[start : start + 9]))
