"""The child's side of a fork: from a copy of the fork server to the process that a ProcessSpec describes."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any, Final, NoReturn

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.asgi import lifespan  # noqa: F401  gunicorn would import it late, in each worker
from gunicorn.config import Config
from gunicorn.errors import AppImportError
from gunicorn.sock import create_sockets
from gunicorn.workers import gthread
from gunicorn.workers.base import Worker
from gunicorn.workers.gasgi import ASGIWorker

from libskylark.config import from_environment
from libskylark.errors import SettingError
from libskylark.lab.gunicorn_app import load_app, worker_settings
from libskylark.lab.process import THREAD_LIMITS, ProcessEvent, ProcessSpec
from libskylark.logs import LogSettings, configure_logs

KEEPALIVE_S: Final = 30
GRACEFUL_TIMEOUT_S: Final = {"gthread": 5, "asgi": 1}
BACKLOG: Final = 512

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
# In a lab, brokers end first: nobody is left to send a function another request over a connection that was kept.
gthread.STOP_KEEPALIVE_LINGER = 0.0

# gunicorn's two hundred settings with their defaults: made once, since each process serves one application.
_CONFIG: Final = Config()
_RESET_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE)


def become(spec: ProcessSpec, listener: socket.socket | None, reports_fd: int, parent_pid: int) -> NoReturn:
    """Turn this freshly forked process into what `spec` says, and never return."""
    code = 1
    try:
        _leave_parent(spec, parent_pid)
        if listener is None:
            os.execve(spec.argv[0], list(spec.argv), dict(spec.environment))  # noqa: S606
        _prepare_python(spec)
        Service(spec, listener.detach(), reports_fd).run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except (OSError, SettingError) as error:
        sys.stderr.write(f"{spec.name}: {error}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code)


def die_with_parent(parent_pid: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent dies; only Linux can."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent_pid:  # it died before the kernel knew
            os._exit(1)


def _end(code: int) -> NoReturn:
    # Without the interpreter's own ending: taking apart all that was imported would write to, and so copy,
    # every page that is shared with the fork server, in a hundred processes at once.
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _leave_parent(spec: ProcessSpec, parent_pid: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()  # away from the terminal: its Ctrl-C goes to the lab's parent, which decides
    die_with_parent(parent_pid, signal.SIGTERM)
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    log_fd = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)
    os.chdir(spec.directory)


def _role(spec: ProcessSpec) -> str:
    """What the process is called on its node: a service, or the function that it serves."""
    return spec.name.removeprefix(f"{spec.node}-")


def _prepare_python(spec: ProcessSpec) -> None:
    os.environ.clear()
    os.environ.update({**THREAD_LIMITS, **spec.environment})
    sys.path.insert(0, str(spec.directory))
    sys.argv = [spec.name]
    sys.dont_write_bytecode = True  # a user's folder stays as it is
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it: a peer that has gone is an error, not our end
    configure_logs(_role(spec), spec.node, from_environment(LogSettings))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()  # forks would all draw the same numbers; the standard library's random sees to itself
    gc.enable()


class _LabAsgiWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's ASGI worker, which begins to stop at the signal and not at its next heartbeat."""

    async def _serve(self) -> None:
        self._serving = asyncio.current_task()
        await super()._serve()

    def handle_exit_signal(self) -> None:
        if self.alive and (serving := getattr(self, "_serving", None)) is not None:
            serving.cancel()  # interrupts the heartbeat's sleep: gunicorn goes on to its graceful shutdown
        super().handle_exit_signal()


class Service(BaseApplication):  # type: ignore[misc]
    """One gunicorn worker on a socket that is already bound, without an arbiter.

    What an arbiter does for its workers (to start, watch and stop them) the fork server does for all of them:
    forty-nine processes fewer, of 7 MiB each.
    """

    def __init__(self, spec: ProcessSpec, listener_fd: int, reports_fd: int) -> None:
        self._spec = spec
        self._listener_fd = listener_fd
        self._reports_fd = reports_fd
        super().__init__()

    def run(self) -> None:
        """Serve until a signal ends it; raises what importing the application raises."""
        worker = self.worker(create_sockets(self.cfg, logging.getLogger("gunicorn.error")))
        util._setproctitle(f"worker [{self._spec.name}]")
        try:
            worker.init_process()
        except AppImportError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(Arbiter.APP_LOAD_ERROR) from None
        finally:
            worker.tmp.close()

    def worker(self, sockets: list[Any]) -> Any:
        """The worker, as an arbiter would make it."""
        arbiter = Arbiter(self)  # for its reading of the configuration and its logger; it is not run
        worker = arbiter.worker_class(1, os.getppid(), sockets, self, self.cfg.timeout, self.cfg, arbiter.log)
        worker.pid = os.getpid()
        return worker

    def load_default_config(self) -> None:
        self.cfg = _CONFIG

    def load_config(self) -> None:
        spec = self._spec
        settings: dict[str, Any] = {
            **worker_settings(spec.worker_class, spec.threads),
            "bind": f"fd://{self._listener_fd}",
            "backlog": BACKLOG,
            "worker_class": gthread.ThreadWorker if spec.worker_class == "gthread" else _LabAsgiWorker,
            "keepalive": KEEPALIVE_S,
            "graceful_timeout": GRACEFUL_TIMEOUT_S[spec.worker_class],
            "proc_name": spec.name,
            "loglevel": "warning",
            "post_worker_init": self._post_worker_init,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return load_app(self._spec.app, _role(self._spec), self._spec.node)

    def _post_worker_init(self, worker: Worker) -> None:
        event = ProcessEvent("booted", self._spec.name, os.getpid(), time_s=time.time())
        os.write(self._reports_fd, event.to_line())
