from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from libskylark import Event, SettingError
from libskylark.testing import Answer, invoke

LoadFunction = Callable[..., ModuleType]

TICK = "dev.knative.sources.ping"
REQUEST = "dev.skylark.frame.requested"


@pytest.fixture
def camera(load_function: LoadFunction) -> ModuleType:
    return load_function("camera", SKYLARK_CAMERA_FIRST_EPOCH="100", SKYLARK_CAMERA_FRAMES="12")


def tick(camera: ModuleType, epoch: int, above: str = "here") -> Answer:
    return invoke(camera.app, Event.new(TICK, "/clock"), epoch=epoch, access=above)


def test_the_satellite_above_captures_at_a_tick(camera: ModuleType) -> None:
    answer = tick(camera, 103)
    assert answer.event is not None
    assert answer.event.type == "dev.skylark.frame.captured"
    assert answer.event.subject == answer.event.partition == "area-1"
    data = answer.event.json()
    assert data["frame"] == 3
    assert (data["satellite"], data["epoch"], data["synthetic"]) == ("here", 103, True)
    assert data["bands"] == ["SWIR2", "SWIR1", "NIR"]
    assert data["bytes"] == len(answer.state["image"])
    with MemoryFile(answer.state["image"]) as memory, memory.open() as source:
        assert source.count == 3


def test_the_other_satellites_capture_nothing(camera: ModuleType) -> None:
    answer = tick(camera, 103, above="elsewhere")
    assert answer.status == 202
    assert answer.event is None


@pytest.mark.parametrize("epoch", [99, 112, 5000])
def test_ticks_outside_the_set_frames_capture_nothing(camera: ModuleType, epoch: int) -> None:
    assert tick(camera, epoch).status == 202


def test_every_tick_starts_a_chain_and_a_request_does_not(camera: ModuleType) -> None:
    first = Event.new(TICK, "/clock", id="1", correlationid="old")
    request = Event.new(REQUEST, "/me", {"frame": 1}, correlationid="old")
    started = invoke(camera.app, first, epoch=100).event
    asked = invoke(camera.app, request, epoch=100).event
    assert started is not None
    assert asked is not None
    assert started.chain != "old"
    assert asked.chain == "old"


def test_a_request_captures_its_frame_on_any_satellite(camera: ModuleType) -> None:
    asked = invoke(camera.app, Event.new(REQUEST, "/me", {"frame": 40}), epoch=103, access="elsewhere").event
    current = invoke(camera.app, Event.new(REQUEST, "/me"), epoch=103, access="elsewhere").event
    assert asked is not None
    assert current is not None
    assert asked.json()["frame"] == 40
    assert current.json()["frame"] == 3


@pytest.mark.parametrize("data", [{"frame": -1}, {"frame": "x"}, {"frame": True}, [3], b"no json"])
def test_a_faulty_request_is_refused(camera: ModuleType, data: object) -> None:
    answer = invoke(camera.app, Event.new(REQUEST, "/me", data), epoch=103)
    assert answer.status == 400


def test_truth_is_answered_for_the_scene(camera: ModuleType) -> None:
    answer = camera.app.test_client().get("/truth?frame=3")
    assert answer.status_code == 200
    assert answer.json["frame"] == 3
    assert answer.json["synthetic"] is True
    assert set(answer.json["fires"][0]) == {"id", "lon", "lat", "area_m2", "pixels", "visible", "radius_m"}


@pytest.mark.parametrize("query", ["", "?frame=", "?frame=-1", "?frame=x"])
def test_truth_without_a_frame_is_refused(camera: ModuleType, query: str) -> None:
    answer = camera.app.test_client().get(f"/truth{query}")
    assert answer.status_code == 400
    assert "whole number" in answer.json["detail"]


def test_a_folder_of_pictures_has_no_truth(load_function: LoadFunction, tmp_path: Path) -> None:
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "width": 6, "height": 6}
    with rasterio.open(tmp_path / "a.png", "w", **profile) as target:
        target.write(np.full((3, 6, 6), 80, dtype=np.uint8))
    camera = load_function("camera", SKYLARK_CAMERA_IMAGES=str(tmp_path))
    answer = tick(camera, 7)
    assert answer.event is not None
    assert (answer.event.json()["synthetic"], answer.event.json()["picture"]) == (False, "a.png")
    truth = camera.app.test_client().get("/truth?frame=3")
    assert truth.status_code == 404
    assert str(tmp_path) in truth.json["detail"]


def test_a_broken_picture_in_the_folder_is_named(load_function: LoadFunction, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    answer = tick(load_function("camera", SKYLARK_CAMERA_IMAGES=str(tmp_path)), 0)
    assert answer.status == 400
    assert b"broken.png" in answer.body


@pytest.mark.parametrize("key", ["SEED", "FIRST_EPOCH", "FRAMES"])
@pytest.mark.parametrize("value", ["-1", "1.5", "many"])
def test_a_faulty_setting_stops_the_start(load_function: LoadFunction, key: str, value: str) -> None:
    with pytest.raises(SettingError, match=rf"SKYLARK_CAMERA_{key}.*{value}"):
        load_function("camera", **{f"SKYLARK_CAMERA_{key}": value})


def test_an_empty_folder_stops_the_start(load_function: LoadFunction, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no picture"):
        load_function("camera", SKYLARK_CAMERA_IMAGES=str(tmp_path))
