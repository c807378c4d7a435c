"""The process from which all others are forked: it imports once, and starts, watches and stops them.

Run by the supervisor as `python -m libskylark.lab.forkserver FD MODULE...`, FD being a socket that carries
JSON lines: `{"do": "start", "spec": {...}}` and `{"do": "stop", "names": [...], "grace_s": 6}` come in,
ProcessEvents go out. When the socket closes, its parent has died: everything is stopped.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from setproctitle import setproctitle

from libskylark.lab.child import Child, end_group
from libskylark.lab.process import EventKind, ProcessEvent, ProcessSpec
from libskylark.lab.service import become

#: What is left of a node's time when the parent has died.
ORPHAN_GRACE_S: Final = 3.0

# Only Linux lets a process be the parent of its grandchildren when their own has died.
_ADOPTS_ORPHANS: Final = sys.platform == "linux"
_PR_SET_CHILD_SUBREAPER: Final = 36
_HANDLED_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


class ForkServer:
    """A single-threaded loop over the parent's requests, the children's ends, and the timers of both."""

    def __init__(self, control: socket.socket, modules: Sequence[str]) -> None:
        self._control = control
        self._modules = deque(modules)
        self._serving = False
        self._waiting: list[Child] = []
        self._children: dict[str, Child] = {}
        self._buffers = {"requests": b"", "reports": b""}
        self._closing = False
        self._report_out, self._report_in = os.pipe()
        self._wake_out, self._wake_in = os.pipe()
        for descriptor in (self._wake_out, self._wake_in):
            os.set_blocking(descriptor, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._read_requests)
        self._selector.register(self._report_out, selectors.EVENT_READ, self._read_reports)
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._read_signals)

    def run(self) -> None:
        """Serve until the parent or a signal ends it, and nothing that was started is left."""
        signal.set_wakeup_fd(self._wake_in)
        for number in _HANDLED_SIGNALS:
            signal.signal(number, lambda *_: None)  # the wakeup pipe tells; see _read_signals
        while not (self._closing and not self._running()):
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            self._run_timers()
            self._import_next()

    def _import_next(self) -> None:
        """Import one more module; between two of them, programs that need none are already started."""
        if self._serving:
            return
        if self._modules and not self._closing:
            name = self._modules.popleft()
            try:
                importlib.import_module(name)
            except Exception as error:
                sys.stderr.write(f"fork server: cannot import {name}: {type(error).__name__}: {error}\n")
            return
        self._serving = True
        if not self._closing:
            _rehearse()
        gc.collect()
        gc.freeze()  # later collections, here and in all forks, leave the shared pages alone
        self._tell("serving", pid=os.getpid())
        waiting, self._waiting = self._waiting, []
        for child in waiting:
            if child.wanted:
                self._fork(child)

    # Requests

    def _read_requests(self) -> None:
        data = self._control.recv(1 << 16)
        if not data:
            self._selector.unregister(self._control)
            self._close()
            return
        for line in self._lines("requests", data):
            request = json.loads(line)
            if request["do"] == "start":
                self._start(ProcessSpec.from_json(request["spec"]))
            else:
                self._stop(request["names"], request["grace_s"])

    def _read_reports(self) -> None:
        for line in self._lines("reports", os.read(self._report_out, 1 << 16)):
            event = ProcessEvent.from_line(line)
            if (child := self._children.get(event.name)) is not None:
                child.worked = True
            self._send(event)

    def _read_signals(self) -> None:
        numbers = set(os.read(self._wake_out, 4096))
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            self._close()
        self._reap()

    def _lines(self, source: str, data: bytes) -> list[bytes]:
        *lines, self._buffers[source] = (self._buffers[source] + data).split(b"\n")
        return lines

    def _tell(self, kind: EventKind, name: str = "", pid: int = 0, code: int | None = None, reason: str = "") -> None:
        self._send(ProcessEvent(kind, name, pid, code, reason, time.time()))

    def _send(self, event: ProcessEvent) -> None:
        with contextlib.suppress(OSError):  # a parent that has died is noticed where its requests are read
            self._control.sendall(event.to_line())

    # Starting

    def _start(self, spec: ProcessSpec) -> None:
        known = self._children.get(spec.name)
        if self._closing or (known is not None and (known.wanted or known.pid)):
            return
        child = self._children[spec.name] = Child(spec)
        try:
            child.listen()
        except OSError as error:
            child.dismiss()
            self._tell("gave-up", spec.name, reason=f"address {spec.address} cannot be used: {error.strerror}")
            return
        if self._serving or spec.argv:  # a program needs none of what is imported
            self._fork(child)
        else:
            self._waiting.append(child)

    def _fork(self, child: Child, kind: EventKind = "started") -> None:
        # No signal may reach the child while it still has the handlers and the wakeup pipe of its parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED_SIGNALS)
        parent_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._let_go(child)
            become(child.spec, child.listener, self._report_in, parent_pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED_SIGNALS)
        child.begun(pid, time.monotonic())
        self._tell(kind, child.spec.name, pid)

    def _let_go(self, kept: Child) -> None:
        """In a new child: close what belongs to the fork server alone."""
        self._selector.close()
        self._control.close()
        for descriptor in (self._report_out, self._wake_out, self._wake_in):
            os.close(descriptor)
        for child in self._children.values():
            if child is not kept:
                child.close()

    # Ending

    def _stop(self, names: Iterable[str], grace_s: float) -> None:
        for name in names:
            child = self._children.get(name)
            if child is None or not child.wanted:
                continue
            child.dismiss()
            if not child.pid:
                self._tell("stopped", name)
            elif grace_s > 0:
                child.terminate(time.monotonic() + grace_s)
            else:
                child.kill()

    def _close(self) -> None:
        self._closing = True
        # Redis follows in _run_timers, when nobody is left who writes to it.
        self._stop([name for name, child in self._children.items() if child.spec.role != "redis"], ORPHAN_GRACE_S)

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._running()}
        with contextlib.suppress(ChildProcessError):
            while (waited := os.waitpid(-1, os.WNOHANG))[0]:
                if (child := by_pid.get(waited[0])) is not None:
                    child.code = os.waitstatus_to_exitcode(waited[1])
                    end_group(child.pid)  # whatever it started and left
        # What a killed process started may outlive it for a moment: it has not ended until that has.
        for child in by_pid.values():
            if child.code is not None and not (_ADOPTS_ORPHANS and end_group(child.pid)):
                code, child.code = child.code, None
                self._ended(child, code)

    def _ended(self, child: Child, code: int) -> None:
        name, pid = child.spec.name, child.pid
        self._tell("exited" if child.wanted else "stopped", name, pid, code)
        if reason := child.ended(code, time.monotonic()):
            self._tell("gave-up", name, pid, code, reason)

    # Time

    def _running(self) -> list[Child]:
        return [child for child in self._children.values() if child.pid]

    def _patience_s(self) -> float | None:
        if not self._serving:
            return 0.0
        timers = [t for c in self._children.values() for t in (c.restart_at_s, c.kill_at_s) if t is not None]
        return max(0.0, min(timers) - time.monotonic()) if timers else None

    def _run_timers(self) -> None:
        now_s = time.monotonic()
        for child in self._children.values():
            if child.kill_at_s is not None and now_s >= child.kill_at_s:
                child.kill()
            if child.restart_at_s is not None and now_s >= child.restart_at_s:
                self._fork(child, "restarted")
        if self._closing and all(child.spec.role == "redis" for child in self._running()):
            self._stop(list(self._children), ORPHAN_GRACE_S)


def _rehearse() -> None:
    try:
        importlib.import_module("libskylark.lab.rehearsal").rehearse()
    except Exception as error:  # without it, processes are larger, and no worse
        sys.stderr.write(f"fork server: the rehearsal failed: {type(error).__name__}: {error}\n")


def main(arguments: Sequence[str]) -> None:
    descriptor, *modules = arguments
    gc.disable()  # collections while importing would find nothing, and scatter the memory that forks share
    if _ADOPTS_ORPHANS:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    setproctitle("skylark: fork server")
    with socket.socket(fileno=int(descriptor)) as control:
        ForkServer(control, modules).run()


if __name__ == "__main__":
    main(sys.argv[1:])
