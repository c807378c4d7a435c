"""The part of kustomize that our files use, so that what they build is tested where no kustomize is installed.

It knows resources, components, namespace, labels, images, configMapGenerator and JSON patches, and refuses any other
field. Names of generated ConfigMaps stay as they are: kustomize appends a hash of the content. Where kustomize or
kubectl is installed, test_kustomize.py compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

Manifest = dict[str, Any]

FIELDS = {
    "apiVersion",
    "kind",
    "resources",
    "components",
    "namespace",
    "labels",
    "images",
    "configMapGenerator",
    "patches",
    "configurations",
}
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


class BuildError(Exception):
    """A kustomization that kustomize would refuse, or that uses what this builder does not know."""


def read(path: Path) -> list[Manifest]:
    """The documents of a YAML file as plain dicts and lists."""
    return [document for document in YAML(typ="safe").load_all(path.read_text("utf-8")) if document]


def build(folder: Path) -> list[Manifest]:
    """The objects of a kustomization; raises BuildError."""
    (kustomization,) = read(folder / "kustomization.yaml")
    if kustomization["kind"] != "Kustomization":
        raise BuildError(f"{folder}: found {kustomization['kind']}, which is no base")
    return _apply(folder, kustomization, [])


def identity(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def _apply(folder: Path, kustomization: Manifest, objects: list[Manifest]) -> list[Manifest]:
    if unknown := set(kustomization) - FIELDS:
        raise BuildError(f"{folder}: unknown fields {unknown}")
    for resource in kustomization.get("resources", []):
        path = folder / resource
        if path.is_dir():
            objects += build(path)
        elif path.parent != folder:
            raise BuildError(f"{folder}: {resource} is a file outside of its folder")
        else:
            objects += read(path)
    objects += [_config_map(folder, entry) for entry in kustomization.get("configMapGenerator", [])]
    for component in kustomization.get("components", []):
        (content,) = read(folder / component / "kustomization.yaml")
        if content["kind"] != "Component":
            raise BuildError(f"{folder}: {component} is no Component")
        objects = _apply(folder / component, content, objects)
    for patch in kustomization.get("patches", []):
        _patch(objects, patch, folder)
    for manifest in objects:
        _transform(manifest, kustomization)
    found = [identity(manifest) for manifest in objects]
    if twice := {entry for entry in found if found.count(entry) > 1}:
        raise BuildError(f"{folder}: defined twice: {twice}")
    return objects


def _config_map(folder: Path, entry: Manifest) -> Manifest:
    if unknown := set(entry) - {"name", "files", "literals"}:
        raise BuildError(f"{folder}: unknown fields {unknown} of configMapGenerator {entry['name']}")
    data = {name: (folder / name).read_text("utf-8") for name in entry.get("files", [])}
    data.update(literal.split("=", 1) for literal in entry.get("literals", []))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": entry["name"]}, "data": data}


def _transform(manifest: Manifest, kustomization: Manifest) -> None:
    metadata = manifest["metadata"]
    if namespace := kustomization.get("namespace"):
        if manifest["kind"] == "Namespace":
            metadata["name"] = namespace
        elif manifest["kind"] not in CLUSTER_WIDE:
            metadata["namespace"] = namespace
    for entry in kustomization.get("labels", []):
        metadata["labels"] = {**metadata.get("labels", {}), **entry["pairs"]}
    images = {image["name"]: image for image in kustomization.get("images", [])}
    for container in containers(manifest):
        if image := images.get(container["image"]):
            container["image"] = f"{image['newName']}:{image['newTag']}"


def containers(manifest: Manifest) -> Iterator[Manifest]:
    """All containers of a workload, those that run first included."""
    pod = pod_of(manifest) or {}
    yield from [*pod.get("initContainers", []), *pod.get("containers", [])]


def pod_of(manifest: Manifest) -> Manifest | None:
    """The pod's specification of a workload; None for other objects."""
    template = manifest.get("spec", {}).get("template", {}) if isinstance(manifest.get("spec"), dict) else {}
    return template.get("spec") if "containers" in template.get("spec", {}) else None


def _patch(objects: list[Manifest], patch: Manifest, folder: Path) -> None:
    target = patch["target"]
    matching = [manifest for manifest in objects if _matches(manifest, target)]
    if not matching:
        raise BuildError(f"{folder}: no object matches {target}")
    for operation in YAML(typ="safe").load(patch["patch"]):
        for manifest in matching:
            _operate(manifest, deepcopy(operation))


def _matches(manifest: Manifest, target: Manifest) -> bool:
    group = manifest["apiVersion"].partition("/")[0]
    name = re.fullmatch(target.get("name", ".*"), manifest["metadata"]["name"])
    return group == target["group"] and manifest["kind"] == target["kind"] and name is not None


def _operate(manifest: Manifest, operation: Manifest) -> None:
    *way, last = operation["path"].strip("/").split("/")
    node: Any = manifest
    for part in way:
        node = node[int(part) if isinstance(node, list) else part]
    key = int(last) if isinstance(node, list) else last
    if operation["op"] in ("replace", "remove"):
        node[key]  # it must be there
    if operation["op"] == "remove":
        del node[key]
    elif isinstance(node, list) and operation["op"] == "add":
        node.insert(key, operation["value"])
    else:
        node[key] = operation["value"]
