"""The page about settings: every environment variable, by who reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from docs.generator.fields import default, form
from docs.generator.places import ROOT
from libskylark.config import NodeSettings
from libskylark.eventing.settings import BrokerSettings
from libskylark.lab.link_server import LinkSettings
from libskylark.logs import LogSettings
from libskylark.services.cluster import ClusterSettings
from libskylark.serving import ServingSettings

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "Every process of a node, and the `skylark` command": NodeSettings,
    "Logs of every process": LogSettings,
    "The broker": BrokerSettings,
    "A role that is served alone (`python -m libskylark.serving ROLE`)": ServingSettings,
    "node-info, for the nodes of a cluster": ClusterSettings,
    "Emulated links (`skylark up --links`)": LinkSettings,
}
_NAMED: Final = re.compile(r"#: (?P<name>SKYLARK_[A-Z_]+): (?P<meaning>.+)")


def settings_page() -> str:
    """Every environment variable, by who reads it."""
    lines = [
        "# Settings\n",
        "Settings are environment variables, read and checked when a process starts: a value that cannot be used",
        "ends it with the name, what was found, and what would be right. A variable that is not set, or empty,",
        "takes the default. `skylark up` hands its own environment to all processes of a lab. In Python they are",
        "arguments of the models that are named here. A duration is a number with `ms`, `s`, `m` or `h`; without a",
        "unit it is in seconds.",
    ]
    for title, model in MODELS.items():
        lines += ["", f"## {title}\n", f"`{model.__module__}.{model.__name__}`\n"]
        lines += ["| variable | default | form | meaning |", "| --- | --- | --- | --- |"]
        for name, field in model.model_fields.items():
            cells = (f"`{field.validation_alias}`", default(field), form(name, field), field.description or "")
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Others\n", "| variable | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in sorted(named_settings().items())]
    lines += [
        "| `NO_COLOR` | set to anything, the `skylark` command prints without colours, as it does into a pipe |",
        "| `COLUMNS` | how wide the `skylark` command takes the screen for, where it is none |",
        "| `TMPDIR` | where a lab keeps its files while it runs, unless `--data` names a folder |",
    ]
    return "\n".join(lines) + "\n"


def named_settings() -> dict[str, str]:
    """Settings that no model has: name to meaning, from comments `#: NAME: meaning`."""
    return {
        match["name"]: match["meaning"]
        for folder in ("libskylark", "functions")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for match in _NAMED.finditer(path.read_text(encoding="utf-8"))
    }
