from __future__ import annotations

import hotmap
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

COLD = (0.10, 0.20, 0.30)
HOT = (0.60, 0.30, 0.25)
VERY_HOT = (1.60, 1.40, 0.40)
UTM = {"crs": "EPSG:32633", "transform": [30, 0, 500_000, 0, -30, 4_200_000]}

Images = npst.arrays(
    np.float32,
    st.tuples(st.just(3), st.integers(1, 12), st.integers(1, 12)),
    elements=st.floats(-0.25, 1.625, width=32),
)


def image(side: int, **pixels: tuple[int, int]) -> NDArray[np.float32]:
    """A cold picture with the named pixels (hot, hot_2, very_hot, ...) set."""
    picture = np.empty((3, side, side), dtype=np.float32)
    picture[:] = np.array(COLD)[:, None, None]
    for name, (row, column) in pixels.items():
        picture[:, row, column] = VERY_HOT if name.startswith("very") else HOT
    return picture


def test_a_hot_pixel_on_cold_ground_is_found() -> None:
    assert np.argwhere(hotmap.detect(image(9, hot=(4, 5)))).tolist() == [[4, 5]]


def test_a_saturated_pixel_counts_beside_a_certain_one_only() -> None:
    assert not hotmap.detect(image(9, very_hot=(4, 4))).any()
    found = hotmap.detect(image(9, hot=(3, 3), very_hot=(4, 4), very_hot_2=(5, 5), very_hot_3=(8, 0)))
    assert np.argwhere(found).tolist() == [[3, 3], [4, 4], [5, 5]]


def test_the_thresholds_are_included() -> None:
    exact = np.array([0.28, 0.2, 0.2], dtype=np.float64).reshape(3, 1, 1)
    exact[0] = hotmap.HOT_RATIO * exact[1]
    assert hotmap.detect(exact).all()
    assert not hotmap.detect(exact * 0.5).any()


@pytest.mark.parametrize("code", hotmap.BLIND_CODES)
def test_masked_pixels_are_left_out(code: int) -> None:
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[4, 5] = code
    assert not hotmap.detect(image(9, hot=(4, 5)), mask).any()


def test_a_fire_on_water_is_still_a_fire() -> None:
    mask = np.full((9, 9), 2, dtype=np.uint8)
    assert hotmap.detect(image(9, hot=(4, 5)), mask).sum() == 1


@settings(deadline=None, derandomize=True)
@given(Images)
def test_the_result_equals_a_slow_one_pixel_by_pixel(picture: NDArray[np.float32]) -> None:
    swir2, swir1, nir = picture
    _, height, width = picture.shape
    certain, likely = set(), set()
    for row in range(height):
        for column in range(width):
            a, b, c = swir2[row, column], swir1[row, column], nir[row, column]
            if a >= hotmap.HOT_RATIO * b and a >= hotmap.HOT_RATIO * c and a >= hotmap.LEAST_SWIR2:
                certain.add((row, column))
            if (b >= 2 * c and b >= 0.5) or max(a, b) >= hotmap.SATURATED:
                likely.add((row, column))
    edge = set(certain)
    while edge:
        beside = {(r + i, c + j) for r, c in edge for i in (-1, 0, 1) for j in (-1, 0, 1)}
        edge = (beside & likely) - certain
        certain |= edge
    assert {(row, column) for row, column in np.argwhere(hotmap.detect(picture)).tolist()} == certain


@settings(deadline=None, derandomize=True)
@given(Images)
def test_turning_the_picture_turns_the_result(picture: NDArray[np.float32]) -> None:
    turned = np.rot90(picture, axes=(1, 2))
    assert np.array_equal(hotmap.detect(turned), np.rot90(hotmap.detect(picture)))


@settings(deadline=None, derandomize=True)
@given(Images)
def test_every_hot_pixel_is_in_exactly_one_cluster(picture: NDArray[np.float32]) -> None:
    hot = hotmap.detect(picture)
    found = hotmap.clusters(hot, picture)
    assert sum(spot["pixels"] for spot in found) == hot.sum()
    assert [spot["pixels"] for spot in found] == sorted((spot["pixels"] for spot in found), reverse=True)


def test_zero_negative_and_missing_numbers_break_nothing() -> None:
    picture = np.array([[0.5, -0.1, np.nan], [0, -0.1, 0.1], [0, 0, 0.1]], dtype=np.float32).reshape(3, 1, 3)
    assert hotmap.detect(picture).tolist() == [[True, False, False]]


def test_fronts_a_short_gap_apart_are_one_cluster() -> None:
    picture = image(20, hot=(5, 5), hot_2=(5, 5 + hotmap.GAP_PX + 1), hot_3=(5, 14))
    hot = hotmap.detect(picture)
    assert [(spot["pixels"], spot["x"], spot["box"]) for spot in hotmap.clusters(hot, picture)] == [
        (2, 6.5, [5, 5, 8, 5]),
        (1, 14.0, [14, 5, 14, 5]),
    ]


def test_a_cluster_is_placed_on_earth() -> None:
    picture = image(9, hot=(0, 0))
    (spot,) = hotmap.clusters(hotmap.detect(picture), picture, UTM)
    assert spot["lon"] == pytest.approx(15.000171, abs=1e-5)
    assert spot["lat"] == pytest.approx(37.94726, abs=1e-3)
    assert spot["area_m2"] == 900
    assert spot["peak_swir2"] == pytest.approx(0.6)


def test_an_area_is_in_square_metres_in_degrees_too() -> None:
    picture = image(9, hot=(4, 4))
    degrees = {"crs": "EPSG:4326", "transform": [0.001, 0, 10, 0, -0.001, 60]}
    (spot,) = hotmap.clusters(hotmap.detect(picture), picture, degrees)
    assert spot["lon"] == pytest.approx(10.0045)
    assert spot["lat"] == pytest.approx(59.9955)
    assert spot["area_m2"] == pytest.approx(111.195**2 * 0.5, rel=1e-3)


def test_without_georeference_there_are_pixels_only() -> None:
    picture = image(9, hot=(3, 7))
    (spot,) = hotmap.clusters(hotmap.detect(picture), picture)
    assert (spot["lon"], spot["lat"], spot["area_m2"], spot["x"], spot["y"]) == (None, None, None, 7, 3)


@pytest.mark.parametrize(
    "georeference",
    [{"crs": "EPSG:32633"}, {"crs": "nowhere", "transform": [1] * 6}, {"crs": 4326, "transform": [1]}],
)
def test_a_faulty_georeference_is_refused(georeference: dict[str, object]) -> None:
    picture = image(9, hot=(3, 7))
    with pytest.raises(ValueError, match="georeference"):
        hotmap.clusters(hotmap.detect(picture), picture, georeference)


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        hotmap.detect(np.zeros((4, 5, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="mask"):
        hotmap.detect(np.zeros((3, 5, 5), dtype=np.float32), np.zeros((5, 6), dtype=np.uint8))
