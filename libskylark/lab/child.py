"""One process as the fork server has it: its socket, its signals, and when it starts again after an end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from typing import Final

from libskylark.lab.process import ProcessSpec, log_tail
from libskylark.lab.service import BACKLOG

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
#: A process that lived this long was well: the next start after its end is at once again.
SETTLED_S: Final = 10.0
#: Ends by an exit code before the process ever worked: then it is wrong, not unlucky.
MOST_FAILED_STARTS: Final = 3


@dataclass
class Child:
    """One specification and the process that it now has (pid 0: none); times are of time.monotonic.

    `worked`: a process of it was there long enough, or has imported its application.
    """

    spec: ProcessSpec
    listener: socket.socket | None = None
    pid: int = 0
    started_s: float = 0.0
    delay_s: float = FIRST_DELAY_S
    failed_starts: int = 0
    worked: bool = False
    wanted: bool = True
    restart_at_s: float | None = None
    kill_at_s: float | None = None
    code: int | None = None

    def listen(self) -> None:
        """Bind the address of an application; of a program, see that it can be bound. Raises OSError."""
        listener = _bound(self.spec)
        if self.spec.argv:
            listener.close()  # a program binds for itself; this only was the clearest way to see that it can
        else:
            self.listener = listener  # kept open here: during a restart clients wait instead of being refused

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def begun(self, pid: int, now_s: float) -> None:
        """It has a process."""
        self.pid, self.started_s, self.restart_at_s = pid, now_s, None

    def ended(self, code: int, now_s: float) -> str:
        """Its process has ended: why there will be no other one, or nothing."""
        self.pid, self.kill_at_s = 0, None
        if not self.wanted:
            return ""
        if now_s - self.started_s >= SETTLED_S:
            self.worked, self.delay_s = True, FIRST_DELAY_S
        if not self.worked and code >= 0:  # a signal comes from outside, and says nothing about the process
            self.failed_starts += 1
        if self.failed_starts >= MOST_FAILED_STARTS:
            self.dismiss()
            reason = f"ended with code {code} at {MOST_FAILED_STARTS} starts in a row"
            return f"{reason}; {self.spec.log} ends with\n{log_tail(self.spec.log)}"
        self.restart_at_s = now_s + self.delay_s
        self.delay_s = min(self.delay_s * 2, LONGEST_DELAY_S)
        return ""

    def dismiss(self) -> None:
        """It is not wanted any more: it will not be started again, and nobody can connect."""
        self.wanted, self.restart_at_s = False, None
        self.close()

    def terminate(self, kill_at_s: float) -> None:
        """Ask the process to end; the fork server kills it at that time."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.kill_at_s = kill_at_s

    def kill(self) -> None:
        """End the process and what it started."""
        self.kill_at_s = None
        # A child that was forked a moment ago may not lead its group yet; its pid is ours until it is reaped.
        if not end_group(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def end_group(pid: int) -> bool:
    """Kill all that is left of a process and what it started; False where there is no such group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _bound(spec: ProcessSpec) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in spec.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it: those made before gunicorn has booted would wait 40 ms with each later answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((spec.host, spec.port))
        if spec.app:
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
