"""One process as the supervisor tracks it: what has become of it, and what memory it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import psutil

from libskylark.lab.process import ProcessEvent, ProcessSpec

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process as it runs now (pid 0: it does not), with the memory of it and of what it started itself."""

    spec: ProcessSpec
    pid: int
    restarts: int
    rss_mib: float
    pss_mib: float


@dataclass
class Tracked:
    """What was asked for, and what was heard of it; `failure` says why it will not be started again."""

    spec: ProcessSpec
    process: psutil.Process | None = None
    started: bool = False
    restarts: int = 0
    failure: str = ""
    wanted: bool = True
    ended: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it will not run any more, unless it is started anew."""
        return self.ended or bool(self.failure)

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self.process.pid if self.process is not None else 0

    def hear(self, event: ProcessEvent) -> None:
        """Something happened to it."""
        if event.kind in ("started", "restarted"):
            self.restarts += self.started
            self.started = True
            with contextlib.suppress(psutil.NoSuchProcess):
                self.process = psutil.Process(event.pid)
        elif event.kind == "gave-up":
            self.failure = event.reason
        elif event.kind == "stopped":
            self.ended = True
        if event.kind in ("exited", "gave-up", "stopped"):
            self.process = None

    def status(self) -> ProcessStatus:
        """It takes its time: the memory of every process of it is measured."""
        processes = [self.process] if self.process is not None else []
        for process in tuple(processes):
            with contextlib.suppress(psutil.Error):
                processes += process.children(recursive=True)
        pid = processes[0].pid if processes else 0
        return ProcessStatus(self.spec, pid, self.restarts, *memory_mib(processes))


def memory_mib(processes: Iterable[psutil.Process]) -> tuple[float, float]:
    """(RSS, PSS) of all these together; those that have ended count nothing."""
    rss_bytes = pss_bytes = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            rss_bytes += memory.rss
            pss_bytes += getattr(memory, "pss", memory.uss)  # only Linux counts shared pages by their share
    return rss_bytes / _MIB, pss_bytes / _MIB
