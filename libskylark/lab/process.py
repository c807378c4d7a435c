"""What the lab runs and what it hears of it: one process's specification, one thing that happened to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from libskylark.errors import LabError

Role = Literal["redis", "broker", "node-info", "elect", "function", "links", "dashboard"]
WorkerClass = Literal["gthread", "asgi"]

#: Brokers first, so that nothing new is delivered; Redis, and the links over which it is reached from other nodes,
#: last, since all others write to it while they end.
STOP_ORDER: Final[tuple[tuple[Role, ...], ...]] = (
    ("broker", "dashboard"),
    ("function", "elect", "node-info"),
    ("redis", "links"),
)

#: started: a first start; restarted: a start after an unasked exit; booted: it has imported its app;
#: exited: an end that nobody asked for; stopped: one that was; gave-up: it will not be started again.
#: The last two are about the fork server itself: serving (all is imported), and lost (it died).
EventKind = Literal["started", "restarted", "booted", "exited", "stopped", "gave-up", "serving", "lost"]

#: The library's own applications, by role.
SERVICE_APPS: Final = {
    "node-info": "libskylark.services.node_info:create_app()",
    "elect": "libskylark.services.elect:create_app()",
    "broker": "libskylark.eventing.app:app",
}

#: One thread each: with some fifty processes on a few cores, more of them only fight for the caches.
THREAD_LIMITS: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
    "CPL_LOG_ERRORS": "OFF",
}

_TAIL_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of a node: a program (`argv`, for Redis), or an application that gunicorn serves (`app`).

    `environment` is all that the process gets; `directory` is where it runs, and for an `app` the first place
    of its imports. A Redis that has a password has it in its environment as SKYLARK_REDIS_PASSWORD.
    """

    name: str
    node: str
    role: Role
    host: str
    port: int
    directory: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    app: str = ""
    worker_class: WorkerClass = "gthread"
    threads: int = 4

    def __post_init__(self) -> None:
        if bool(self.argv) == bool(self.app):
            raise LabError(f"process {self.name}: expected either argv or app, found {self.argv!r} and {self.app!r}")

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'redis' if self.role == 'redis' else 'http'}://{self.address}"

    def to_json(self) -> dict[str, Any]:
        """A value that json can write, and `from_json` reads back to an equal spec."""
        return {**asdict(self), "directory": str(self.directory), "log": str(self.log), "argv": list(self.argv)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProcessSpec:
        paths = {name: Path(content[name]) for name in ("directory", "log")}
        return cls(**{**content, **paths, "argv": tuple(content["argv"])})


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """Something that happened to a process; `code` is its exit code, or minus the signal that ended it."""

    kind: EventKind
    name: str = ""
    pid: int = 0
    code: int | None = None
    reason: str = ""
    time_s: float = 0.0

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> ProcessEvent:
        return cls(**json.loads(line))


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, indented, for an error message; empty where there is nothing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(f"    | {line}" for line in text.splitlines()[-lines:])
