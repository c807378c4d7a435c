"""Loads the modules of the function folders, each of which runs as its own program."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from libskylark.clock import SystemClock
from libskylark.constellation import ConstellationSpec
from libskylark.mover import Mover
from libskylark.services import elect, node_info
from libskylark.store import Stores
from libskylark.yamlfile import dump
from tests.conftest import RedisNode, Serve, Write

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


@pytest.fixture
def load_on_node(
    load_function: LoadFunction, redis_node: RedisNode, other_node: RedisNode, serve: Serve, write: Write
) -> LoadFunction:
    """`load_on_node("single")`: a function of the node `here`, which has an elect and a link to `there`."""
    spec = ConstellationSpec.model_validate(
        {
            "nodes": [
                {"name": "here", "type": "Sat", "ip": redis_node.host},
                {"name": "there", "type": "Cloud", "ip": other_node.host},
            ],
            "link_types": {"Cloud-to-Sat": {"latency_ms": 60, "bandwidth_mbps": 90}},
            "links": [["here", "there"]],
        }
    )
    path = write("constellation.yaml", dump(spec.model_dump(exclude_none=True)))
    settings = redis_node.settings("here", constellation=path)
    node_info_port = serve(node_info.create_app(settings))
    app = elect.create_app(settings.model_copy(update={"node_info_port": node_info_port}), background=False)
    environment = {
        "NODE_NAME": "here",
        "LOCAL_NODE_HOST": redis_node.host,
        "SKYLARK_REDIS_PORT": str(redis_node.port),
        "SKYLARK_ELECT_PORT": str(serve(app)),
        "NODE_INFO_PORT": str(node_info_port),
        "SKYLARK_ELECT_TIMEOUT": "10s",
        "SKYLARK_PUSH_WAIT": "100ms",
    }
    return lambda folder, **changes: load_function(folder, **{**environment, **changes})


@pytest.fixture
def mover(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mover]:
    """That of the node `here`, at work."""
    monkeypatch.setattr("libskylark.mover._BLOCK_S", 0.05)  # so it stops sooner
    mover = Mover(stores, SystemClock(), lambda event: None)
    mover.start()
    yield mover
    mover.stop()
