"""A synthetic fire scene: seed and frame number give a picture from orbit and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine
from fires import LIFE_FRAMES, QUIET_FRAMES, Fire, candidates, emission, fire_reflectance, ignite
from numpy.typing import NDArray
from rasterio.warp import transform as reproject
from sky import HIDDEN_OPACITY, Clouds, cover, plume, veil
from terrain import Terrain, build, fractal

FloatImage = NDArray[np.float32]

#: Landsat Collection 2: reflectance = DN * DN_SCALE + DN_OFFSET; DN 0 is no data, 65535 is saturated.
DN_SCALE = 2.75e-5
DN_OFFSET = -0.2
SATURATED_DN = 65535

#: Bands in the order of the arrays; Landsat 8 numbers them 7, 6, 5.
BANDS = ("SWIR2", "SWIR1", "NIR")

PIXEL_M = 30.0

#: The upper left corner: the Aspromonte in Calabria, where most summers have fires. The ground is invented.
CRS = "EPSG:32633"
WEST_M, NORTH_M = 584985.0, 4231215.0

#: Reflectance of fresh char, and how many frames a scar takes to fade to a third.
SCAR_SPECTRUM = np.array([0.205, 0.175, 0.085], dtype=np.float32)
SCAR_FADE_FRAMES = 14.0
SCAR_FRAMES = 36

#: How often the works burn off gas, and the flame's size in pixels and temperature.
FLARE_CHANCE = 0.1
FLARE_SHARE, FLARE_TEMPERATURE_K = 0.0005, 1500.0

#: Deviation of the sensor's noise in reflectance: a floor, and a part that grows with the signal.
NOISE_FLOOR, NOISE_GAIN = 0.0022, 0.006


@dataclass(frozen=True)
class FireTruth:
    """One burning fire at one frame, whether or not anything could detect it."""

    id: str
    lon: float
    lat: float
    area_m2: float  #: of the pixels in which something burns
    radius_m: float  #: around the centre, holding every burning pixel and the blur beside it
    visible: bool  #: at least one burning pixel is not under cloud
    rows: NDArray[np.intp]  #: of the burning pixels
    columns: NDArray[np.intp]

    def as_json(self) -> dict[str, object]:
        """The form that the camera answers at /truth."""
        return {
            "id": self.id,
            "lon": round(self.lon, 6),
            "lat": round(self.lat, 6),
            "area_m2": self.area_m2,
            "pixels": len(self.rows),
            "visible": self.visible,
            "radius_m": round(self.radius_m, 1),
        }


@dataclass(frozen=True)
class Frame:
    """One picture: `dn` is (3, H, W) in the order of `BANDS`; `transform` maps column, row to metres."""

    index: int
    dn: NDArray[np.uint16]
    crs: str
    transform: Affine
    fires: tuple[FireTruth, ...]


class Scene:
    """The same piece of ground over time. One frame stands for about half an hour of the fires' life.

    `frame(index)` is a pure function of seed, size and index. Terrain is drawn once; fires are drawn when a
    frame first needs them and kept while neighbouring frames are asked for.
    """

    def __init__(self, seed: int, size_px: int = 256) -> None:
        if seed < 0:
            raise ValueError(f"the seed of a scene must be 0 or more, not {seed}")
        if not 64 <= size_px <= 1024:
            raise ValueError(f"a scene is 64 to 1024 pixels wide, not {size_px}")
        self.seed = seed
        self.size_px = size_px
        self.transform = Affine(PIXEL_M, 0, WEST_M, 0, -PIXEL_M, NORTH_M)
        self._terrain: Terrain = build(seed, size_px)
        self._clouds = Clouds(seed, size_px)
        rng = np.random.default_rng([seed, 5])
        self._waves = fractal(rng, size_px, 0.9)
        self._puffs = np.clip(1 + 0.35 * fractal(rng, size_px, 1.3), 0.1, None)
        self._char = 1 + 0.13 * fractal(rng, size_px, 0.7)
        shine = rng.uniform(0.5, 0.85, len(self._terrain.roofs))
        self._paint = np.stack([np.ones_like(shine), shine, 0.85 * shine])
        self._candidates = lru_cache(maxsize=256)(lambda start: candidates(seed, start, size_px))
        self._started = lru_cache(maxsize=128)(self._ignite)

    def frame(self, index: int) -> Frame:
        """Picture and truth of a frame; `index` is 0 or more."""
        if index < 0:
            raise ValueError(f"frames are numbered from 0, there is no frame {index}")
        rng = np.random.default_rng([self.seed, 6, index])
        fires = [fire for start in range(index - SCAR_FRAMES, index + 1) for fire in self._started(start)]
        burning = [fire for fire in fires if index - fire.ignition <= LIFE_FRAMES]
        opacity, shadow = self._clouds.opacity(index)

        image = self._ground(rng, index, fires)
        image *= 1 - 0.5 * shadow
        smoke = np.zeros((self.size_px, self.size_px), dtype=np.float32)
        truths = []
        for fire in burning:
            truth = self._burn(fire, index, image, smoke, opacity)
            if truth is not None:
                truths.append(truth)
        self._flare(rng, image)
        image = veil(image, smoke * np.roll(self._puffs, 3 * index, axis=1))
        image = cover(image, opacity, self._clouds.brightness(index))
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image += noise * (NOISE_FLOOR + NOISE_GAIN * image)
        return Frame(index, to_dn(image), CRS, self.transform, tuple(truths))

    def _ignite(self, start: int) -> tuple[Fire, ...]:
        earlier = [self._candidates(before) for before in range(start - QUIET_FRAMES, start)]
        return ignite(self.seed, start, self._terrain, np.concatenate([*earlier, np.empty((0, 2))]))

    def _ground(self, rng: np.random.Generator, index: int, fires: list[Fire]) -> FloatImage:
        """Sunlit ground of a frame with its scars, the glint on water and the glare of roofs."""
        image = self._terrain.reflectance.copy()
        scar = np.zeros(self._waves.shape, dtype=np.float32)
        for fire in fires:
            outer, inner = fire.window(self.size_px)
            age = fire.burnt_frames(index)[inner]
            fresh = np.where(age >= 0, 0.92 * np.exp(-np.maximum(age, 0) / SCAR_FADE_FRAMES), 0)
            np.maximum(scar[outer], fresh, out=scar[outer])
        char = SCAR_SPECTRUM[:, None, None] * self._char
        image += scar * (char - image)
        # Glint is the sun's own colour, equal in all bands; how much there is depends on the day's waves.
        glint = max(rng.normal(0.02, 0.06), 0) * np.clip(1 + 0.4 * self._waves, 0, None)
        image += glint * self._terrain.water
        # Painted metal reflects SWIR2 better than the bands below, most of all when it mirrors the sun.
        rows, columns = self._terrain.roofs.T
        glare = rng.gamma(1.2, 0.1, len(rows))
        image[:, rows, columns] += (glare * self._paint).astype(np.float32)
        return image

    def _burn(
        self, fire: Fire, index: int, image: FloatImage, smoke: FloatImage, opacity: FloatImage
    ) -> FireTruth | None:
        """Add a fire's glow and smoke to the picture; None when no pixel of it burns inside the scene."""
        outer, inner = fire.window(self.size_px)
        shares = fire.shares(index)
        seen = shares[inner]
        if not seen.any():
            return None
        image[:, outer[0], outer[1]] += emission(shares, fire.temperature_k)[:, inner[0], inner[1]]
        rows, columns = (where + edge.start for where, edge in zip(np.nonzero(seen), outer, strict=True))
        weight = seen[seen > 0]
        source = np.average(rows, weights=weight), np.average(columns, weights=weight)
        smoke += plume(self.size_px, *source, fire.wind_rad, min(6.0 * float(weight.sum()) ** 0.6, 5.0))
        return self._truth(fire.id, rows, columns, opacity)

    def _truth(self, name: str, rows: NDArray[np.intp], columns: NDArray[np.intp], opacity: FloatImage) -> FireTruth:
        row, column = rows.mean(), columns.mean()
        x, y = WEST_M + (column + 0.5) * PIXEL_M, NORTH_M - (row + 0.5) * PIXEL_M
        longitudes, latitudes = reproject(CRS, "EPSG:4326", [x], [y])[:2]
        farthest_px = np.hypot(rows - row, columns - column).max()
        return FireTruth(
            id=name,
            lon=longitudes[0],
            lat=latitudes[0],
            area_m2=len(rows) * PIXEL_M**2,
            radius_m=float(farthest_px + 1.5) * PIXEL_M,
            visible=bool((opacity[rows, columns] < HIDDEN_OPACITY).any()),
            rows=rows,
            columns=columns,
        )

    def _flare(self, rng: np.random.Generator, image: FloatImage) -> None:
        """Let the works flare gas now and then: hot as a fire, and yet no fire to raise an alarm for."""
        if rng.random() < FLARE_CHANCE:
            row, column = self._terrain.flare
            image[:, row, column] += FLARE_SHARE * fire_reflectance(FLARE_TEMPERATURE_K)


def to_dn(reflectance: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Digital numbers of a reflectance, clipped to what the sensor can say; never 0, which is no data."""
    dn = np.rint((reflectance - DN_OFFSET) / DN_SCALE)
    return np.asarray(np.clip(dn, 1, SATURATED_DN), dtype=np.uint16)
