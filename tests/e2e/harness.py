"""What end-to-end tests run: the `skylark` command as a process whose output can be awaited, and projects for it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from libskylark.cli.running import RunningLab
from libskylark.client import Client
from libskylark.constellation import read_constellation
from libskylark.lab.record import node_stores
from libskylark.project import CONSTELLATION
from libskylark.render import triggers_folder, with_nodes
from libskylark.sender import broker_url
from libskylark.yamlfile import replace_fields

REPOSITORY = Path(__file__).parents[2]
READY_TIMEOUT_S = 90.0
TOKEN = "e2e-0123456789abcdef"  # every broker of every lab demands it
SMALL = {"pi5u1", "pi5u2", "pi5u3", "pi5u4", "pi4u7"}  # three satellites, the ground node and the edge


_NETWORKS: Final = iter(random.sample(range(64, 255), 191))


def some_network() -> str:
    """Loopback addresses of a lab alone: never the same twice, and another run's only by chance."""
    return f"127.{next(_NETWORKS)}"


class Command:
    """A `skylark` command in a process of its own, whose lines of output can be awaited."""

    def __init__(self, *arguments: str, directory: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYLARK_CAMERA")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "libskylark.cli", *arguments],
            cwd=directory,
            env={**environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "SKYLARK_BROKER_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.output = ""
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._read_errors), threading.Thread(target=self._read_output)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, found: Callable[[str], bool], count: int = 1, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until `count` lines of either stream satisfy `found`."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: sum(map(found, self.lines)) >= count or self.process.poll() is not None, timeout_s
            )
        assert done, f"not said within {timeout_s} s; it said:\n" + "\n".join(self.lines)
        assert sum(map(found, self.lines)) >= count, "it ended, having said:\n" + "\n".join(self.lines)

    def end(self, number: int = signal.SIGINT, timeout_s: float = 60.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        try:
            return self.process.wait(timeout_s)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            for thread, stream in zip(self._threads, (self.process.stderr, self.process.stdout), strict=True):
                thread.join()
                assert stream is not None
                stream.close()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._heard(line)

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            self._heard(line)

    def _heard(self, line: str) -> None:
        with self._changed:
            self.lines.append(line.rstrip())
            self._changed.notify_all()


class RunningProject:
    """A project under `skylark up`."""

    def __init__(self, project: Path, command: Command) -> None:
        self.project = project
        self.command = command
        self.lab = RunningLab(project)

    def broker(self, node: str | None = None) -> str:
        return broker_url(self.lab.host(node), self.lab.settings.broker_port)

    def client(self, node: str | None = None) -> Client:
        return Client(self.broker(node), node_stores(self.lab.constellation), TOKEN)


def descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def copy_project(target: Path) -> Path:
    for name in ("functions", "brokers", "triggers", "deployment"):
        shutil.copytree(REPOSITORY / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def small_project(target: Path) -> Path:
    """The project on five of its nodes, which are ready sooner than nine."""
    project = copy_project(target)
    path = project / CONSTELLATION
    spec = read_constellation(path).spec
    small = with_nodes(spec, [node for node in spec.nodes if node.name in SMALL])
    replace_fields(path, small.model_dump(include={"nodes", "links", "rotation"}))
    triggers_folder(read_constellation(path), project / "triggers").write()
    return project
