"""Fires of the synthetic scene: where they start, how they spread and die, and how bright they glow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from terrain import Terrain

FloatImage = NDArray[np.float32]

#: Planck's law per wavelength, L = C1 / (w**5 * (exp(C2 / (w * T)) - 1)), with CODATA 2018 constants:
#: C1 = 2 h c**2 in W um**4 m**-2 sr**-1, C2 = h c / k in um K.
RADIATION_C1 = 1.191042972e8
RADIATION_C2 = 1.438776877e4

#: Centres of Landsat 8 OLI bands 7, 6, 5 in um, and the sun's irradiance in them at 1 au, W m**-2 um**-1.
WAVELENGTHS_UM = np.array([2.201, 1.609, 0.865])
SOLAR_IRRADIANCE = np.array([85.5, 247.6, 951.8])

#: Cosine of the sun's zenith angle at the overpass (35 degrees).
SUN_COSINE = 0.819

#: A fire's window is this far from its ignition to each side; a fire that reached the edge stops there.
REACH_PX = 24

#: No ignition this near a place where one happened in the last `QUIET_FRAMES`: it burns or has burnt.
APART_PX = 22.0
QUIET_FRAMES = 16

#: The longest that any pixel of a fire burns after its ignition, in frames.
LIFE_FRAMES = 16

#: Ignitions per frame over 256 x 256 pixels, before those on bare ground or beside another are dropped.
IGNITIONS_PER_FRAME = 1.0

#: Below this share of a pixel (0.45 m2 of embers in 900 m2) nothing burns.
LEAST_SHARE = 5e-4

#: Deviation in pixels of the optics' point spread.
BLUR_PX = 0.42

_STEPS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


def spectral_radiance(temperature_k: float, wavelength_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radiance of a black body by Planck's law, in W m**-2 sr**-1 um**-1."""
    exponent = RADIATION_C2 / (wavelength_um * temperature_k)
    return np.asarray(RADIATION_C1 / (wavelength_um**5 * np.expm1(exponent)))


def fire_reflectance(temperature_k: float) -> NDArray[np.float64]:
    """The reflectance (SWIR2, SWIR1, NIR) that a pixel filled with fire of this temperature seems to have.

    A reflectance product divides radiance by what a white ground would send back,
    rho = pi * L * d**2 / (E_sun * cos(zenith)), at d = 1 au. A fire of 900 K reaches some 75 in SWIR2,
    so that one percent of a pixel outshines any ground.
    """
    return np.asarray(np.pi * spectral_radiance(temperature_k, WAVELENGTHS_UM) / (SOLAR_IRRADIANCE * SUN_COSINE))


@dataclass(frozen=True)
class Fire:
    """One fire from ignition to its last ember, in a window of the scene."""

    id: str
    ignition: float  #: in frames, a fraction before the first frame that shows it
    top: int  #: row of the window's upper edge
    left: int
    arrival: FloatImage  #: frames from ignition until the front reaches each pixel, inf where never
    peak_share: FloatImage  #: of each pixel, at its hottest
    flaming_frames: float  #: how long one pixel burns
    temperature_k: float
    wind_rad: float  #: where the wind blows to, counter-clockwise from east

    def shares(self, frame: int) -> FloatImage:
        """The share of each window pixel that burns at a frame, 0 where nothing does."""
        age = frame - self.ignition - self.arrival
        # The front crosses a pixel in a third of a frame; embers then cool over the pixel's time.
        rise = np.clip(0.2 + age * 3, 0, 1)
        share = self.peak_share * rise * np.exp(-1.6 * np.maximum(age, 0) / self.flaming_frames)
        share[(age < 0) | (age > self.flaming_frames) | (share < LEAST_SHARE)] = 0
        return np.asarray(share, dtype=np.float32)

    def burnt_frames(self, frame: int) -> FloatImage:
        """Frames since each window pixel stopped flaming; negative or -inf where it has not."""
        return np.asarray(frame - self.ignition - self.arrival - self.flaming_frames, dtype=np.float32)

    def window(self, size_px: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of the scene that the window covers, and the matching slices of the window."""
        side = self.arrival.shape[0]
        rows = slice(max(self.top, 0), min(self.top + side, size_px))
        columns = slice(max(self.left, 0), min(self.left + side, size_px))
        inner = slice(rows.start - self.top, rows.stop - self.top)
        return (rows, columns), (inner, slice(columns.start - self.left, columns.stop - self.left))


def candidates(seed: int, frame: int, size_px: int) -> NDArray[np.float64]:
    """Places (n, 2) where something might catch fire just before a frame, in pixels."""
    rng = _generator(seed, 2, frame)
    count = rng.poisson(IGNITIONS_PER_FRAME * (size_px / 256) ** 2)
    return rng.uniform(3, size_px - 3, (count, 2))


def ignite(seed: int, frame: int, terrain: Terrain, earlier: NDArray[np.float64]) -> tuple[Fire, ...]:
    """The fires that a frame is the first to show.

    `earlier` holds the candidate places of the frames before. Whether those really caught fire is not asked,
    or else every frame would depend on all before it and none could be had alone.
    """
    size_px = terrain.fuel.shape[0]
    started: list[Fire] = []
    taken = earlier
    for number, place in enumerate(candidates(seed, frame, size_px)):
        row, column = (int(i) for i in place)
        lonely = not len(taken) or np.hypot(*(taken - place).T).min() >= APART_PX
        taken = np.vstack([taken, place])
        if lonely and terrain.fuel[row, column] > 0.3:
            started.append(
                _spread(_generator(seed, 3, frame, number), f"F{frame}.{number}", frame, row, column, terrain)
            )
    return tuple(started)


def emission(share: FloatImage, temperature_k: float) -> FloatImage:
    """What burning shares (H, W) of pixels add to reflectance (3, H, W), blurred by the optics."""
    blurred = gaussian_filter(share, BLUR_PX, mode="constant")
    glow = fire_reflectance(temperature_k)[:, None, None] * blurred
    return np.asarray(glow, dtype=np.float32)


def _generator(seed: int, *path: int) -> np.random.Generator:
    # Frames before the first have negative numbers, which a seed may not have.
    return np.random.default_rng([seed, *(number % 2**64 for number in path)])


def _spread(rng: np.random.Generator, name: str, frame: int, row: int, column: int, terrain: Terrain) -> Fire:
    """Let a fire run over the fuel around its ignition."""
    side = 2 * REACH_PX + 1
    padded = np.zeros((side, side), dtype=np.float32)
    height = np.zeros_like(padded)
    fire = Fire(
        id=name,
        ignition=frame - rng.uniform(0, 1),
        top=row - REACH_PX,
        left=column - REACH_PX,
        arrival=padded,
        peak_share=(0.026 * rng.lognormal(0, 0.4) * rng.lognormal(0, 0.4, (side, side))).astype(np.float32),
        flaming_frames=rng.uniform(1.6, 3.4),
        temperature_k=rng.uniform(800, 1080),
        wind_rad=_prevailing_wind(rng),
    )
    outer, inner = fire.window(terrain.fuel.shape[0])
    padded[inner] = terrain.fuel[outer]
    height[inner] = terrain.elevation[outer]
    life = min(rng.gamma(5.0, 1.5) + 1.5, LIFE_FRAMES - fire.flaming_frames)
    speed = rng.lognormal(np.log(0.5), 0.4) * padded * rng.lognormal(0, 0.3, padded.shape)
    fire.arrival[:] = _arrival(speed, height, fire.wind_rad, life)
    return fire


def _prevailing_wind(rng: np.random.Generator) -> float:
    # North-westerlies rule the summer there: the wind blows towards the south-east, more or less.
    return float(rng.normal(-np.pi / 4, 0.45))


def _arrival(speed: NDArray[np.floating], height: FloatImage, wind_rad: float, life: float) -> FloatImage:
    """When the front arrives at each pixel: the quickest way over pixels that each take their time.

    `speed` is in pixels per frame (0 does not burn). Fire runs with the wind and uphill, and creeps against
    them.
    """
    side = speed.shape[0]
    number = np.arange(side * side).reshape(side, side)
    sources, targets, times = [], [], []
    for down, right in _STEPS:
        here = (slice(max(-down, 0), side - max(down, 0)), slice(max(-right, 0), side - max(right, 0)))
        there = (slice(max(down, 0), side - max(-down, 0)), slice(max(right, 0), side - max(-right, 0)))
        length = float(np.hypot(down, right))
        along = (right * np.cos(wind_rad) - down * np.sin(wind_rad)) / length
        # A head about half again as long as wide, and a back that creeps against the wind.
        with_wind = 0.2 + 2.4 * np.exp(3.0 * (along - 1))
        uphill = np.exp(np.clip(1.5 * (height[there] - height[here]) / length, -0.7, 0.7))
        pace = speed[there] * with_wind * uphill
        burns = pace > 1e-3
        sources.append(number[here][burns])
        targets.append(number[there][burns])
        times.append(length / pace[burns])
    edges = (np.concatenate(sources), np.concatenate(targets))
    graph = coo_array((np.concatenate(times), edges), shape=(side * side, side * side)).tocsr()
    frames = dijkstra(graph, indices=int(number[side // 2, side // 2]), limit=life)
    return np.asarray(frames, dtype=np.float32).reshape(side, side)
