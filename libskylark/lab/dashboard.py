"""The live page as a process of the lab: where it listens, and the file that tells it what to watch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from libskylark.errors import SettingError

#: The environment variable with the path of the process's DashboardConfig.
VARIABLE: Final = "SKYLARK_DASHBOARD"
PORT: Final = 8060
APP: Final = "libskylark.dashboard.app:create_app()"

#: A viewer holds a thread for as long as it listens; a few more are for everything else.
MOST_VIEWERS: Final = 24
THREADS: Final = MOST_VIEWERS + 8


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """A process of the lab as the page names it; `address` is host:port."""

    name: str
    node: str
    role: str
    address: str


@dataclass(frozen=True)
class DashboardConfig:
    """What the page shows: a constellation whose nodes are where the page reaches them, and the lab's processes.

    `links_url` is that of the relay's control service, empty where links are not emulated; `hosts` are the names by
    which a browser may ask for the page.
    """

    project: str
    constellation: Path
    tick_s: float
    hosts: tuple[str, ...]
    links_url: str
    processes: tuple[WatchedProcess, ...]

    def write(self, path: Path) -> None:
        content = {**asdict(self), "constellation": str(self.constellation)}
        path.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> DashboardConfig:
        """Raises SettingError where the environment names no such file."""
        path = environment.get(VARIABLE)
        if not path:
            raise SettingError(VARIABLE, path, "the path of the page's configuration")
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(
            project=content["project"],
            constellation=Path(content["constellation"]),
            tick_s=content["tick_s"],
            hosts=tuple(content["hosts"]),
            links_url=content["links_url"],
            processes=tuple(WatchedProcess(**process) for process in content["processes"]),
        )
