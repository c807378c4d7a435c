from __future__ import annotations

import contextlib
from typing import Any

import calibrate
import decode
import numpy as np
import pytest
import terrain
from affine import Affine
from calibrate import CLEAR, CLOUD, NO_DATA, WATER, classify, fractions, tiles
from decode import Picture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from sky import CLOUD_SPECTRUM

from libskylark import BadInput


def encoded(numbers: NDArray[Any], driver: str = "GTiff", **profile: Any) -> bytes:
    count, height, width = numbers.shape
    with MemoryFile() as memory:
        with memory.open(
            driver=driver, dtype=numbers.dtype, count=count, height=height, width=width, **profile
        ) as target:
            target.write(numbers)
        return bytes(memory.read())


def masked(*spectrum: float) -> int:
    image = np.array(spectrum, dtype=np.float32).reshape(3, 1, 1)
    return int(classify(image, np.ones((1, 1), dtype=bool))[0, 0])


def picture(numbers: NDArray[Any], **changes: Any) -> Picture:
    valid = np.ones(numbers.shape[1:], dtype=bool)
    fields = {"scale": None, "offset": None, "crs": None, "transform": None} | changes
    return Picture(numbers, valid, full_width_px=1, full_height_px=1, **fields)


GOOD = encoded(np.full((3, 40, 50), 9000, dtype=np.uint16), crs="EPSG:32633", transform=Affine(30, 0, 5e5, 0, -30, 4e6))


def test_a_geotiff_keeps_its_place_on_earth() -> None:
    found = decode.decode(GOOD)
    assert found.numbers.shape == (3, 40, 50)
    assert found.crs == "EPSG:32633"
    assert found.transform == [30, 0, 5e5, 0, -30, 4e6]


@pytest.mark.parametrize("driver", ["GTiff", "PNG", "JPEG"])
def test_a_picture_without_georeference_has_none(driver: str) -> None:
    found = decode.decode(encoded(np.full((3, 16, 16), 80, dtype=np.uint8), driver))
    assert found.crs is None
    assert found.transform is None


def test_alpha_is_dropped_and_transparent_pixels_are_invalid() -> None:
    numbers = np.full((4, 5, 5), 200, dtype=np.uint8)
    numbers[3, 1, 2] = 0
    found = decode.decode(encoded(numbers, "PNG"))
    assert found.numbers.shape == (3, 5, 5)
    assert np.argwhere(~found.valid).tolist() == [[1, 2]]


def test_a_large_picture_is_cropped_and_says_so() -> None:
    found = decode.decode(encoded(np.full((3, 20, 2100), 80, dtype=np.uint8)))
    assert found.numbers.shape == (3, 20, decode.USED_SIDE_PX)
    assert (found.full_width_px, found.full_height_px) == (2100, 20)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"GIF89a and so on", "no GeoTIFF, PNG or JPEG"),
        (b'<VRTDataset rasterXSize="5" rasterYSize="5"/>', "no GeoTIFF, PNG or JPEG"),
        (b"II*\x00", "cut short"),
        (b"\x89PNG\r\n\x1a\n", "cut short"),
        (b"\xff\xd8\xff\xe0", "cut short"),
        (GOOD[: len(GOOD) // 2], "cut short"),
        (encoded(np.ones((1, 4, 4), dtype=np.uint8)), "1 bands"),
        (encoded(np.ones((7, 4, 4), dtype=np.uint16)), "7 bands"),
        (encoded(np.ones((3, 4, 4), dtype=np.int16)), "int16"),
        (encoded(np.ones((3, 1, 40_000), dtype=np.uint8)), "40000 x 1"),
    ],
)
def test_bad_pictures_are_refused_in_words_and_without_noise(
    content: bytes, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=told):
        decode.decode(content)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_picture_is_read_or_refused_but_never_crashes(data: st.DataObject) -> None:
    content = bytearray(GOOD[: data.draw(st.integers(0, len(GOOD)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, min(len(content), 600) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadInput):
        calibrate.calibrate(decode.decode(bytes(content)))


def test_digital_numbers_become_collection_2_reflectance() -> None:
    numbers = np.array([0, 7273, 65535], dtype=np.uint16).reshape(1, 1, 3).repeat(3, axis=0)
    reflectance, valid = calibrate.calibrate(picture(numbers))
    assert reflectance.dtype == np.float32
    assert reflectance[0, 0] == pytest.approx([0, 0, 1.60221], abs=1e-4)
    assert valid.tolist() == [[False, True, True]]


def test_eight_bits_are_reflectance_up_to_one() -> None:
    reflectance, valid = calibrate.calibrate(picture(np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1)))
    assert reflectance[:, 0, 0] == pytest.approx([0, 0.2, 1])
    assert valid.all()


def test_a_file_that_states_its_scale_is_believed() -> None:
    numbers = np.full((3, 1, 1), 5000, dtype=np.uint16)
    reflectance, _ = calibrate.calibrate(picture(numbers, scale=1e-4, offset=0.0))
    assert reflectance[0, 0, 0] == pytest.approx(0.5)


def test_floats_are_reflectance_and_what_is_not_finite_is_no_data() -> None:
    numbers = np.array([[[0.3, np.nan, np.inf]]] * 3, dtype=np.float32)
    reflectance, valid = calibrate.calibrate(picture(numbers))
    assert valid.tolist() == [[True, False, False]]
    assert np.isfinite(reflectance).all()


@pytest.mark.parametrize("cover", ["forest", "shrub", "grass", "soil", "crop", "stubble", "ploughed", "town"])
def test_ground_is_clear(cover: str) -> None:
    assert masked(*terrain.SPECTRA[cover]) == CLEAR


def test_cloud_is_cloud_and_water_is_water() -> None:
    assert masked(*CLOUD_SPECTRUM) == CLOUD
    assert masked(*terrain.SPECTRA["water"]) == WATER


@settings(deadline=None, derandomize=True)
@given(st.floats(0.15, 1.602), st.floats(0.001, 1 / 1.4), st.floats(0.001, 1 / 1.4))
def test_a_hot_pixel_is_never_masked(swir2: float, swir1_ratio: float, nir_ratio: float) -> None:
    assert masked(swir2, swir2 * swir1_ratio, swir2 * nir_ratio) == CLEAR


def test_invalid_pixels_are_no_data_whatever_they_show() -> None:
    image = np.tile(CLOUD_SPECTRUM[:, None, None], (1, 1, 2))
    assert classify(image, np.array([[True, False]])).tolist() == [[CLOUD, NO_DATA]]


def test_fractions_add_up() -> None:
    mask = np.array([[CLEAR, CLOUD], [WATER, CLOUD]], dtype=np.uint8)
    assert fractions(mask) == {"cloud_fraction": 0.5, "water_fraction": 0.25, "no_data_fraction": 0.0}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 700), st.integers(1, 700))
def test_tiles_cover_a_clear_picture_exactly_once(width: int, height: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for tile in tiles(np.zeros((height, width), dtype=np.uint8)):
        covered[tile["y"] : tile["y"] + tile["height"], tile["x"] : tile["x"] + tile["width"]] += 1
    assert (covered == 1).all()


def test_a_tile_all_in_cloud_is_left_out() -> None:
    mask = np.zeros((256, 512), dtype=np.uint8)
    mask[:, 256:] = CLOUD
    assert tiles(mask) == [{"x": 0, "y": 0, "width": 256, "height": 256}]
