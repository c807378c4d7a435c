"""A project: a folder with functions/, brokers/, triggers/ and, where it has one, deployment/constellation.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libskylark.constellation import (
    NODE_SERVICES,
    Constellation,
    ConstellationSpec,
    FunctionSpec,
    NodeSpec,
    read_constellation,
)
from libskylark.errors import ConfigError, DocumentError, Fault
from libskylark.event import NODE, TICK_TYPE
from libskylark.eventing.filters import required_pairs
from libskylark.eventing.loading import Loaded, Objects, load_objects
from libskylark.eventing.objects import Destination, Trigger, TriggerSpec
from libskylark.inspection import FunctionSource, inspect_function, service_name
from libskylark.render import RENDERED, Folder, nodes_folder, render_triggers

CONSTELLATION: Final = Path("deployment/constellation.yaml")
OBJECT_FOLDERS: Final = ("brokers", "triggers")

# Where a project says nothing of nodes, everything runs on this one.
ALONE: Final = NodeSpec(name="local", type="Cloud", ip="127.0.0.1")


@dataclass(frozen=True)
class Project:
    """A project that can run: everything is read, and every reference between its parts holds."""

    root: Path
    functions: Mapping[str, FunctionSource]
    objects: Objects
    constellation: Constellation

    @property
    def object_paths(self) -> list[Path]:
        return [self.root / name for name in OBJECT_FOLDERS if (self.root / name).is_dir()]


def read_project(root: Path) -> Project:
    """The project in `root`; raises DocumentError with every fault of all its files."""
    faults: list[Fault] = []
    functions = {source.name: source for source in _function_sources(root)}
    if not functions:
        faults.append(Fault(str(root), 0, "", "no function found, expected functions/NAME/function.py"))
    faults += [fault for source in functions.values() for fault in source.faults]
    objects, constellation = Objects(), None
    try:
        objects = load_objects([root / name for name in OBJECT_FOLDERS if (root / name).is_dir()])
    except DocumentError as error:
        faults += error.faults
    try:
        constellation = _constellation(root, functions, objects)
    except DocumentError as error:
        faults += error.faults
    if constellation is not None:
        faults += _reference_faults(functions, objects, constellation)
    if faults or constellation is None:
        raise DocumentError(faults)
    return Project(root, functions, objects, constellation)


def stale_triggers(project: Project) -> list[Fault]:
    """Generated files that no longer follow from the constellation; none where a project generates none."""
    path = project.root / CONSTELLATION
    if not path.is_file():
        return []
    constellation = read_constellation(path)
    stale = Folder(project.root / "triggers", render_triggers(constellation)).stale()
    if (project.root / RENDERED).is_dir():
        stale += nodes_folder(constellation, project.root / RENDERED).stale()
    return [Fault(str(path), 0, "", "is not what the constellation gives; run `skylark render`") for path in stale]


def _function_sources(root: Path) -> Iterator[FunctionSource]:
    folder = root / "functions"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and not path.name.startswith((".", "__")):
            yield inspect_function(path)


def _constellation(root: Path, functions: Mapping[str, FunctionSource], objects: Objects) -> Constellation:
    """The project's constellation, or a single node; functions that it does not place run where chains end."""
    path = root / CONSTELLATION
    given = read_constellation(path) if path.is_file() else Constellation(ConstellationSpec(nodes=[ALONE]))
    placed = dict(given.spec.functions)
    for name, source in functions.items():
        if name not in placed and name not in NODE_SERVICES:
            consumes = _consumed_types(name, objects)
            placed[name] = FunctionSpec(nodes=[given.destination], consumes=consumes, emits=source.emits)
    return Constellation(given.spec.model_copy(update={"functions": placed}), given.document)


def _consumed_types(function: str, objects: Objects) -> list[str]:
    types: dict[str, None] = {}
    for loaded in objects.triggers.values():
        if _service(loaded.object.spec.subscriber) == function:
            types.update(dict.fromkeys(_required(loaded.object.spec, "type")))
    return list(types)


def _required(spec: TriggerSpec, attribute: str) -> list[str]:
    """The values of an attribute that a Trigger's filter insists on."""
    return sorted(value for name, value in required_pairs(spec) if name == attribute)


def _service(subscriber: Destination) -> str | None:
    """The name of the Service that a subscriber refers to."""
    return subscriber.ref.name if subscriber.ref and subscriber.ref.kind == "Service" else None


def _reference_faults(
    functions: Mapping[str, FunctionSource], objects: Objects, constellation: Constellation
) -> Iterator[Fault]:
    for name in constellation.spec.functions:
        if name not in functions and constellation.document:
            message = f"found no folder functions/{name.replace('-', '_')}"
            yield constellation.document.fault(("functions", name), message)
    for loaded in objects.triggers.values():
        yield from _trigger_faults(loaded, functions, constellation)
    for source in functions.values():
        if source.anchored:
            yield from _anchoring_faults(source, constellation)


def _anchoring_faults(source: FunctionSource, constellation: Constellation) -> Iterator[Fault]:
    """An event that follows an anchored memory goes to the owner's node, and to all that takes its type there."""
    spec = constellation.functions.get(source.name)
    for event_type in spec.consumes if spec else ():
        others = [name for name in constellation.consumers(event_type) if name != source.name]
        if event_type == TICK_TYPE:
            others.append("every elect")
        if others:
            message = f"is anchored and takes {event_type}, as {', '.join(others)} does: they would get it twice"
            yield Fault(str(source.folder / "function.py"), 0, "app", message)


def _trigger_faults(
    loaded: Loaded[Trigger], functions: Mapping[str, FunctionSource], constellation: Constellation
) -> Iterator[Fault]:
    spec = loaded.object.spec
    for node in _required(spec, NODE):
        if node not in constellation.nodes:
            known = ", ".join(constellation.nodes)
            yield loaded.fault(("spec", "filter", "attributes", NODE), f"found {node!r}, expected a node: {known}")
    service = _service(spec.subscriber)
    if service is None:
        return
    try:
        endpoint = constellation.locate(service_name(service), constellation.destination)
    except ConfigError as error:
        yield loaded.fault(("spec", "subscriber", "ref", "name"), str(error))
        return
    source = functions.get(endpoint.function)
    if source and source.emits and source.emits in _required(spec, "type"):
        message = f"{endpoint.function} emits {source.emits}, which comes back to it without end"
        yield loaded.fault(("spec", "filter"), message)
