from __future__ import annotations

import time

import fires
import hotmap
import numpy as np
import pytest
from calibrate import classify
from fires import fire_reflectance, spectral_radiance
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scene import DN_OFFSET, DN_SCALE, Frame, Scene
from scipy import ndimage

DEFAULT_SEED = 7
NEAR = np.ones((3, 3), dtype=bool)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(DEFAULT_SEED)


def reflectance(frame: Frame) -> NDArray[np.float32]:
    return frame.dn * np.float32(DN_SCALE) + np.float32(DN_OFFSET)


def painted(frame: Frame, fire: object) -> NDArray[np.bool_]:
    mask = np.zeros(frame.dn.shape[1:], dtype=bool)
    mask[fire.rows, fire.columns] = True  # type: ignore[attr-defined]
    return np.asarray(ndimage.binary_dilation(mask, NEAR), dtype=np.bool_)


def score(scene: Scene, frames: range) -> tuple[float, float, int]:
    """Precision and recall by cluster, and how many fires are visible; within one pixel is a match."""
    true = false = found = visible = 0
    for index in frames:
        frame = scene.frame(index)
        image = reflectance(frame)
        hot = hotmap.detect(image, classify(image, frame.dn[0] > 0))
        burning = np.zeros_like(hot)
        for fire in frame.fires:
            mask = painted(frame, fire)
            burning |= mask
            visible += fire.visible
            found += fire.visible and bool((mask & hot).any())
        for spot in hotmap.clusters(hot, image):
            left, top, right, bottom = spot["box"]
            box = np.s_[top : bottom + 1, left : right + 1]
            hit = bool((burning[box] & hot[box]).any())
            true, false = true + hit, false + (not hit)
    return true / (true + false), found / visible, visible


def test_a_frame_is_the_same_whichever_frames_were_drawn_before(scene: Scene) -> None:
    alone = Scene(DEFAULT_SEED).frame(9)
    for index in (3, 30, 8):
        scene.frame(index)
    again = scene.frame(9)
    assert np.array_equal(alone.dn, again.dn)
    assert [fire.as_json() for fire in alone.fires] == [fire.as_json() for fire in again.fires]


def test_seeds_and_frames_differ(scene: Scene) -> None:
    assert not np.array_equal(scene.frame(0).dn, scene.frame(1).dn)
    assert not np.array_equal(Scene(1, 64).frame(0).dn, Scene(2, 64).frame(0).dn)


def test_a_frame_far_in_the_future_is_drawn_like_any_other(scene: Scene) -> None:
    frame = scene.frame(29_900_000)
    assert frame.dn.shape == (3, 256, 256)
    assert frame.dn.dtype == np.uint16


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 10**6))
def test_every_scene_has_sound_numbers_and_truth(seed: int, index: int) -> None:
    frame = Scene(seed, 96).frame(index)
    assert frame.dn.min() >= 1
    assert len({fire.id for fire in frame.fires}) == len(frame.fires)
    for fire in frame.fires:
        assert len(fire.rows) > 0
        assert fire.area_m2 == len(fire.rows) * 900
        assert 15.5 < fire.lon < 16.5
        assert 37.9 < fire.lat < 38.5
        assert fire.radius_m >= 45


@pytest.mark.parametrize("seed", [-1, -5])
def test_a_negative_seed_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=str(seed)):
        Scene(seed)


def test_a_negative_frame_is_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match="no frame -1"):
        scene.frame(-1)


def test_the_first_twelve_frames_have_fires_of_various_ages(scene: Scene) -> None:
    seen: dict[str, list[int]] = {}
    for index in range(12):
        for fire in scene.frame(index).fires:
            seen.setdefault(fire.id, []).append(index)
    assert len(seen) >= 6
    assert any(frames[0] == 0 for frames in seen.values())
    assert any(frames[0] > 2 for frames in seen.values())
    assert any(frames[-1] < 10 for frames in seen.values())
    for frames in seen.values():
        assert frames[-1] - frames[0] < fires.LIFE_FRAMES + 1


def test_clouds_drift_and_hide_some_fires_over_time(scene: Scene) -> None:
    truths = [fire.visible for index in range(0, 120, 2) for fire in scene.frame(index).fires]
    assert 0.02 < truths.count(False) / len(truths) < 0.35


def test_detection_is_good_but_not_perfect_on_the_default_scene(scene: Scene) -> None:
    precision, recall, visible = score(scene, range(12))
    assert visible >= 20
    assert precision >= 0.9
    assert recall >= 0.9


def test_over_many_frames_some_fires_are_missed_and_some_alarms_are_false(scene: Scene) -> None:
    precision, recall, _ = score(scene, range(100, 160))
    assert 0.9 <= precision < 1
    assert 0.9 <= recall < 1


def test_most_of_the_ground_is_not_hot(scene: Scene) -> None:
    image = reflectance(scene.frame(5))
    assert hotmap.detect(image).mean() < 0.02


def test_radiance_follows_plancks_law() -> None:
    # Wien: a black body of 1000 K is brightest at 2.898 um.
    wavelengths_um = np.linspace(1, 6, 2001)
    peak_um = wavelengths_um[spectral_radiance(1000, wavelengths_um).argmax()]
    assert peak_um == pytest.approx(2.898, abs=0.005)
    # The sun as a black body of 5772 K; at 1.6 um one looks deepest into it, where it is hotter than that.
    sun = spectral_radiance(5772, fires.WAVELENGTHS_UM) * 6.807e-5
    assert sun == pytest.approx(fires.SOLAR_IRRADIANCE, rel=0.2)


@given(temperature_k=st.floats(700, 1100))
def test_a_fire_is_brighter_the_longer_the_wave(temperature_k: float) -> None:
    swir2, swir1, nir = fire_reflectance(temperature_k)
    assert swir2 > 4 * swir1 > 16 * nir


def test_a_frame_is_drawn_within_150_milliseconds() -> None:
    scene = Scene(DEFAULT_SEED)
    scene.frame(0)
    took_s = []
    for index in range(1, 8):
        start = time.process_time()
        scene.frame(index)
        took_s.append(time.process_time() - start)
    assert sorted(took_s)[len(took_s) // 2] < 0.15
