"""Where the lab of a project runs: a file that other commands read, and clients of its stores."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import Constellation
from libskylark.errors import LabError
from libskylark.store import Store

if TYPE_CHECKING:  # a command that looks at a lab need not import what runs one
    from libskylark.lab.plan import Plan
    from libskylark.lab.tracked import ProcessStatus


def node_stores(constellation: Constellation) -> dict[str, Store]:
    """A client of the Redis of every node of a running lab, from its own constellation file."""
    settings = from_environment(NodeSettings)
    return {name: Store(node.ip, settings.redis_port, settings.password) for name, node in constellation.nodes.items()}


class LabRecord:
    """A file that tells other commands where the lab of a project runs; as a context manager, there while it does."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]
        self.path = Path(tempfile.gettempdir()) / f"skylark-{os.getuid()}-{name}.json"

    def __enter__(self) -> LabRecord:
        """Raises LabError where a lab of this project runs already."""
        running = self.read()
        if running is not None:
            raise LabError(f"a lab of this project runs already (process {running['pid']}); stop it first")
        self._write({"pid": os.getpid(), "started_s": time.time(), "processes": []})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)

    def write(self, plan: Plan, processes: list[ProcessStatus]) -> None:
        self._write(
            {
                "pid": os.getpid(),
                "started_s": time.time(),
                "tick_s": plan.tick_s,
                "constellation": str(plan.constellation_path),
                "processes": [
                    {"name": p.spec.name, "node": p.spec.node, "role": p.spec.role, "url": p.spec.url, "pid": p.pid}
                    for p in processes
                ],
            }
        )

    def read(self) -> dict[str, Any] | None:
        """What a running lab wrote; None where none runs."""
        try:
            content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if psutil.pid_exists(content.get("pid", -1)) else None

    def _write(self, content: dict[str, Any]) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(self.path)
