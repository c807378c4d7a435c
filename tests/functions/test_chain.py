"""The handlers of preprocess, detect and alarm, alone and one after the other on frames of the scene."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import hotmap
import numpy as np
import pytest
from background import PERSISTENT_FRAMES
from calibrate import classify
from frames import SceneSource
from numpy.typing import NDArray
from scene import DN_OFFSET, DN_SCALE, Frame, Scene

from libskylark import Event, Function
from libskylark.codec import decode
from libskylark.lab.detection import Score, score
from libskylark.memory import MemoryName
from libskylark.testing import Answer, FakeLedger, invoke

LoadFunction = Callable[..., ModuleType]

CAPTURED = "dev.skylark.frame.captured"
PREPROCESSED = "dev.skylark.image.preprocessed"
DETECTED = "dev.skylark.hotspots.detected"

WORKS = (100, 40)  # row and column of a steel works


@pytest.fixture(scope="module")
def source() -> SceneSource:
    return SceneSource(7)


def captured(source: SceneSource, frame: int) -> tuple[Event, dict[str, Any]]:
    data = {"frame": frame, "area": "area-1", "satellite": "pi5u2", "epoch": frame, "synthetic": True}
    event = Event.new(CAPTURED, "/camera", data, subject="area-1", partitionkey="area-1")
    return event, {"image": source.capture(frame).content}


def emitted(answer: Answer) -> Event:
    assert answer.event is not None, answer.body
    return answer.event


def pictures(seed: int, frames: range) -> Iterator[tuple[Frame, NDArray[np.float32], NDArray[np.uint8]]]:
    """(frame, reflectance, mask) of the synthetic scene, as preprocess would have them."""
    scene = Scene(seed)
    for index in frames:
        frame = scene.frame(index)
        image = frame.dn * np.float32(DN_SCALE) + np.float32(DN_OFFSET)
        yield frame, image, classify(image, frame.dn[0] > 0)


def place(frame: Frame) -> dict[str, Any]:
    return {"crs": frame.crs, "transform": list(frame.transform)[:6]}


def watch(detect: Function, ledger: FakeLedger, number: int, image: Any, **state: Any) -> Answer:
    event = Event.new(PREPROCESSED, "/p", {"frame": number}, partitionkey="area-1")
    return invoke(detect, event, {"reflectance": image, **state}, ledger=ledger)


def test_preprocess_forwards_reflectance_mask_and_place(load_function: LoadFunction, source: SceneSource) -> None:
    event, state = captured(source, 3)
    answer = invoke(load_function("preprocess").app, event, state)
    data = emitted(answer).json()
    assert set(answer.state) == {"reflectance", "mask", "georeference"}
    assert answer.state["reflectance"].dtype == np.float32
    assert answer.state["reflectance"].shape == (3, 256, 256)
    assert answer.state["mask"].dtype == np.uint8
    assert answer.state["georeference"]["crs"] == "EPSG:32633"
    assert (data["frame"], data["area"], data["satellite"]) == (3, "area-1", "pi5u2")
    assert 0 <= data["cloud_fraction"] < 1
    assert data["cropped_from"] is None


@pytest.mark.parametrize("kind", ["image/tiff", "application/octet-stream"])
def test_preprocess_takes_a_posted_picture(load_function: LoadFunction, source: SceneSource, kind: str) -> None:
    event = Event.new("com.example.posted", "/me", source.capture(0).content, datacontenttype=kind)
    answer = invoke(load_function("preprocess").app, event)
    assert answer.state["reflectance"].shape == (3, 256, 256)
    assert emitted(answer).json()["georeferenced"] is True


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        (b"", "image/tiff", b"empty"),
        (b"II*\x00rubbish", "image/tiff", b"cannot be read"),
        (b"{}", "application/json", b"no picture"),
    ],
)
def test_preprocess_refuses_what_is_no_picture(
    load_function: LoadFunction, data: bytes, kind: str, told: bytes
) -> None:
    answer = invoke(load_function("preprocess").app, Event.new("com.example.posted", "/me", data, datacontenttype=kind))
    assert answer.status == 400
    assert told in answer.body


def test_detect_drops_the_arrays_and_tells_where_it_burns(load_function: LoadFunction, source: SceneSource) -> None:
    event, state = captured(source, 3)
    prepared = invoke(load_function("preprocess").app, event, state)
    answer = invoke(load_function("detect").app, emitted(prepared), prepared.state)
    data = emitted(answer).json()
    assert data["count"] == len(data["hotspots"]) > 0
    assert data["truncated"] is False
    assert (data["frame"], data["area"]) == (3, "area-1")
    assert answer.state == {"hotspots": data["hotspots"]}


def test_detect_caps_a_picture_full_of_fires(load_function: LoadFunction) -> None:
    image = np.full((3, 200, 200), 0.1, dtype=np.float32)
    image[0, ::6, ::6] = 0.9
    answer = invoke(load_function("detect").app, Event.new(PREPROCESSED, "/p", {"frame": 1}), {"reflectance": image})
    data = emitted(answer).json()
    assert (data["count"], len(data["hotspots"]), data["truncated"]) == (34 * 34, 500, True)
    assert data["hotspots"][0]["lon"] is None
    assert set(answer.state) == {"hotspots"}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({}, b"no reflectance"),
        ({"reflectance": "text"}, b"must be an array"),
        ({"reflectance": np.zeros((2, 4, 4), dtype=np.float32)}, b"(3, H, W)"),
    ],
)
def test_detect_refuses_faulty_state(load_function: LoadFunction, state: dict[str, Any], told: bytes) -> None:
    answer = invoke(load_function("detect").app, Event.new(PREPROCESSED, "/p", {"frame": 1}), state)
    assert answer.status == 400
    assert told in answer.body


@pytest.mark.parametrize("seed", range(4))
def test_memory_changes_nothing_of_what_is_found(load_function: LoadFunction, seed: int) -> None:
    detect, ledger, found, expected = load_function("detect").app, FakeLedger(), [], []
    for frame, image, mask in pictures(seed, range(6)):
        answer = watch(detect, ledger, frame.index, image, mask=mask, georeference=place(frame))
        fires = [fire.as_json() for fire in frame.fires]
        found.append((emitted(answer).json()["hotspots"], fires))
        expected.append((hotmap.clusters(hotmap.detect(image, mask), image, place(frame)), fires))
        assert answer.memory["frames_seen"] == frame.index + 1
    bare = [[{key: spot[key] for key in hotmap.Hotspot.__annotations__} for spot in spots] for spots, _ in found]
    assert bare == [spots for spots, _ in expected]
    assert score(found) == score(expected) != Score(0, 0, 0, 0)


def test_the_works_are_told_from_the_fires_of_the_scene(load_function: LoadFunction) -> None:
    detect, ledger, persistent_px = load_function("detect").app, FakeLedger(), []
    for frame, image, mask in pictures(3, range(PERSISTENT_FRAMES + 4)):
        image[:, WORKS[0], WORKS[1]] = 0.9, 0.3, 0.2
        mask[WORKS] = 0
        answer = watch(detect, ledger, frame.index, image, mask=mask, georeference=place(frame))
        spots = emitted(answer).json()["hotspots"]
        persistent_px.append([(spot["y"], spot["x"]) for spot in spots if spot["persistent"]])
        assert all(1 <= spot["frames_hot"] <= frame.index + 1 for spot in spots)
    assert persistent_px == [[]] * (PERSISTENT_FRAMES - 1) + [[WORKS]] * 5


def test_a_refused_picture_is_not_counted(load_function: LoadFunction) -> None:
    detect, ledger = load_function("detect").app, FakeLedger()
    watch(detect, ledger, 0, np.full((3, 64, 64), 0.1, dtype=np.float32))
    before = dict(ledger.memories[MemoryName("detect", "area-1")])
    assert watch(detect, ledger, 1, np.zeros((2, 4, 4), dtype=np.float32)).status == 400
    assert ledger.memories[MemoryName("detect", "area-1")] == before
    assert decode(before["frames_seen"]) == 1


def test_a_frame_that_comes_twice_is_counted_once(load_function: LoadFunction) -> None:
    detect, ledger, image = load_function("detect").app, FakeLedger(), np.full((3, 64, 64), 0.1, dtype=np.float32)
    event = Event.new(PREPROCESSED, "/p", {"frame": 1}, partitionkey="area-1")
    answers = [invoke(detect, event, {"reflectance": image}, ledger=ledger) for _ in range(2)]
    assert [answer.memory["frames_seen"] for answer in answers] == [1, 1]
    assert answers[0].event == answers[1].event


def test_the_chain_raises_each_alarm_once(load_function: LoadFunction, source: SceneSource) -> None:
    preprocess, detect, alarm = (load_function(name).app for name in ("preprocess", "detect", "alarm"))
    ledger = FakeLedger()
    alarms: list[str] = []
    for frame in range(5):
        prepared = invoke(preprocess, *captured(source, frame))
        found = emitted(invoke(detect, emitted(prepared), prepared.state))
        decided = invoke(alarm, found.with_attributes(partitionkey="area-1", skylarkstate=None), ledger=ledger)
        assert decided.memory["frames_decided"] == frame + 1
        if decided.event is not None:
            collection = decided.event.json()
            assert collection["type"] == "FeatureCollection"
            for feature in collection["features"]:
                assert feature["geometry"]["type"] == "Point"
                assert feature["properties"]["area"] == "area-1"
                assert feature["properties"]["frames_seen"] >= 2
                alarms.append(feature["properties"]["id"])
    assert len(alarms) >= 2
    assert len(set(alarms)) == len(alarms) == decided.memory["alarms_raised"]


def test_an_alarm_without_a_place_on_earth_has_pixels(
    load_function: LoadFunction, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "skylark.alarm")
    ledger, alarm = FakeLedger(), load_function("alarm").app
    spot = {"lon": None, "lat": None, "area_m2": None, "pixels": 3, "x": 20.0, "y": 30.0}
    for frame in (0, 1):
        data = {"frame": frame, "hotspots": [spot]}
        answer = invoke(alarm, Event.new(DETECTED, "/detect", data, partitionkey="a"), ledger=ledger)
    (feature,) = emitted(answer).json()["features"]
    assert feature["geometry"] is None
    assert (feature["properties"]["x"], feature["properties"]["y"]) == (20.0, 30.0)
    number = feature["properties"]["id"]
    assert caplog.messages == [f"fire {number} in an area without name at column 20, row 30, seen in 2 frames"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"frame": 1},
        {"frame": None, "hotspots": []},
        {"frame": 1, "hotspots": ["fire"]},
        {"frame": 1, "hotspots": [{"x": 1, "y": 1}]},
        {"frame": 1, "hotspots": [{"x": 1, "y": 1, "pixels": 0}]},
        {"frame": 1, "hotspots": [{"x": 1, "y": 1, "pixels": 2, "lon": "east", "lat": 1}]},
        {"frame": 1, "hotspots": [{"x": 1, "y": 1, "pixels": 2, "lon": 5.0}]},
        b"no json",
    ],
)
def test_alarm_refuses_bad_data_and_keeps_its_memory(load_function: LoadFunction, data: Any) -> None:
    memory = {"incidents": [], "frames_decided": 4}
    answer = invoke(load_function("alarm").app, Event.new(DETECTED, "/d", data, partitionkey="a"), memory=memory)
    assert answer.status == 400
    assert answer.memory == memory
