from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from libskylark.constellation import Constellation, read_constellation
from tests.deployment.kustomize import Manifest, build

DEPLOYMENT = Path(__file__).parents[2] / "deployment"
OVERLAYS = sorted(path.parent.name for path in DEPLOYMENT.glob("overlays/*/kustomization.yaml"))

_build = cache(build)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    """Each overlay's name in turn."""
    name: str = request.param
    return name


@pytest.fixture
def objects(overlay: str) -> list[Manifest]:
    """What an overlay builds; not to be changed."""
    return _build(DEPLOYMENT / "overlays" / overlay)


@pytest.fixture
def constellation(overlay: str) -> Constellation:
    own = DEPLOYMENT / "overlays" / overlay / "constellation.yaml"
    return read_constellation(own if own.is_file() else DEPLOYMENT / "constellation.yaml")
