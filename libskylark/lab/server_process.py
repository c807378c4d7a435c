"""The fork server as its parent has it: a process that is asked for others, and says what happens to them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import libskylark
from libskylark.lab.process import THREAD_LIMITS, ProcessEvent

#: glibc reads these at a program's start, so all forks have them: sixty processes must give back what one frame
#: took, while each for itself would rather keep it for the next.
MALLOC_LIMITS: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}


class ServerProcess:
    """A fork server that imports the modules `preload`; it runs in `directory`, and writes to `log`."""

    def __init__(self, directory: Path, log: Path, preload: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        environment = {
            **os.environ,
            **THREAD_LIMITS,
            **MALLOC_LIMITS,
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(libskylark.__file__).parent.parent), *_given_python_path()]),
        }
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "libskylark.lab.forkserver", str(theirs.fileno()), *preload],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: object) -> None:
        """A request of forkserver.py; one that was lost with its fork server is made again to the next one."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    def events(self) -> Iterator[ProcessEvent]:
        """What it says until it ends; raises OSError where the connection breaks."""
        with self._socket.makefile("rb") as lines:
            for line in lines:
                yield ProcessEvent.from_line(line)

    def hang_up(self) -> None:
        """Nothing more will be asked: it stops all that it has started, and ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait()

    def end(self, grace_s: float) -> None:
        """Wait until it has ended; it is killed after `grace_s`."""
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self._socket.close()


def _given_python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
