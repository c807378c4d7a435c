"""The lab: the whole constellation of a project on this machine, started in order, and leaving nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from libskylark.errors import LabError
from libskylark.lab.checkup import require_free_ports, settle_page
from libskylark.lab.link_server import LabLinks
from libskylark.lab.plan import LabOptions, Plan
from libskylark.lab.process import ProcessEvent, ProcessSpec
from libskylark.lab.record import LabRecord, node_stores
from libskylark.lab.redis_server import find_redis_server
from libskylark.lab.supervisor import Supervisor
from libskylark.project import Project
from libskylark.sender import broker_url
from libskylark.store import Store

READY_TIMEOUT_S: Final = 60.0

Progress = Callable[[ProcessSpec], None]


class Lab:
    """A context manager around a running constellation.

    `start_nodes` brings up everything but the clock, `start_clock` the clock and what waits for its ticks.
    With `data` the stores' files are kept in that folder for the next time, else they go with the lab. With
    `links`, what one node sends to another passes links that behave as the constellation's; see the property.
    With `dashboard`, the live page is served beside the nodes, at `dashboard_port` or one that is free; see
    `dashboard_url`. Entering it raises LabError where a lab of this project runs already, there is no Redis server, or
    `dashboard_port` is taken.
    """

    plan: Plan
    supervisor: Supervisor
    run_directory: Path

    def __init__(
        self,
        project: Project,
        tick_s: float | None = None,
        network: str = "127.0",
        environment: Mapping[str, str] | None = None,
        data: Path | None = None,
        on_event: Callable[[ProcessEvent], None] | None = None,
        links: bool = False,
        dashboard: bool = False,
        dashboard_port: int | None = None,
    ) -> None:
        self._project = project
        self._tick_s = tick_s
        self._network = network
        self._environment = environment or {}
        self._data = data
        self._on_event = on_event
        self._emulates_links = links
        self._has_dashboard = dashboard
        self._dashboard_port = dashboard_port
        self._record = LabRecord(project.root)
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        with ExitStack() as stack:
            stack.enter_context(self._record)
            self.run_directory = stack.enter_context(_run_directory(self._data))
            options = LabOptions(
                self.run_directory,
                find_redis_server(),
                self._tick_s,
                self._network,
                self._environment,
                objects=(self.run_directory / "objects",),
                links=self._emulates_links,
                dashboard=self._has_dashboard,
            )
            self.plan = Plan(self._project, options)
            others = [spec for spec in self.plan.all_specs() if spec.role != "dashboard"]
            self._pages = [settle_page(page, others, self._dashboard_port) for page in self.plan.dashboard()]
            self.supervisor = stack.enter_context(Supervisor(self.run_directory, self.plan.preload, self._on_event))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add_objects(self, name: str, text: str) -> None:
        """A further file of Broker and Trigger objects; before `start_nodes`."""
        (self.run_directory / "objects" / name).write_text(text, encoding="utf-8")

    def start_nodes(self, on_ready: Progress | None = None) -> None:
        """Links and stores, then everything that needs no tick; raises LabError with what did not become ready."""
        first, services = [*self.plan.links(), *self.plan.stores()], [*self.plan.services(), *self._pages]
        require_free_ports([*first, *services, *self.plan.ticking()])
        for specs in (first, services):
            self.supervisor.start(specs)
            self.supervisor.wait_ready(specs, READY_TIMEOUT_S, on_ready)

    def start_clock(self, environment: Mapping[str, str] | None = None, on_ready: Progress | None = None) -> None:
        """The broker that ticks and the functions that wait for its ticks, with a further `environment`."""
        specs = [replace(s, environment={**s.environment, **(environment or {})}) for s in self.plan.ticking()]
        self.supervisor.start(specs)
        self.supervisor.wait_ready(specs, READY_TIMEOUT_S, on_ready)
        self._record.write(self.plan, self.supervisor.processes())

    def kill(self, name: str) -> ProcessSpec:
        """Ends one process like `kill -9`; the fork server starts it again. Raises LabError where it does not run."""
        known = [spec for spec in [*self._pages, *self.plan.all_specs()] if spec.name == name]
        pid = self.supervisor.pid(name)
        if not known or not pid:
            raise LabError(f"process {name}: {'does not run now' if known else 'the plan has none of that name'}")
        os.kill(pid, signal.SIGKILL)
        return known[0]

    def stop_node(self, node: str) -> None:
        """Ends all processes of a node at once, and for good; raises LabError where they stay."""
        self.supervisor.stop_names([spec.name for spec in self.plan.all_specs() if spec.node == node], grace_s=0)

    def broker_url(self, node: str) -> str:
        """Where events for a node's broker go."""
        return broker_url(self.plan.constellation.nodes[node].ip, self.plan.broker_port)

    @property
    def dashboard_url(self) -> str | None:
        """Where a browser finds the live page; None for a lab without one."""
        return next((f"{spec.url}/" for spec in self._pages), None)

    @property
    def invitation(self) -> str | None:
        """Where to watch the live page, in a sentence that says so where it had to go elsewhere; None without one."""
        if self.dashboard_url is None:
            return None
        (planned,) = self.plan.dashboard()
        moved = self._dashboard_port is None and self._pages != [planned]
        return f"watch it at {self.dashboard_url}" + (f" (port {planned.port} is taken)" if moved else "")

    @property
    def links(self) -> LabLinks:
        """The links between the nodes, to cut and to heal; raises LabError for a lab that emulates none."""
        if not (specs := self.plan.links()):
            raise LabError("this lab emulates no links; start it with links=True")
        return LabLinks(specs[0].url)

    def stores(self) -> dict[str, Store]:
        """A client of every node's Redis, past the links."""
        return node_stores(self.plan.constellation)


@contextmanager
def _run_directory(data: Path | None) -> Iterator[Path]:
    """The folder that a lab's processes write to; a temporary one, unless it is to be kept."""
    directory = data.absolute() if data else Path(tempfile.mkdtemp(prefix="skylark-"))
    try:
        try:
            for name in ("logs", "redis", "objects"):
                (directory / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"cannot write to {directory}: {error.strerror}; name another folder") from None
        yield directory
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)
