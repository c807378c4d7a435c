"""The lab that runs for a project: where its nodes are, for commands that talk to it from another terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import Constellation, read_constellation
from libskylark.errors import LabError
from libskylark.lab.record import LabRecord


class RunningLab:
    """Raises LabError where no lab of the project runs, or where it has not come up yet."""

    def __init__(self, project: Path) -> None:
        record = LabRecord(project).read()
        if record is None:
            raise LabError(f"no lab runs for {project.absolute()}; start one there with `skylark up`")
        if "constellation" not in record:
            raise LabError("the lab is still starting; try again in a moment")
        self.record: dict[str, Any] = record
        self.constellation: Constellation = read_constellation(Path(record["constellation"]))
        self.settings = from_environment(NodeSettings)

    def host(self, node: str | None) -> str:
        """The address of a node, of the one where chains end for None; raises click's error for an unknown one."""
        name = node or self.constellation.destination
        if name not in self.constellation.nodes:
            known = ", ".join(self.constellation.nodes)
            raise click.BadParameter(f"found {name!r}, expected a node of the constellation: {known}")
        return self.constellation.nodes[name].ip
