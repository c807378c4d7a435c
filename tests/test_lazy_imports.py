"""What a process does not import before it needs it: a cold start waits for every import, and so does an event."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# As the image's command loads a role, without serving it.
_LOAD = """
import json, os, sys
from libskylark.serving import serving
application = serving(sys.argv[1:], os.environ)
os.chdir(application.served.directory)
sys.path.insert(0, str(application.served.directory))
application.load()
print(json.dumps(sorted(sys.modules)), flush=True)
os._exit(0)
"""
_PATHS = {"rustworkx", "libskylark.routes"}  # that find paths
_PICTURES = {"rasterio", "scipy"}  # that work on pictures
_CLUSTER = {"lightkube", "httpx2", "msgspec"}  # that talk to Kubernetes
_FILES = {"ruamel.yaml", "libskylark.constellation"}  # that read YAML
_TOLD = {"rich"}  # that colour lines
_BROKER = {"libskylark.eventing.app", "uvloop", "lark", "yarl"}

NOT_IMPORTED = {
    "alarm": {"numpy", *_PATHS, *_PICTURES, *_CLUSTER, *_FILES, *_BROKER, *_TOLD},
    "client": {"numpy", *_PATHS, *_PICTURES, *_CLUSTER, *_BROKER, *_TOLD},
    # At a tick, six of seven satellites are not above the area, and have nothing to capture.
    "camera": {"numpy", *_PATHS, *_PICTURES, *_CLUSTER, *_FILES, *_BROKER, *_TOLD},
    "preprocess": {"scipy", *_PATHS, *_CLUSTER, *_FILES, *_BROKER, *_TOLD},
    "detect": {*_PATHS, *_CLUSTER, *_FILES, *_BROKER, *_TOLD},
    "node-info": {"numpy", *_PATHS, *_PICTURES, *_CLUSTER, *_BROKER, *_TOLD},
    "elect": {*_PICTURES, *_CLUSTER, *_FILES, *_BROKER, *_TOLD},
}


@pytest.mark.parametrize("role", NOT_IMPORTED)
def test_a_role_imports_nothing_that_it_may_never_need(role: str) -> None:
    environment = {
        **os.environ,
        "SKYLARK_FUNCTIONS": str(ROOT / "functions"),
        "SKYLARK_CONSTELLATION": str(ROOT / "deployment/constellation.yaml"),
    }
    command = [sys.executable, "-c", _LOAD, role]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    imported = set(json.loads(loaded.stdout))
    assert "flask" in imported
    assert imported & NOT_IMPORTED[role] == set()


def test_what_is_to_be_lazy_is_there_to_be_imported() -> None:
    names = {name for names in NOT_IMPORTED.values() for name in names}
    command = [sys.executable, "-c", f"import {', '.join(sorted(names))}"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr == ""
