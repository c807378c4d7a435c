"""The ends of a measured link: the relay and the far end, each in a process of its own, and what the near end asks."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Final

import psutil

from libskylark.errors import LabError
from libskylark.lab.links import Figures
from libskylark.lab.priority import priority
from libskylark.lab.relay import LinkRelay

_HOST: Final = "127.0.0.1"
_STOP_S: Final = 10.0
_TIMEOUT_S: Final = 60.0
_BLOCK: Final = bytes(1 << 18)
_MOST_BUSY_S: Final = 900.0

_ECHO, _STAMPS, _SINK = b"E", b"T", b"S"
_COUNT: Final = struct.Struct("<Q")
_TIME: Final = struct.Struct("<d")
_ARRIVED: Final = struct.Struct("<dQ")

_SPIN: Final = "import sys, time\nend_s = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end_s: pass"


#: What of a transfer has come by when: (time, bytes so far) of each call that received some.
Arrived = Sequence[tuple[float, int]]


Address = tuple[str, int]


class MeasuredLink:
    """One link that can be given any figures, and a server behind it. All times are of one clock, time.monotonic.

    `direct` reaches the same server past the link.
    """

    def __init__(self, relay: psutil.Process, control: Connection, address: Address, direct: Address) -> None:
        self._relay = relay
        self._control = control
        self._address = address
        self._direct = direct

    def set(self, figures: Figures) -> None:
        self._control.send(figures)
        self._control.recv()

    def cpu_s(self) -> float:
        """What the relay's process has used of the processors so far."""
        used = self._relay.cpu_times()
        return float(used.user + used.system)

    def set_up_s(self) -> float:
        """From the call of connect to the first answer: a round trip to set up, and one for the answer."""
        started_s = time.monotonic()
        with self._connect() as connection:
            connection.sendall(_ECHO + b"?")
            _receive(connection, 1)
            return time.monotonic() - started_s

    def round_trips_s(self, count: int) -> list[float]:
        """Of one byte, over a connection that stands."""
        taken_s = []
        with self._connect() as connection:
            connection.sendall(_ECHO + b"?")
            _receive(connection, 1)
            for _ in range(count):
                started_s = time.monotonic()
                connection.sendall(b"?")
                _receive(connection, 1)
                taken_s.append(time.monotonic() - started_s)
        return taken_s

    def one_way_s(self, count: int, pace_s: float, direct: bool = False) -> list[float]:
        """From the sending of so many messages, one each `pace_s`, until the far end has read them."""
        with self._connect(direct) as connection:
            connection.sendall(_STAMPS + _COUNT.pack(count))
            _receive(connection, 1)  # from here on the connection stands
            for _ in range(count):
                time.sleep(pace_s)
                connection.sendall(_TIME.pack(time.monotonic()))
            taken = _receive(connection, count * _TIME.size)
        return [seconds for (seconds,) in _TIME.iter_unpack(taken)]

    def transfer(self, flows: int, size_bytes: int) -> list[Arrived]:
        """Send so many bytes over each of so many connections at once."""
        arrived: list[Arrived] = []

        def send() -> None:
            with priority(), self._connect() as connection:
                connection.sendall(_SINK + _COUNT.pack(size_bytes))
                for offset in range(0, size_bytes, len(_BLOCK)):
                    connection.sendall(_BLOCK[: size_bytes - offset])
                (count,) = _COUNT.unpack(_receive(connection, _COUNT.size))
                arrived.append(list(_ARRIVED.iter_unpack(_receive(connection, count * _ARRIVED.size))))

        senders = [threading.Thread(target=send) for _ in range(flows)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        if len(arrived) < flows:
            raise LabError(f"{flows - len(arrived)} of {flows} transfers over the measured link failed")
        return arrived

    def _connect(self, direct: bool = False) -> socket.socket:
        connection = socket.create_connection(self._direct if direct else self._address, _TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextmanager
def measured_link() -> Iterator[MeasuredLink]:
    """In this process, or in one, relay and far end would wait for the interpreter whenever another one works.

    Raises LabError where one of them does not start.
    """
    with ExitStack() as stack:
        _, far = stack.enter_context(_process(_far_end))
        pid, control = stack.enter_context(_process(_relay))
        direct = _heard(far)
        control.send(direct)
        yield MeasuredLink(psutil.Process(pid), control, _heard(control), direct)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that compute without pause; they end by themselves if nobody ends them."""
    command = [sys.executable, "-c", _SPIN, str(_MOST_BUSY_S)]
    running = [subprocess.Popen(command) for _ in range(processes)]  # noqa: S603  our own command line
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait(_STOP_S)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _process(target: Callable[[Connection], None]) -> Iterator[tuple[int, Connection]]:
    """Its pid, and the pipe to it, whose end ends it."""
    spawning = multiprocessing.get_context("spawn")  # a fork would copy whatever threads this process has
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=target, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process.pid or 0, ours
    finally:
        ours.close()
        process.join(_STOP_S)


def _heard(pipe: Connection) -> Address:
    try:
        address: Address = pipe.recv()
    except EOFError:
        raise LabError("one end of the measured link did not start") from None
    return address


def _relay(control: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the measurement, which then closes the pipe
    with LinkRelay() as relay, contextlib.suppress(EOFError):
        control.send(relay.open("near", "far", *control.recv()))
        while True:
            relay.set("near", "far", control.recv())
            control.send(None)


def _far_end(control: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.create_server((_HOST, 0)) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        control.send(server.getsockname())
        with contextlib.suppress(EOFError):
            control.recv()


def _accept(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with priority(), connection:  # an end that waits for its turn would measure itself
        kind = _receive(connection, 1)
        if kind == _ECHO:
            while data := connection.recv(1):
                connection.sendall(data)
            return
        (count,) = _COUNT.unpack(_receive(connection, _COUNT.size))
        connection.sendall(_arrived(connection, count) if kind == _SINK else _taken(connection, count))


def _taken(connection: socket.socket, count: int) -> bytes:
    """What each of so many stamped messages took."""
    connection.sendall(_STAMPS)
    taken = bytearray()
    for _ in range(count):
        (sent_s,) = _TIME.unpack(_receive(connection, _TIME.size))
        taken += _TIME.pack(time.monotonic() - sent_s)
    return bytes(taken)


def _arrived(connection: socket.socket, size_bytes: int) -> bytes:
    """What of so many bytes has come by when, behind the number of such records."""
    buffer = bytearray(len(_BLOCK))
    records, count, total_bytes = bytearray(), 0, 0
    while total_bytes < size_bytes and (more := connection.recv_into(buffer)):
        total_bytes += more
        records += _ARRIVED.pack(time.monotonic(), total_bytes)
        count += 1
    return _COUNT.pack(count) + bytes(records)


def _receive(connection: socket.socket, size_bytes: int) -> bytes:
    received = b""
    while len(received) < size_bytes:
        if not (data := connection.recv(size_bytes - len(received))):
            raise ConnectionError(f"found {len(received)} bytes, expected {size_bytes}")
        received += data
    return received
