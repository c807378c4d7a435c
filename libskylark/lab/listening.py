"""Where a relay listens: a door is an address at which one node reaches a service of another."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from random import Random
from typing import Final

from libskylark.errors import LabError

_BACKLOG: Final = 512
_TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class Door:
    """Where `source` reaches a service of `target`: connections to `at`:`port` lead to `host`:`port`."""

    source: str
    target: str
    host: str
    port: int
    at: str


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, and never blocks; raises LabError where that address cannot be used."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise LabError(f"the links cannot use address {host}:{port}: {error.strerror}") from None
    return listener


def listen_anywhere(port: int, random: Random) -> socket.socket:
    """The same at some address of 127.224.0.0/11, which no lab's default and hardly a machine's service uses."""
    for _ in range(_TRIES - 1):
        octets = (224 + random.randrange(31), random.randrange(256), random.randrange(1, 255))
        with contextlib.suppress(LabError):
            return listen("127.{}.{}.{}".format(*octets), port)
    return listen("127.0.0.1", port)
