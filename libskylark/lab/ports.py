"""Ports of this machine: whether a server could listen there, who does so already, and which one is free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Final

import psutil

from libskylark.errors import LabError

_TRIES: Final = 100


def cannot_listen(host: str, port: int) -> int:
    """0 where a server could listen there, else the number of the error."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return 0


def next_free_port(host: str, first: int, apart: Collection[int]) -> int:
    """The first port from `first` on that is free, and none of `apart`; raises LabError where a hundred are not."""
    for port in range(first, first + _TRIES):
        if port not in apart and not cannot_listen(host, port):
            return port
    raise LabError(f"{host} has no free port from {first} to {port}; stop what holds them, or name another port")


def holders() -> dict[tuple[str, int], int]:
    """Who listens where (address and port -> process), as far as this user may know."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return {}
    return {
        (c.laddr.ip, c.laddr.port): c.pid
        for c in connections
        if c.status == psutil.CONN_LISTEN and c.laddr and c.pid is not None
    }


def told_holder(holders: Mapping[tuple[str, int], int], host: str, port: int) -> str:
    """` by process 17 (python)`, to stand after `taken`; nothing where that is not known."""
    everywhere = ("0.0.0.0", "::")  # noqa: S104
    pid = next((holders[host, port] for host in (host, *everywhere) if (host, port) in holders), None)
    if pid is None:
        return ""
    try:
        return f" by process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f" by process {pid}"
