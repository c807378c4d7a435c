"""The command of an image: `python -m libskylark.serving ROLE` serves a node service, the broker, or a function.

ROLE is `elect`, `node-info`, `broker`, the name of a function, or a folder with a function.py. Binds to $PORT where
that is set, as Knative sets it, else to the role's own port.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from gunicorn.app.base import BaseApplication
from pydantic import BaseModel, ConfigDict, Field

from libskylark.config import NodeSettings, Port, Seconds, from_environment
from libskylark.errors import SettingError, SkylarkError
from libskylark.lab.gunicorn_app import load_app, worker_settings
from libskylark.lab.process import SERVICE_APPS, THREAD_LIMITS, WorkerClass
from libskylark.logs import LogSettings, configure_logs
from libskylark.placement import FIRST_FUNCTION_PORT

# Knative's proxy in front of a function keeps an idle connection for 90 s; who ends it first loses no request.
_KEEPALIVE_S: Final = 120


class ServingSettings(BaseModel):
    """How a role is served; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    port: Port | None = Field(
        default=None,
        validation_alias="PORT",
        description="Where the role listens; unset, the role's own port. Knative sets it.",
    )
    bind_host: str = Field(
        default="0.0.0.0",  # noqa: S104
        validation_alias="SKYLARK_BIND_HOST",
        min_length=1,
        description="The address that it listens on.",
    )
    threads: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4,
        validation_alias="SKYLARK_THREADS",
        description="How many events are handled at a time.",
    )
    worker_timeout_s: Seconds = Field(
        default=60.0,
        validation_alias="SKYLARK_WORKER_TIMEOUT",
        description="How long a worker may be silent before it is replaced.",
    )
    # Shorter than the 30 s after which Kubernetes kills a pod.
    grace_s: Seconds = Field(
        default=25.0,
        validation_alias="SKYLARK_GRACE",
        description="How long requests that are under way may take when the role stops.",
    )
    functions: Path = Field(
        default=Path("functions"),
        validation_alias="SKYLARK_FUNCTIONS",
        description="The folder of functions, where the role is the name of one.",
    )


@dataclass(frozen=True, slots=True)
class Served:
    """What one process serves: the application, the folder where it runs, gunicorn's worker, and its own port."""

    role: str
    app: str
    directory: Path
    worker_class: WorkerClass
    port: int


def find_role(role: str, functions: Path, node: NodeSettings) -> Served:
    """What `role` means; a project's own functions/elect or functions/node_info goes before the library's.

    Raises SettingError for what is neither a service nor a function.
    """
    name = role.replace("_", "-")
    worker: WorkerClass = "asgi" if name == "broker" else "gthread"
    ports = {"elect": node.elect_port, "node-info": node.node_info_port, "broker": node.broker_port}
    port = ports.get(name, FIRST_FUNCTION_PORT)
    named = Path(role) if Path(role).name != role else functions / role
    for folder in (named, functions / role.replace("-", "_")):
        if name != "broker" and (folder / "function.py").is_file():
            return Served(folder.name.replace("_", "-"), "function:app", folder.absolute(), worker, port)
    if name in SERVICE_APPS:
        return Served(name, SERVICE_APPS[name], Path.cwd(), worker, port)
    there = sorted(path.parent.name for path in functions.glob("*/function.py"))
    expected = f"{', '.join(SERVICE_APPS)}, a folder with a function.py, or one of {functions.absolute()}: "
    raise SettingError("role", role, expected + (", ".join(there) or "none there"))


def gunicorn_settings(served: Served, settings: ServingSettings, logs: LogSettings) -> dict[str, Any]:
    """gunicorn's settings by name."""
    host = f"[{settings.bind_host}]" if ":" in settings.bind_host else settings.bind_host
    return {
        **worker_settings(served.worker_class, settings.threads),
        "bind": f"{host}:{settings.port or served.port}",
        "worker_class": served.worker_class,
        "timeout": round(settings.worker_timeout_s),
        "graceful_timeout": round(settings.grace_s),
        "keepalive": _KEEPALIVE_S,
        "loglevel": logs.level,
        "proc_name": served.role,
    }


class Serving(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with one worker; a crashed worker is started again, one whose application cannot be loaded is not."""

    def __init__(self, served: Served, node: NodeSettings, settings: ServingSettings, logs: LogSettings) -> None:
        self.served = served
        self.node = node
        self._logs = logs
        self._gunicorn = gunicorn_settings(served, settings, logs)
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._gunicorn.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return load_app(self.served.app, self.served.role, self.node.node)

    def run(self) -> None:
        """Serves in the role's folder until a signal ends it; raises SystemExit with gunicorn's exit code."""
        configure_logs(self.served.role, self.node.node, self._logs)
        os.chdir(self.served.directory)
        sys.path.insert(0, str(self.served.directory))
        super().run()


def serving(arguments: Sequence[str], environment: Mapping[str, str]) -> Serving:
    """What a command line and the environment ask for; raises SettingError, SystemExit for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m libskylark.serving", description="Serves one role with gunicorn.")
    parser.add_argument("role", help="elect, node-info, broker, a function's name, or a folder with a function.py")
    role = parser.parse_args(arguments).role
    settings = from_environment(ServingSettings, environment)
    node, logs = from_environment(NodeSettings, environment), from_environment(LogSettings, environment)
    return Serving(find_role(role, settings.functions, node), node, settings, logs)


def main() -> None:
    try:
        application = serving(sys.argv[1:], os.environ)
    except SkylarkError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    for name, value in THREAD_LIMITS.items():
        os.environ.setdefault(name, value)
    application.run()


if __name__ == "__main__":
    main()
