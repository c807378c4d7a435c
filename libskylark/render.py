"""The files that follow from a constellation: its Triggers, and what else a cluster needs for each node.

Deterministic: the committed files under triggers/ and deployment/rendered/ are this module's output, and tests say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libskylark.constellation import Constellation, ConstellationSpec, NodeSpec
from libskylark.event import NODE, TICK_TYPE
from libskylark.manifests import (
    check_names,
    constellation_generator,
    disruption_budgets,
    elect_services,
    knative_services,
)
from libskylark.topology import NODE_TYPES
from libskylark.yamlfile import dump

NAMESPACE: Final = "default"
BROKER: Final = "default"
RENDERED: Final = Path("deployment/rendered")
MARK: Final = "# Made by `skylark render` from deployment/constellation.yaml; edit that file, not this one.\n"

_KUSTOMIZATION: Final = "kustomization.yaml"
_CONSTELLATION: Final = "constellation.yaml"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """Generated files of one directory: name -> text."""

    directory: Path
    files: Mapping[str, str]

    def stale(self) -> list[Path]:
        """The files that are missing or differ from what would be rendered now."""
        return [self.directory / name for name, text in self.files.items() if _text(self.directory / name) != text]

    def write(self) -> list[Path]:
        """Writes what is stale, and removes generated files that are none any more; returns what was written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        stale = self.stale()
        for path in self.directory.glob("*.yaml"):
            if path.name not in self.files and _is_generated(path):
                path.unlink()  # of a function that the constellation no longer has
        for path in stale:
            path.write_text(self.files[path.name], encoding="utf-8")
        return stale


def render_triggers(constellation: Constellation) -> Mapping[str, str]:
    """File name -> text of every generated file of Triggers."""
    files: dict[str, list[Manifest]] = {}
    for name, function in constellation.functions.items():
        if function.consumes:
            files[f"{name}.yaml"] = list(_function_triggers(name, function.consumes, function.nodes))
    files["elect.yaml"] = [
        _trigger(f"{node}-elect", {"type": TICK_TYPE}, _service(f"{node}-elect", "v1")) for node in constellation.nodes
    ]
    files["unaddressed.yaml"] = list(_unaddressed_triggers(constellation))
    return _texts(files)


def render_nodes(constellation: Constellation) -> Mapping[str, str]:
    """File name -> text of what a cluster needs for each node: Services, addresses, budgets, the constellation itself.

    Raises ConfigError for names that Kubernetes would refuse.
    """
    check_names(constellation)
    files = {f"{name}.yaml": list(knative_services(constellation, name)) for name in constellation.functions}
    files["elect.yaml"] = list(elect_services(constellation))
    files["budgets.yaml"] = list(disruption_budgets(constellation))
    return {**_texts(files), _CONSTELLATION: MARK + dump(constellation.spec.model_dump(exclude_none=True))}


def triggers_folder(constellation: Constellation, directory: Path) -> Folder:
    """The Triggers as a base for kustomize, which takes along what was written by hand there."""
    files = render_triggers(constellation)
    return _folder(directory, files, [*files, *_by_hand(directory, files)])


def nodes_folder(constellation: Constellation, directory: Path, bases: Iterable[str] = ()) -> Folder:
    """What each node needs, as a base for kustomize that takes along `bases`, folders below it."""
    files = render_nodes(constellation)
    resources = [*bases, *(name for name in files if name != _CONSTELLATION)]
    generator = constellation_generator(constellation, _CONSTELLATION)
    return _folder(directory, files, resources, {"configMapGenerator": [generator]})


def with_nodes(spec: ConstellationSpec, nodes: list[NodeSpec]) -> ConstellationSpec:
    """The constellation on other nodes: links, rotation and placement that name none of them are left out.

    A function whose nodes are all gone goes with them; one that had none stays. Nodes that it had already stay in its
    order, new ones follow.
    """
    order = {node.name: position for position, node in enumerate(spec.nodes)}
    nodes = sorted(nodes, key=lambda node: order.get(node.name, len(order)))
    names, types = {node.name for node in nodes}, {node.type for node in nodes}
    rotation = spec.rotation
    if rotation is not None:
        kept = [name for name in rotation.satellites if name in names]
        usable = rotation.ground in names and kept
        rotation = rotation.model_copy(update={"satellites": kept}) if usable else None
    functions = {}
    for name, function in spec.functions.items():
        hosts = [host for host in function.nodes if host in (types if host in NODE_TYPES else names)]
        if hosts or not function.nodes:
            functions[name] = function.model_copy(update={"nodes": hosts})
    changes = {
        "nodes": nodes,
        "links": [link for link in spec.links if names.issuperset(link)],
        "rotation": rotation,
        "destination": spec.destination if spec.destination in names else None,
        "functions": functions,
    }
    return spec.model_copy(update=changes)


def _texts(files: Mapping[str, list[Manifest]]) -> dict[str, str]:
    return {name: MARK + "---\n".join(map(dump, manifests)) for name, manifests in files.items() if manifests}


def _folder(
    directory: Path, files: Mapping[str, str], resources: Iterable[str], more: Manifest | None = None
) -> Folder:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(resources),
        **(more or {}),
    }
    return Folder(directory, {**files, _KUSTOMIZATION: MARK + dump(kustomization)})


def _by_hand(directory: Path, files: Mapping[str, str]) -> Iterator[str]:
    for path in directory.glob("*.yaml"):
        if path.name not in (*files, _KUSTOMIZATION) and not _is_generated(path):
            yield path.name
    yield from (path.parent.name for path in directory.glob(f"*/{_KUSTOMIZATION}"))


def _is_generated(path: Path) -> bool:
    return (_text(path) or "").startswith(MARK)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _function_triggers(function: str, types: list[str], nodes: list[str]) -> Iterator[Manifest]:
    for event_type in types:
        # Ticks are for everyone and carry no node; where a function takes several types, names tell them apart.
        suffix = "" if len(types) == 1 else f"-{event_type.split('.')[-1]}"
        for node in nodes:
            attributes = {"type": event_type}
            if event_type != TICK_TYPE:
                attributes[NODE] = node
            yield _trigger(f"{node}-{function}{suffix}", attributes, _knative_service(f"{node}-{function}"))


def _unaddressed_triggers(constellation: Constellation) -> Iterator[Manifest]:
    """For each type that is routed by node: events that name no node which takes them go to elect for an address."""
    types = [t for function in constellation.functions.values() for t in function.consumes if t != TICK_TYPE]
    for event_type in dict.fromkeys(types):
        hosts = {node: None for name in constellation.consumers(event_type) for node in constellation.hosts(name)}
        addressed = [{"exact": {NODE: node}} for node in hosts]
        filters = [{"exact": {"type": event_type}}, {"not": {"any": addressed}}]
        name = f"unaddressed-{event_type.removeprefix('dev.skylark.').replace('.', '-')}"
        subscriber = {**_service("elect", "v1"), "uri": "/address"}
        yield _manifest(name, {"broker": BROKER, "filters": filters, "subscriber": subscriber})


def _trigger(name: str, attributes: dict[str, str], subscriber: Manifest) -> Manifest:
    return _manifest(name, {"broker": BROKER, "filter": {"attributes": attributes}, "subscriber": subscriber})


def _manifest(name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def _knative_service(name: str) -> Manifest:
    return _service(name, "serving.knative.dev/v1")


def _service(name: str, api_version: str) -> Manifest:
    return {"ref": {"apiVersion": api_version, "kind": "Service", "name": name}}
