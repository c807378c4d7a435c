"""What lies between ground and camera in the synthetic scene: drifting clouds, shadows and smoke."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from terrain import fractal

FloatImage = NDArray[np.float32]

#: Reflectance of a thick cloud and of dense smoke in SWIR2, SWIR1, NIR. Water and ice absorb in the SWIR, so
#: that a cloud is darker there; smoke particles are smaller than the wavelength and scatter little of it.
CLOUD_SPECTRUM = np.array([0.36, 0.48, 0.70], dtype=np.float32)
SMOKE_SPECTRUM = np.array([0.16, 0.22, 0.34], dtype=np.float32)

#: Optical depth of smoke relative to NIR, by an Angstrom exponent of 1.5: (0.865 um / wavelength) ** 1.5.
SMOKE_DEPTH = np.array([0.246, 0.394, 1.0], dtype=np.float32)

#: From this opacity on the ground counts as hidden.
HIDDEN_OPACITY = 0.5

#: Where a cloud's shadow falls from it, in pixels down and right: the sun stands in the south-east.
SHADOW_OFFSET_PX = (-9, -9)

#: Frames after which the clouds have changed their shapes once through.
TURNOVER_FRAMES = 40.0


class Clouds:
    """Clouds of a seed over a square of pixels; any frame can be asked for alone."""

    def __init__(self, seed: int, size_px: int) -> None:
        rng = np.random.default_rng([seed, 4])
        self._size_px = size_px
        # A square of twice the side keeps a cloud from coming back within the picture it just left.
        self._shapes = [fractal(rng, 2 * size_px, 1.75) for _ in range(2)]
        self._texture = fractal(rng, 2 * size_px, 1.2)
        heading = rng.normal(-np.pi / 4, 0.4)
        self._drift_px = [np.array([-np.sin(a), np.cos(a)]) * rng.uniform(9, 14) for a in (heading, heading + 0.15)]
        self._phase = rng.uniform(0, 2 * np.pi)

    def opacity(self, frame: int) -> tuple[FloatImage, FloatImage]:
        """Opacity (0 clear, 1 thick) of a frame's clouds, and of the same clouds as seen from the sun."""
        turn = 2 * np.pi * (frame % (TURNOVER_FRAMES * 1000)) / TURNOVER_FRAMES + self._phase
        shapes = [
            np.roll(shape, np.rint(drift * frame).astype(np.int64) % len(shape), axis=(0, 1))
            for shape, drift in zip(self._shapes, self._drift_px, strict=True)
        ]
        texture = np.roll(
            self._texture, np.rint(self._drift_px[0] * frame).astype(np.int64) % len(self._texture), (0, 1)
        )
        # Cosine and sine weights keep the deviation at 1 all the time, and so the mean cover.
        depth = np.cos(turn) * shapes[0] + np.sin(turn) * shapes[1] + 0.16 * texture - 1.25
        opacity = np.clip(depth / 0.35, 0, 1) ** 1.3
        shadow = np.roll(opacity, SHADOW_OFFSET_PX, axis=(0, 1))
        side = self._size_px
        return opacity[:side, :side].astype(np.float32), shadow[:side, :side].astype(np.float32)

    def brightness(self, frame: int) -> FloatImage:
        """Light and dark parts of the cloud tops, around 1."""
        moved = np.rint(self._drift_px[0] * frame).astype(np.int64) % len(self._texture)
        side = self._size_px
        texture = np.roll(self._texture, moved, axis=(0, 1))[:side, :side]
        return np.asarray(1 + 0.08 * texture, dtype=np.float32)


def plume(size_px: int, row: float, column: float, wind_rad: float, strength: float) -> FloatImage:
    """Optical depth in NIR of one fire's smoke: a Gaussian plume that widens and thins downwind."""
    rows, columns = np.ogrid[:size_px, :size_px]
    right, up = columns - column, row - rows
    along = right * np.cos(wind_rad) + up * np.sin(wind_rad)
    across = -right * np.sin(wind_rad) + up * np.cos(wind_rad)
    downwind = np.maximum(along, 0)
    width = 0.9 + 0.17 * downwind
    # The plume swings a little, as gusts make it.
    sway = 0.05 * downwind * np.sin(downwind / 11.0)
    depth = strength / width * np.exp(-0.5 * ((across - sway) / width) ** 2 - downwind / 55.0)
    return np.where(along > -0.5, depth, 0).astype(np.float32)


def veil(image: FloatImage, depth: FloatImage) -> FloatImage:
    """Lay smoke of a NIR optical depth (H, W) over reflectance (3, H, W), fires' glow included."""
    through = np.exp(-SMOKE_DEPTH[:, None, None] * depth)
    return np.asarray(image * through + SMOKE_SPECTRUM[:, None, None] * (1 - through), dtype=np.float32)


def cover(image: FloatImage, opacity: FloatImage, brightness: FloatImage) -> FloatImage:
    """Lay clouds over reflectance (3, H, W)."""
    return np.asarray(image * (1 - opacity) + CLOUD_SPECTRUM[:, None, None] * (opacity * brightness), dtype=np.float32)
