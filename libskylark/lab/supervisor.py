"""The parent's side of the process layer: it starts, watches, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

import libskylark
from libskylark.errors import LabError
from libskylark.lab.process import STOP_ORDER, THREAD_LIMITS, ProcessEvent, ProcessSpec, Role, log_tail
from libskylark.lab.readiness import wait_until_ready

#: What most processes of a node import; a module that is not installed is passed over.
PRELOAD: Final = (
    "flask", "redis", "hiredis", "requests", "cloudevents", "pydantic", "orjson", "zstandard",
    "prometheus_client", "numpy", "numpy.random", "scipy.ndimage", "rasterio",
)  # fmt: skip
#: glibc reads these at a program's start, so all forks have them: sixty processes must give back what one frame
#: took, while each for itself would rather keep it for the next.
MALLOC_LIMITS: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
GRACE_S: Final = 6.0
#: After the grace, what the kernel may need to end a process that was killed.
KILL_TIMEOUT_S: Final = 3.0
MOST_LOST_SERVERS: Final = 3
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
class _Known:
    spec: ProcessSpec
    process: psutil.Process | None = None
    started: bool = False
    restarts: int = 0
    failure: str = ""
    wanted: bool = True
    ended: bool = False


class Supervisor:
    """Starts, watches and stops the lab's processes through one fork server.

    A context manager: when it is left, in whatever way, no process that it started is alive. All that happens
    to the processes is put into `events`, and given to `on_event` from a thread of the supervisor.
    """

    def __init__(
        self,
        run_directory: Path,
        preload: Sequence[str] = PRELOAD,
        on_event: Callable[[ProcessEvent], None] | None = None,
    ) -> None:
        self.events: queue.SimpleQueue[ProcessEvent] = queue.SimpleQueue()
        self._run_directory = run_directory.absolute()
        self._preload = tuple(preload)
        self._on_event = on_event
        self._known: dict[str, _Known] = {}
        self._changed = threading.Condition()
        # Held while something is asked for, so that no request falls between two fork servers.
        self._asking = threading.RLock()
        self._leaving = False
        self._lost_servers = 0

    def __enter__(self) -> Supervisor:
        self._run_directory.mkdir(parents=True, exist_ok=True)
        self._launch()
        self._reader = threading.Thread(target=self._read, name="supervisor", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except LabError:
            if error is None:
                raise
        finally:
            self._leave()

    @property
    def log(self) -> Path:
        """What the fork server itself has to say."""
        return self._run_directory / "forkserver.log"

    def start(self, specs: Iterable[ProcessSpec]) -> None:
        """Start processes; returns at once. One that runs already is left as it is."""
        with self._asking:
            for spec in specs:
                known = self._known.get(spec.name)
                if known is None or known.ended or known.failure:
                    self._known[spec.name] = _Known(spec)
                self._ask(do="start", spec=spec.to_json())

    def wait_ready(
        self,
        specs: Collection[ProcessSpec],
        timeout_s: float,
        on_ready: Callable[[ProcessSpec], None] | None = None,
    ) -> None:
        """Wait until all these processes are ready.

        Raises LabError with every one that is not, why, and how its log ends.
        """
        if not specs:
            return
        deadline_s = time.monotonic() + timeout_s
        pool = ThreadPoolExecutor(max_workers=len(specs), thread_name_prefix="ready")
        try:
            pending = {pool.submit(self._wait_one, spec, deadline_s): spec for spec in specs}
            faults = []
            for future in as_completed(pending):
                if fault := future.result():
                    faults.append(f"  {pending[future].name} ({pending[future].url}): {fault}")
                elif on_ready is not None:
                    on_ready(pending[future])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if faults:
            total = f"{len(faults)} of {len(specs)} processes did not become ready"
            raise LabError("\n".join([f"{total} (within {timeout_s:g} s):", *sorted(faults)]))

    def stop(self, order: Iterable[Collection[Role]] = STOP_ORDER, grace_s: float = GRACE_S) -> None:
        """Stop the processes of these roles, one group of roles after the other."""
        for roles in order:
            self.stop_names([n for n, known in list(self._known.items()) if known.spec.role in roles], grace_s)

    def stop_names(self, names: Collection[str], grace_s: float = GRACE_S) -> None:
        """Stop these processes and wait until they have ended: asked first, killed after `grace_s` (0: at once)."""
        with self._asking:
            stopping = [self._known[name] for name in names if name in self._known]
            for known in stopping:
                known.wanted = False
            self._ask(do="stop", names=[known.spec.name for known in stopping], grace_s=grace_s)
        with self._changed:
            ended = self._changed.wait_for(
                lambda: all(known.ended or known.failure for known in stopping), grace_s + KILL_TIMEOUT_S
            )
        if not ended:
            left = ", ".join(k.spec.name for k in stopping if not (k.ended or k.failure))
            raise LabError(f"processes that could not be stopped within {grace_s + KILL_TIMEOUT_S:g} s: {left}")

    def processes(self) -> list[ProcessStatus]:
        """Every process that was started and not stopped, as it is now."""
        return [_status(known) for known in list(self._known.values()) if known.wanted]

    def pid(self, name: str) -> int:
        """The pid of one process, 0 while it does not run; `processes` takes its time to measure them all."""
        known = self._known.get(name)
        return known.process.pid if known is not None and known.process is not None else 0

    def memory_mib(self) -> float:
        """What all processes and the fork server occupy together: shared pages count once (PSS)."""
        own = _memory_mib([psutil.Process(self._server.pid)])[1]
        return own + sum(status.pss_mib for status in self.processes())

    # The fork server

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            **THREAD_LIMITS,
            **MALLOC_LIMITS,
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(libskylark.__file__).parent.parent), *_given_python_path()]),
        }
        with theirs, self.log.open("ab") as log:
            self._server = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "libskylark.lab.forkserver", str(theirs.fileno()), *self._preload],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._run_directory,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone
            )
        self._socket = ours

    def _ask(self, **request: object) -> None:
        # A fork server that was lost gets all specifications again when it is replaced.
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _read(self) -> None:
        """Body of the supervisor's thread: hear what the fork server says, and replace one that was lost."""
        while True:
            with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
                for line in lines:
                    self._heard(ProcessEvent.from_line(line))
            if self._leaving or not self._replace():
                return

    def _heard(self, event: ProcessEvent) -> None:
        with self._changed:
            if event.kind == "serving":
                self._lost_servers = 0
            if (known := self._known.get(event.name)) is not None:
                _apply(known, event)
            self._changed.notify_all()
        self.events.put(event)
        if self._on_event is not None:
            self._on_event(event)

    def _replace(self) -> bool:
        """Start another fork server with all that is wanted; False when that has failed too often."""
        self._lost_servers += 1
        code = self._server.wait()
        self._heard(ProcessEvent("lost", pid=self._server.pid, code=code, time_s=time.time()))
        self._end_processes(GRACE_S)  # its children got SIGTERM from the kernel; their ports must be free again
        with self._asking:
            again = self._lost_servers <= MOST_LOST_SERVERS and not self._leaving
            for known in self._known.values():
                known.ended = known.ended or not known.wanted
                if not again and known.wanted and not known.failure:
                    known.failure = f"the fork server ended with code {code}\n{log_tail(self.log)}"
            if again:
                self._socket.close()
                self._launch()
                self.start([k.spec for k in self._known.values() if k.wanted and not k.failure])
        with self._changed:
            self._changed.notify_all()
        return again

    def _leave(self) -> None:
        with self._asking, contextlib.suppress(OSError):
            self._leaving = True
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._server.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._end_processes(GRACE_S)
        self._reader.join()
        self._socket.close()

    def _end_processes(self, grace_s: float) -> None:
        """Wait for processes whose fork server is gone; kill, each with its group, those that do not end."""
        started = [known.process for known in self._known.values() if known.process is not None]
        _, alive = psutil.wait_procs(started, timeout=grace_s)
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=KILL_TIMEOUT_S)

    def _wait_one(self, spec: ProcessSpec, deadline_s: float) -> str:
        known = self._known.get(spec.name)
        if known is None:
            return "was never started"

        def abandoned() -> bool:
            return bool(known.failure) or known.ended or self._leaving

        with self._changed:  # before it has started, something else may answer at its address
            self._changed.wait_for(lambda: known.started or abandoned(), deadline_s - time.monotonic())
        said = wait_until_ready(spec, deadline_s, abandoned) if known.started else "was not started in time"
        if not said:
            return ""
        return known.failure or f"{said}; {spec.log} ends with\n{log_tail(spec.log)}"


def _apply(known: _Known, event: ProcessEvent) -> None:
    if event.kind in ("started", "restarted"):
        known.restarts += known.started
        known.started = True
        with contextlib.suppress(psutil.NoSuchProcess):
            known.process = psutil.Process(event.pid)
    elif event.kind == "gave-up":
        known.failure = event.reason
    elif event.kind == "stopped":
        known.ended = True
    if event.kind in ("exited", "gave-up", "stopped"):
        known.process = None


def _status(known: _Known) -> ProcessStatus:
    processes = [known.process] if known.process is not None else []
    for process in tuple(processes):
        with contextlib.suppress(psutil.Error):
            processes += process.children(recursive=True)
    pid = processes[0].pid if processes else 0
    return ProcessStatus(known.spec, pid, known.restarts, *_memory_mib(processes))


def _memory_mib(processes: Iterable[psutil.Process]) -> tuple[float, float]:
    rss_bytes = pss_bytes = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            rss_bytes += memory.rss
            pss_bytes += getattr(memory, "pss", memory.uss)  # only Linux counts shared pages by their share
    return rss_bytes / _MIB, pss_bytes / _MIB


def _given_python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
