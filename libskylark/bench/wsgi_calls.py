"""Functions called in one process of their own, as a WSGI server calls them, with a stop-watch around each call."""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

_STOP_S: Final = 30.0

Call = tuple[Mapping[str, str], bytes]
"""Headers and body of a POST."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call, in us: the median duration, and the mean processor time of the process that answers."""

    wall_us: float
    cpu_us: float


@contextmanager
def caller(folders: Mapping[str, Path], environments: Mapping[str, Mapping[str, str]]) -> Iterator[Connection]:
    """A process that has all functions, and calls the one that it is told to, with what it is told."""
    spawning = multiprocessing.get_context("spawn")  # a fork would have what this process has imported
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve_calls, args=(folders, environments, theirs), name="caller", daemon=True)
    process.start()
    theirs.close()  # so that the end of that process ends the pipe
    try:
        yield ours
    finally:
        ours.close()
        process.join(_STOP_S)


def _serve_calls(
    folders: Mapping[str, Path], environments: Mapping[str, Mapping[str, str]], control: Connection
) -> None:
    apps = {}
    for name, folder in folders.items():
        os.environ.update(environments[name])
        spec = spec_from_file_location(folder.name, folder / "function.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        apps[name] = module.app
        for variable in environments[name]:
            del os.environ[variable]
    while True:
        try:
            name, calls = control.recv()
        except EOFError:
            return
        control.send(_take(apps[name], calls))


def _take(app: Any, calls: Sequence[Call]) -> Cost | str:
    """What calls of the application cost; the first answer that is not 200, in words."""
    answered: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        answered.append(status)

    environs, taken_us = [_environ(*call) for call in calls], []
    before_s = time.process_time()
    for environ in environs:
        started = time.perf_counter()
        said = b"".join(app(environ, start_response))
        taken_us.append((time.perf_counter() - started) * 1e6)
        if not answered[-1].startswith("200"):
            return f"answered {answered[-1]}: {said[:200]!r}"
    return Cost(statistics.median(taken_us), (time.process_time() - before_s) * 1e6 / len(calls))


def _environ(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """A POST / as a WSGI server hands it on."""
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    return {
        **named,
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "CONTENT_TYPE": named.pop("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
