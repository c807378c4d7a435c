"""The parent's side of the process layer: it starts, watches, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from libskylark.errors import LabError
from libskylark.lab.process import STOP_ORDER, ProcessEvent, ProcessSpec, Role, log_tail
from libskylark.lab.readiness import wait_until_ready
from libskylark.lab.server_process import ServerProcess
from libskylark.lab.tracked import ProcessStatus, Tracked, memory_mib

#: What most processes of a node import; a module that is not installed is passed over.
PRELOAD: Final = (
    "flask", "redis", "hiredis", "requests", "cloudevents", "pydantic", "orjson", "zstandard",
    "prometheus_client", "numpy", "numpy.random", "scipy.ndimage", "rasterio",
)  # fmt: skip
GRACE_S: Final = 6.0
#: After the grace, what the kernel may need to end a process that was killed.
KILL_TIMEOUT_S: Final = 3.0
MOST_LOST_SERVERS: Final = 3


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
        self._tracked: dict[str, Tracked] = {}
        self._changed = threading.Condition()
        # Held while something is asked for, so that no request falls between two fork servers.
        self._asking = threading.RLock()
        self._leaving = False
        self._lost_servers = 0

    def __enter__(self) -> Supervisor:
        self._run_directory.mkdir(parents=True, exist_ok=True)
        self._server = self._launched()
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
                known = self._tracked.get(spec.name)
                if known is None or known.is_over:
                    self._tracked[spec.name] = Tracked(spec)
                self._server.ask(do="start", spec=spec.to_json())

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
            self.stop_names([n for n, known in list(self._tracked.items()) if known.spec.role in roles], grace_s)

    def stop_names(self, names: Collection[str], grace_s: float = GRACE_S) -> None:
        """Stop these processes and wait until they have ended: asked first, killed after `grace_s` (0: at once)."""
        with self._asking:
            stopping = [self._tracked[name] for name in names if name in self._tracked]
            for known in stopping:
                known.wanted = False
            self._server.ask(do="stop", names=[known.spec.name for known in stopping], grace_s=grace_s)
        with self._changed:
            ended = self._changed.wait_for(lambda: all(known.is_over for known in stopping), grace_s + KILL_TIMEOUT_S)
        if not ended:
            left = ", ".join(k.spec.name for k in stopping if not k.is_over)
            raise LabError(f"processes that could not be stopped within {grace_s + KILL_TIMEOUT_S:g} s: {left}")

    def processes(self) -> list[ProcessStatus]:
        """Every process that was started and not stopped, as it is now."""
        return [known.status() for known in list(self._tracked.values()) if known.wanted]

    def pid(self, name: str) -> int:
        """The pid of one process, 0 while it does not run; `processes` takes its time to measure them all."""
        known = self._tracked.get(name)
        return known.pid if known is not None else 0

    def memory_mib(self) -> float:
        """What all processes and the fork server occupy together: shared pages count once (PSS)."""
        own = memory_mib([psutil.Process(self._server.pid)])[1]
        return own + sum(status.pss_mib for status in self.processes())

    # The fork server

    def _launched(self) -> ServerProcess:
        return ServerProcess(self._run_directory, self.log, self._preload)

    def _read(self) -> None:
        """Body of the supervisor's thread: hear what the fork server says, and replace one that was lost."""
        while True:
            with contextlib.suppress(OSError):
                for event in self._server.events():
                    self._heard(event)
            if self._leaving or not self._replace():
                return

    def _heard(self, event: ProcessEvent) -> None:
        with self._changed:
            if event.kind == "serving":
                self._lost_servers = 0
            if (known := self._tracked.get(event.name)) is not None:
                known.hear(event)
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
            for known in self._tracked.values():
                known.ended = known.ended or not known.wanted
                if not again and known.wanted and not known.failure:
                    known.failure = f"the fork server ended with code {code}\n{log_tail(self.log)}"
            if again:
                self._server.close()
                self._server = self._launched()
                self.start([k.spec for k in self._tracked.values() if k.wanted and not k.failure])
        with self._changed:
            self._changed.notify_all()
        return again

    def _leave(self) -> None:
        with self._asking:
            self._leaving = True
            self._server.hang_up()
        self._server.end(2 * GRACE_S)
        self._end_processes(GRACE_S)
        self._reader.join()
        self._server.close()

    def _end_processes(self, grace_s: float) -> None:
        """Wait for processes whose fork server is gone; kill, each with its group, those that do not end."""
        started = [known.process for known in self._tracked.values() if known.process is not None]
        _, alive = psutil.wait_procs(started, timeout=grace_s)
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=KILL_TIMEOUT_S)

    def _wait_one(self, spec: ProcessSpec, deadline_s: float) -> str:
        known = self._tracked.get(spec.name)
        if known is None:
            return "was never started"

        def abandoned() -> bool:
            return known.is_over or self._leaving

        with self._changed:  # before it has started, something else may answer at its address
            self._changed.wait_for(lambda: known.started or abandoned(), deadline_s - time.monotonic())
        said = wait_until_ready(spec, deadline_s, abandoned) if known.started else "was not started in time"
        if not said:
            return ""
        return known.failure or f"{said}; {spec.log} ends with\n{log_tail(spec.log)}"
