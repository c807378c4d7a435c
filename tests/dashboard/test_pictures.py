"""Frames as pictures: what a browser gets of a GeoTIFF, and what is said where there is no picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from affine import Affine
from flask import Flask, Response
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.dashboard.pictures import Pictures, draw
from libskylark.errors import LabError
from tests.conftest import Serve


def geotiff(numbers: NDArray[Any], scale: float = 1.0) -> bytes:
    count, height, width = numbers.shape
    shape: dict[str, Any] = {"count": count, "height": height, "width": width, "dtype": numbers.dtype}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", **shape, crs="EPSG:32633", transform=Affine(30, 0, 5e5, 0, -30, 4e6)
        ) as target:
            target.write(numbers)
            target.scales = (scale,) * count
        return bytes(memory.read())


def pixels(png: bytes) -> NDArray[Any]:
    assert png.startswith(b"\x89PNG")
    with pytest.warns(Warning, match="no geotransform"), MemoryFile(png) as memory, memory.open() as source:
        return np.asarray(source.read())


def test_fire_is_red_and_every_pixel_stays_where_it_is() -> None:
    numbers = np.full((3, 20, 30), 1000, dtype=np.uint16)
    numbers[0, 4, 7] = 16000
    shown = pixels(draw(geotiff(numbers, scale=1e-4)))
    assert shown.shape == (3, 20, 30)
    assert shown[0, 4, 7] == 255
    assert (np.delete(shown[0].ravel(), 4 * 30 + 7) < 100).all()


def test_numbers_that_do_not_say_what_they_mean_are_shown_as_light_as_they_are() -> None:
    numbers = np.full((3, 8, 8), 40, dtype=np.uint16)
    numbers[:, 0, 0] = 200
    shown = pixels(draw(geotiff(numbers)))
    assert (shown[:, 0, 0] == 255).all()
    assert (shown[:, 1, 1] < 255).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no picture", "cannot be drawn"),
        (geotiff(np.zeros((1, 4, 4), dtype=np.uint8)), "1 bands of 4 by 4"),
        (geotiff(np.zeros((3, 1, 2049), dtype=np.uint8)), "2049 by 1 pixels; three of 2048"),
    ],
    ids=["text", "one band", "too wide"],
)
def test_what_cannot_be_shown_is_said(content: bytes, said: str) -> None:
    with pytest.raises(LabError, match=said):
        draw(content)


def constellation(port: int) -> Constellation:
    spec = {
        "nodes": [{"name": "a", "type": "Sat", "ip": "127.0.0.1"}],
        "functions": {"camera": {"nodes": ["a"], "port": port}},
    }
    return Constellation(ConstellationSpec.model_validate(spec))


def test_a_frame_is_fetched_once_from_the_camera_that_captured_it(serve: Serve) -> None:
    asked: list[str] = []
    camera = Flask("camera")
    content = geotiff(np.zeros((3, 4, 4), dtype=np.uint16))

    @camera.get("/frame")
    def frame() -> Response:
        from flask import request

        asked.append(request.query_string.decode())
        return Response(content if request.args["frame"] == "3" else b"", 200 if request.args["frame"] == "3" else 404)

    pictures = Pictures(constellation(serve(camera)))
    first = pictures.png({"id": "x", "satellite": "a", "frame": 3})
    assert pictures.png({"id": "x", "satellite": "a", "frame": 3}) == first
    assert asked == ["frame=3"]
    with pytest.raises(LabError, match="answered 404 for frame 4"):
        pictures.png({"id": "y", "satellite": "a", "frame": 4})


@pytest.mark.parametrize("frame", [{"satellite": "elsewhere", "frame": 3}, {"satellite": "a", "frame": None}])
def test_nobody_has_a_picture_that_came_from_no_camera(frame: dict[str, Any]) -> None:
    with pytest.raises(LabError, match="no camera of this lab"):
        Pictures(constellation(9)).png({"id": "x", **frame})


def test_a_camera_that_does_not_answer_is_said(unused_port: int) -> None:
    with pytest.raises(LabError, match="the camera of a was not reached"):
        Pictures(constellation(unused_port)).png({"id": "x", "satellite": "a", "frame": 3})
