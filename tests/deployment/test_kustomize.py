"""The kustomizations build, hold every file, and build what kustomize itself makes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.deployment.conftest import DEPLOYMENT, OVERLAYS
from tests.deployment.kustomize import BuildError, Manifest, build, identity, read

ROOT = DEPLOYMENT.parent
KUSTOMIZE = [[path] for name in ("kustomize",) if (path := shutil.which(name))]
KUSTOMIZE += [[path, "kustomize"] for name in ("kubectl",) if (path := shutil.which(name))]
HASH = re.compile(r"-[a-z0-9]{10}$")


def test_there_is_an_overlay_for_every_engine() -> None:
    assert OVERLAYS == ["in-memory", "kafka", "local", "nats", "rabbitmq"]


@pytest.mark.skipif(not KUSTOMIZE, reason="neither kustomize nor kubectl is on the PATH")
def test_kustomize_builds_the_same(overlay: str, objects: list[Manifest]) -> None:
    command = [*KUSTOMIZE[0], "build"] if len(KUSTOMIZE[0]) == 1 else KUSTOMIZE[0]
    done = subprocess.run(
        [*command, str(DEPLOYMENT / "overlays" / overlay)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = [document for document in YAML(typ="safe").load_all(StringIO(done.stdout)) if document]
    generated = {m["metadata"]["name"] for m in made if m["kind"] == "ConfigMap" and HASH.search(m["metadata"]["name"])}
    plain = {name: HASH.sub("", name) for name in generated}
    assert set(plain.values()) == {"constellation", "redis", "skylark-settings"}
    theirs = {identity(manifest): manifest for manifest in renamed(made, plain)}
    assert theirs == {identity(manifest): manifest for manifest in objects}


def renamed(content: Any, names: dict[str, str]) -> Any:
    if isinstance(content, dict):
        return {key: renamed(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [renamed(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content


# What makes images, and what Prometheus reads.
_NO_OBJECTS = (ROOT / "deployment", ROOT / "deployment/monitoring")


def test_every_file_is_in_a_kustomization() -> None:
    left_out = []
    for path in [path for name in ("brokers", "triggers", "deployment") for path in (ROOT / name).rglob("*.yaml")]:
        if path.name in ("kustomization.yaml", "constellation.yaml") or path.parent in _NO_OBJECTS:
            continue
        kustomization = path.parent / "kustomization.yaml"
        (content,) = read(kustomization) if kustomization.is_file() else [{}]
        if path.name not in [*content.get("resources", []), *content.get("configurations", [])]:
            left_out.append(str(path.relative_to(ROOT)))
    assert left_out == []


def test_a_patch_without_a_target_is_refused(tmp_path: Path) -> None:
    patches = [{"target": {"group": "apps", "kind": "DaemonSet"}, "patch": "- {op: remove, path: /spec}"}]
    content = {"kind": "Kustomization", "resources": [], "patches": patches}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(content))
    with pytest.raises(BuildError, match="no object matches"):
        build(tmp_path)


def test_an_object_that_is_defined_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    (tmp_path / "kustomization.yaml").write_text("kind: Kustomization\nresources: [a.yaml, b.yaml]\n")
    with pytest.raises(BuildError, match="defined twice"):
        build(tmp_path)
