"""The processes of a node as they run now: found among the children of the fork server that started this one too."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

import psutil

from libskylark.lab.dashboard import WatchedProcess

_FRESH_S: Final = 1.0  # however many viewers ask, the machine's processes are gone through once a second


class Processes:
    """What each process is, whether it runs, since when, and what it takes; may be asked from any thread."""

    def __init__(self, watched: tuple[WatchedProcess, ...]) -> None:
        self._watched = watched
        self._lock = threading.Lock()
        self._read_s = -_FRESH_S
        self._found: dict[str, dict[str, Any]] = {}

    def of(self, node: str) -> list[dict[str, Any]]:
        with self._lock:
            if time.monotonic() - self._read_s >= _FRESH_S:
                self._found = self._read()
                self._read_s = time.monotonic()
            found = self._found
        absent = {"pid": None, "memory_bytes": None, "cpu_s": None, "started_s": None}
        return [
            {"name": process.name, "role": process.role, "address": process.address, **found.get(process.name, absent)}
            for process in self._watched
            if process.node == node
        ]

    def _read(self) -> dict[str, dict[str, Any]]:
        # A service says its name in its title, a Redis its address.
        names = {f"[{process.name}]": process.name for process in self._watched if process.role != "redis"}
        names |= {process.address: process.name for process in self._watched if process.role == "redis"}
        found: dict[str, dict[str, Any]] = {}
        try:
            siblings = psutil.Process(os.getppid()).children()
        except psutil.Error:
            return found
        for sibling in siblings:
            try:
                with sibling.oneshot():
                    title = " ".join(sibling.cmdline()).split()
                    name = next((names[word] for word in title if word in names), None)
                    if name is not None:
                        times = sibling.cpu_times()
                        found[name] = {
                            "pid": sibling.pid,
                            "memory_bytes": sibling.memory_info().rss,
                            "cpu_s": round(times.user + times.system, 2),
                            "started_s": round(sibling.create_time(), 3),
                        }
            except psutil.Error:  # it has ended meanwhile
                continue
        return found
