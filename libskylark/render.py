"""The Knative objects that follow from a constellation: one Trigger per function and node, one per elect.

Deterministic: the committed files under triggers/ are this module's output, and a test says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from libskylark.constellation import Constellation
from libskylark.event import NODE, TICK_TYPE
from libskylark.yamlfile import dump

NAMESPACE: Final = "default"
BROKER: Final = "default"
MARK: Final = "# Made by `skylark render` from deployment/constellation.yaml; edit that file, not this one.\n"

Manifest = dict[str, Any]


def render_triggers(constellation: Constellation) -> Mapping[str, str]:
    """File name -> text of every generated file under triggers/."""
    files: dict[str, list[Manifest]] = {}
    for name, function in constellation.functions.items():
        if function.consumes:
            files[f"{name}.yaml"] = list(_function_triggers(name, function.consumes, function.nodes))
    files["elect.yaml"] = [
        _trigger(f"{node}-elect", {"type": TICK_TYPE}, _service(f"{node}-elect", "v1")) for node in constellation.nodes
    ]
    files["unaddressed.yaml"] = list(_unaddressed_triggers(constellation))
    return {name: MARK + "---\n".join(map(dump, manifests)) for name, manifests in files.items() if manifests}


def stale_files(constellation: Constellation, directory: Path) -> list[Path]:
    """The generated files in `directory` that are missing or differ from what would be rendered now."""
    stale = []
    for name, text in render_triggers(constellation).items():
        path = directory / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
    return stale


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
