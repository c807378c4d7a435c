"""How long a process takes to be ready: each role by the command of the image, from its start to its first answer."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from libskylark.bench.nodes import HERE, free_port, running_redis
from libskylark.bench.statistics import median
from libskylark.errors import LabError
from libskylark.lab.process import SERVICE_APPS, ProcessSpec, log_tail
from libskylark.lab.readiness import wait_until_ready
from libskylark.project import CONSTELLATION, Project

RUNS: Final = 5

_HOST: Final = "127.0.0.1"
_START_S: Final = 30.0
_STOP_S: Final = 30.0


def measure(project: Project, runs: int = RUNS, progress: Callable[[str], None] = lambda _: None) -> tuple[Any, Any]:
    """(figures, every single start): `{"runs", "roles": {role: {"ready_ms", "ci_ready_ms", "slowest_ms", "rss_mib"}}}`.

    ready_ms: the median from the start of `python -m libskylark.serving ROLE` to its first GET /ready that is answered
    with 200, of so many `runs` after one that is not counted; slowest_ms: the longest of them; rss_mib: what the
    worker occupies then. One process at a time, beside a Redis of its own. Raises LabError where one does not start,
    or the project has no constellation.
    """
    if not (project.root / CONSTELLATION).is_file():
        raise LabError(f"found no {project.root / CONSTELLATION}, which node-info reads")
    figures, raw = {}, list[dict[str, Any]]()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skylark-bench-")))
        redis_port = free_port()
        stack.enter_context(running_redis(HERE, redis_port, directory / "redis"))
        environment = _environment(project, redis_port)
        for role in _roles(project):
            progress(role)
            _start(role, environment, directory)
            taken = [_start(role, environment, directory) for _ in range(runs)]
            raw += [{"role": role, **run} for run in taken]
            ready_ms = median(run["ready_ms"] for run in taken)
            figures[role] = {
                "ready_ms": round(ready_ms.value),
                "ci_ready_ms": ready_ms.interval(0),
                "slowest_ms": round(max(run["ready_ms"] for run in taken)),
                "rss_mib": round(median(run["rss_mib"] for run in taken).value, 1),
            }
    return {"runs": runs, "roles": figures}, raw


def _roles(project: Project) -> list[str]:
    """The services, the broker where there are objects for it, and each function; each once."""
    services = [role for role in SERVICE_APPS if role != "broker" or project.object_paths]
    return list(dict.fromkeys([*services, *project.functions]))


def _environment(project: Project, redis_port: int) -> dict[str, str]:
    return {
        **os.environ,
        "NODE_NAME": project.constellation.destination,
        "LOCAL_NODE_HOST": _HOST,
        "SKYLARK_BIND_HOST": _HOST,
        "SKYLARK_REDIS_PORT": str(redis_port),
        "SKYLARK_FUNCTIONS": str((project.root / "functions").absolute()),
        "SKYLARK_CONSTELLATION": str((project.root / CONSTELLATION).absolute()),
        "SKYLARK_OBJECTS": os.pathsep.join(str(path.absolute()) for path in project.object_paths),
        "SKYLARK_NODES": "file",
        "SKYLARK_LOG_LEVEL": "warning",
    }


def _start(role: str, environment: Mapping[str, str], directory: Path) -> dict[str, float]:
    port, log = free_port(), directory / f"{role}.log"
    spec = ProcessSpec(role, "", "function", _HOST, port, directory, log, app="function:app")
    started_s = time.perf_counter()
    with _running(role, {**environment, "PORT": str(port)}, log) as process:
        said = wait_until_ready(spec, time.monotonic() + _START_S, lambda: process.poll() is not None)
        ready_s = time.perf_counter()
        if said:
            raise LabError(f"{role} did not become ready: {said}\n{log_tail(log)}".rstrip())
        workers = psutil.Process(process.pid).children()
        rss_bytes = max((worker.memory_info().rss for worker in workers), default=0)
    return {"ready_ms": (ready_s - started_s) * 1000, "rss_mib": rss_bytes / 2**20}


@contextmanager
def _running(role: str, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "libskylark.serving", role]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_STOP_S)
