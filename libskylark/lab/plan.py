"""What runs on which node: a project and its constellation as specifications of processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import NODE_SERVICES
from libskylark.event import TICK_TYPE
from libskylark.lab.dashboard import APP as DASHBOARD_APP
from libskylark.lab.dashboard import PORT as DASHBOARD_PORT
from libskylark.lab.dashboard import THREADS as DASHBOARD_THREADS
from libskylark.lab.dashboard import VARIABLE as DASHBOARD_VARIABLE
from libskylark.lab.dashboard import DashboardConfig, WatchedProcess
from libskylark.lab.link_server import APP as LINKS_APP
from libskylark.lab.link_server import PORT as LINKS_PORT
from libskylark.lab.link_server import VARIABLE as LINKS_VARIABLE
from libskylark.lab.link_server import LinkConfig
from libskylark.lab.loopback import Loopback
from libskylark.lab.process import SERVICE_APPS, ProcessSpec, Role, WorkerClass
from libskylark.lab.redis_server import redis_command
from libskylark.project import Project

# What every process of the lab imports sooner or later: imported once, before all are forked from it.
_PRELOAD: Final = (
    "gunicorn.workers.gthread",
    "gunicorn.workers.gasgi",
    "libskylark.eventing.app",
    "libskylark.routes",
    "libskylark.services.elect",
    "libskylark.services.node_info",
)


@dataclass(frozen=True)
class LabOptions:
    """How a lab differs from the constellation that it emulates.

    `tick_s` is the length of an epoch in seconds, None for the constellation's own; `network` the first two
    octets of the loopback addresses (a node's last two stay its own); `environment` is added to every process;
    `objects` are further files or folders of Broker and Trigger objects; with `links`, what one node sends to
    another passes emulated links; with `dashboard`, a further process serves the live page.
    """

    run_directory: Path
    redis_binary: Path
    tick_s: float | None = None
    network: str = "127.0"
    environment: Mapping[str, str] = field(default_factory=dict)
    objects: tuple[Path, ...] = ()
    links: bool = False
    dashboard: bool = False


class Plan:
    """The processes of a lab, in the order in which they are started; writes the constellation that they read.

    Raises LabError for nodes that a lab cannot have (see Loopback).
    """

    def __init__(self, project: Project, options: LabOptions) -> None:
        self.project = project
        self.options = options
        self._ports = from_environment(NodeSettings)
        self.tick_s = options.tick_s or project.constellation.spec.tick
        links, directory = options.links, options.run_directory
        self._loopback = Loopback(project.constellation, options.network, self.tick_s, directory, links)
        self.constellation = self._loopback.constellation
        self.constellation_path = self._loopback.path

    @property
    def preload(self) -> list[str]:
        """Modules to import before forking; a user's module that fails to import is left to its own process."""
        imports = {name for source in self.project.functions.values() for name in source.imports}
        optional = {LINKS_APP: self.options.links, DASHBOARD_APP: self.options.dashboard}
        wanted = [app.partition(":")[0] for app, is_wanted in optional.items() if is_wanted]
        return [*_PRELOAD, *wanted, *sorted(imports - set(_PRELOAD))]

    @property
    def home(self) -> str:
        """The node whose broker runs the PingSources: where chains end."""
        return self.constellation.destination

    @property
    def broker_port(self) -> int:
        return self._ports.broker_port

    def links(self) -> list[ProcessSpec]:
        """The process that all traffic between nodes passes, if there is one."""
        return [self._relay] if self._relay else []

    def stores(self) -> list[ProcessSpec]:
        return [self._redis(node) for node in self.constellation.nodes]

    def services(self) -> list[ProcessSpec]:
        """Everything that must be there before the first tick, but for the stores."""
        return [spec for spec in self._all if not self._ticks(spec)]

    def ticking(self) -> list[ProcessSpec]:
        """What the clock starts: the broker that ticks, and the functions that wait for its tick."""
        return [spec for spec in self._all if self._ticks(spec)]

    def dashboard(self) -> list[ProcessSpec]:
        """The process that serves the live page, if there is one."""
        return [self._dashboard] if self.options.dashboard else []

    def all_specs(self) -> list[ProcessSpec]:
        return [*self.links(), *self.stores(), *self._all, *self.dashboard()]

    @cached_property
    def _all(self) -> list[ProcessSpec]:
        specs: list[ProcessSpec] = []
        for node in self.constellation.nodes:
            specs += [self._service(node, name) for name in NODE_SERVICES]
            specs.append(self._broker(node))
        for name, function in self.constellation.functions.items():
            specs += [self._function(node, name, function.port or 0) for node in function.nodes]
        return specs

    def _ticks(self, spec: ProcessSpec) -> bool:
        if spec.role == "function":
            return spec.name.removeprefix(f"{spec.node}-") in self.constellation.consumers(TICK_TYPE)
        return spec.role == "broker" and spec.node == self.home

    @cached_property
    def _relay(self) -> ProcessSpec | None:
        doors = self._loopback.doors
        if doors is None:
            return None
        path = self.options.run_directory / "links.json"
        needed = [door for spec in [*self.stores(), *self._all] for door in doors.to(spec.node, spec.port)]
        LinkConfig(self.constellation_path, self.tick_s, tuple(needed)).write(path)
        return self._of_lab("links", doors.control_host, LINKS_PORT, LINKS_APP, {LINKS_VARIABLE: str(path)})

    @cached_property
    def _dashboard(self) -> ProcessSpec:
        path = self.options.run_directory / "dashboard.json"
        host = f"{self.options.network}.0.1"  # 127.0.0.1, unless a second lab runs beside the first
        DashboardConfig(
            self.project.root.absolute().name,
            self.constellation_path,
            self.tick_s,
            (host, "localhost"),
            self._relay.url if self._relay else "",
            tuple(
                WatchedProcess(spec.name, spec.node, spec.role, spec.address)
                for spec in [*self.links(), *self.stores(), *self._all]
            ),
        ).write(path)
        environment = {DASHBOARD_VARIABLE: str(path)}
        return self._of_lab("dashboard", host, DASHBOARD_PORT, DASHBOARD_APP, environment, threads=DASHBOARD_THREADS)

    def _of_lab(
        self, role: Role, host: str, port: int, app: str, environment: Mapping[str, str], threads: int = 4
    ) -> ProcessSpec:
        """A process of the lab itself, on none of its nodes."""
        directory, full = self.project.root.absolute(), {**os.environ, **environment}
        return ProcessSpec(role, "", role, host, port, directory, self._log(role), full, app=app, threads=threads)

    def _redis(self, node: str) -> ProcessSpec:
        host, port = self.constellation.nodes[node].ip, self._ports.redis_port
        directory = self.options.run_directory / "redis" / node
        argv = redis_command(
            self.options.redis_binary, host, port, directory, self._ports.password, self._ports.redis_fsync
        )
        name = f"{node}-redis"
        return ProcessSpec(name, node, "redis", host, port, directory, self._log(name), dict(os.environ), tuple(argv))

    def _broker(self, node: str) -> ProcessSpec:
        paths = [*self.project.object_paths, *self.options.objects]
        environment = {
            "SKYLARK_OBJECTS": os.pathsep.join(str(path.absolute()) for path in paths),
            "SKYLARK_PING_SOURCES": "on" if node == self.home else "off",
        }
        return self._gunicorn(
            node, "broker", "broker", self._ports.broker_port, SERVICE_APPS["broker"], self.project.root, environment
        )

    def _service(self, node: str, name: str) -> ProcessSpec:
        """node-info or elect: the project's own folder where it has one, else the library's application."""
        role: Role = "elect" if name == "elect" else "node-info"
        port = NODE_SERVICES[name]
        own = self.project.functions.get(role)
        if own is not None:
            return self._gunicorn(node, role, role, port, "function:app", own.folder)
        return self._gunicorn(node, role, role, port, SERVICE_APPS[role], self.project.root)

    def _function(self, node: str, name: str, port: int) -> ProcessSpec:
        return self._gunicorn(node, name, "function", port, "function:app", self.project.functions[name].folder)

    def _gunicorn(
        self,
        node: str,
        name: str,
        role: Role,
        port: int,
        app: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> ProcessSpec:
        host = self.constellation.nodes[node].ip
        full = {**os.environ, **self._node_environment(node, host), **(environment or {}), **self.options.environment}
        name = f"{node}-{name}"
        worker: WorkerClass = "asgi" if role == "broker" else "gthread"
        return ProcessSpec(
            name, node, role, host, port, directory.absolute(), self._log(name), full, app=app, worker_class=worker
        )

    def _node_environment(self, node: str, host: str) -> dict[str, str]:
        return {
            "NODE_NAME": node,
            "LOCAL_NODE_HOST": host,
            "SKYLARK_TICK": f"{self.tick_s}s",
            "SKYLARK_CONSTELLATION": str(self._loopback.read_by(node)),
            "SKYLARK_NODES": "file",  # a lab within a pod is no part of its cluster
        }

    def _log(self, name: str) -> Path:
        return self.options.run_directory / "logs" / f"{name}.log"
