"""The project that the experiment runs: the user's nodes and links, and the stages of the chain as its functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from libskylark.bench.workflow.chain import ANYWHERE, PINNED, STAGES, event_types
from libskylark.constellation import Constellation, FunctionSpec
from libskylark.errors import LabError
from libskylark.project import CONSTELLATION, Project, read_project
from libskylark.render import BROKER, NAMESPACE, render_triggers
from libskylark.yamlfile import dump

_FUNCTION: Final = '''"""A stage of the chain."""

from libskylark.bench.workflow.stage import make_stage

app = make_stage("{name}")
'''

#: A stage answers when it has its state, however long that takes: the broker must not take it for dead meanwhile.
_DELIVERY: Final = {"retry": 2, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S", "timeout": "PT300S"}


def write_project(directory: Path, constellation: Constellation, pins: Mapping[str, str] = PINNED) -> Project:
    """The project in `directory`: each stage of `pins` on its node, and all of them on every node as ANYWHERE.

    Raises LabError where the constellation lacks one of the nodes.
    """
    if missing := [node for node in pins.values() if node not in constellation.nodes]:
        raise LabError(f"the chain is pinned to {', '.join(pins.values())}; found no node {', '.join(missing)}")
    functions = {
        name: FunctionSpec(nodes=[node], consumes=event_types(stage, pinned=True))
        for stage, (name, node) in enumerate(pins.items(), 1)
    }
    types = [event_type for stage in range(1, STAGES + 1) for event_type in event_types(stage, pinned=False)]
    functions[ANYWHERE] = FunctionSpec(nodes=list(constellation.nodes), consumes=types)
    spec = constellation.spec.model_copy(update={"functions": functions})
    for name in functions:
        _write(directory / "functions" / name.replace("-", "_") / "function.py", _FUNCTION.format(name=name))
    _write(directory / CONSTELLATION, dump(spec.model_dump(exclude_none=True)))
    _write(directory / "brokers" / "default.yaml", dump(_broker()))
    for name, text in render_triggers(Constellation(spec)).items():
        _write(directory / "triggers" / name, text)
    return read_project(directory)


def _broker() -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": BROKER, "namespace": NAMESPACE},
        "spec": {"delivery": _DELIVERY},
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
