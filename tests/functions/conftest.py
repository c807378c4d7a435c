"""Loads the modules of the function folders, each of which runs as its own program."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FUNCTIONS = Path(__file__).parents[2] / "functions"

# But for function.py, modules have unique names over these folders: all can be imported side by side.
sys.path.extend(str(FUNCTIONS / folder) for folder in ("camera", "preprocess", "detect", "alarm"))

LoadFunction = Callable[..., ModuleType]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The functions ignore this warning when they are imported; pytest forgets that for every test.
    here = Path(__file__).parent
    ignored = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
    for item in items:
        if here in item.path.parents:
            item.add_marker(ignored)


@pytest.fixture
def load_function(monkeypatch: pytest.MonkeyPatch) -> LoadFunction:
    """`load_function("camera", SKYLARK_CAMERA_SEED="3")`: a fresh function.py under that environment."""

    def load(folder: str, **environment: str) -> ModuleType:
        for key in ("IMAGES", "SEED", "FIRST_EPOCH", "FRAMES", "AREA"):
            monkeypatch.delenv(f"SKYLARK_CAMERA_{key}", raising=False)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        name = f"{folder}_function"
        spec = importlib.util.spec_from_file_location(name, FUNCTIONS / folder / "function.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up while they are made.
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
