"""The ground of the synthetic scene: relief, land cover and sunlit reflectance, drawn once from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

FloatImage = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Reflectance of each land cover in the band order SWIR2 (2.2 um), SWIR1 (1.6 um), NIR (0.87 um). Typical
#: summer values of a Mediterranean landscape: vegetation is bright in NIR and dark where its water absorbs.
SPECTRA = {
    "forest": (0.062, 0.135, 0.265),
    "shrub": (0.135, 0.225, 0.275),
    "grass": (0.245, 0.335, 0.305),
    "soil": (0.395, 0.450, 0.375),
    "crop": (0.105, 0.205, 0.415),
    "stubble": (0.275, 0.360, 0.320),
    "ploughed": (0.255, 0.290, 0.215),
    "town": (0.215, 0.245, 0.225),
    "road": (0.170, 0.190, 0.165),
    "water": (0.008, 0.012, 0.024),
}

#: How readily each cover burns: 1 spreads at full speed, 0 stops a fire.
FUEL = {
    "forest": 0.8, "shrub": 1.0, "grass": 0.9, "soil": 0.08, "crop": 0.15, "stubble": 0.7,
    "ploughed": 0.0, "town": 0.0, "road": 0.0, "water": 0.0,
}  # fmt: skip

#: Share of the relief's shading left by diffuse sky light; 1 would be flat light.
DIFFUSE_SHARE = 0.35


@dataclass(frozen=True)
class Terrain:
    """What lies on the ground; every image is (size_px, size_px), row 0 in the north."""

    reflectance: FloatImage  #: (3, size, size), sunlit, without fires, clouds or noise
    fuel: FloatImage  #: 0 (does not burn) to 1 (burns fastest)
    elevation: FloatImage  #: in standard deviations of the relief
    water: Mask
    roofs: NDArray[np.intp]  #: (n, 2) rows and columns of sheet-metal roofs
    flare: tuple[int, int]  #: row and column of the gas flare of the works beside the town


def fractal(rng: np.random.Generator, size_px: int, slope: float) -> FloatImage:
    """A random field of mean 0 and deviation 1 whose amplitude falls with frequency as f**-slope.

    The field is periodic, so that it can be rolled without a seam (the clouds drift this way).
    """
    spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px)))
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(spectrum / frequency**slope, s=(size_px, size_px))
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def cheapest_path(cost: NDArray[np.floating]) -> NDArray[np.intp]:
    """The column per row of the cheapest top-to-bottom path, moving one column aside at most per row."""
    rows, columns = cost.shape
    total = cost.astype(np.float64)
    for row in range(1, rows):
        above = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    path = np.empty(rows, dtype=np.intp)
    path[-1] = int(total[-1].argmin())
    for row in range(rows - 2, -1, -1):
        left = max(path[row + 1] - 1, 0)
        path[row] = left + int(total[row, left : min(path[row + 1] + 2, columns)].argmin())
    return path


def fields(rng: np.random.Generator, size_px: int) -> NDArray[np.intp]:
    """A patchwork of farm fields: the number of the nearest of some hundred scattered points, per pixel."""
    count = max(size_px * size_px // 220, 8)
    # Fields are longer than wide, and a farm's lie along one direction.
    turn = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [1.8 * np.sin(turn), 1.8 * np.cos(turn)]])
    points = rng.uniform(0, size_px, (count, 2)) @ axes.T
    grid = np.indices((size_px, size_px)).reshape(2, -1).T @ axes.T
    nearest = cKDTree(points).query(grid)[1]
    return np.asarray(nearest, dtype=np.intp).reshape(size_px, size_px)


def build(seed: int, size_px: int) -> Terrain:
    """Draw the terrain of a seed: the same seed and size give the same ground, bit for bit."""
    rng = np.random.default_rng([seed, 1])
    relief = fractal(rng, size_px, 1.9)
    fine = fractal(rng, size_px, 1.1)
    moisture = 0.8 * fractal(rng, size_px, 1.6) + 0.35 * relief
    slope = np.hypot(*np.gradient(gaussian_filter(relief, 1.5)))
    flat = slope < np.quantile(slope, 0.45)

    shares = _natural_shares(rng, relief, moisture, fine)
    _farm(rng, shares, flat & (relief < 0.3) & (moisture > -0.9))
    water = _water(shares, relief)
    town, centre = _town(rng, shares, relief, slope, water)
    _replace(shares, "water", gaussian_filter(water.astype(np.float32), 0.55))

    covers = list(SPECTRA)
    stack = np.stack([shares[name] for name in covers])
    spectra = np.array([SPECTRA[name] for name in covers], dtype=np.float32)
    texture = 1 + 0.07 * fine + 0.035 * rng.standard_normal(fine.shape).astype(np.float32)
    light = _shading(relief)
    reflectance = np.einsum("cb,chw->bhw", spectra, stack) * np.where(water, 1, texture * light)
    fuel = np.einsum("c,chw->hw", np.array([FUEL[name] for name in covers], dtype=np.float32), stack)
    fuel[water | town] = 0
    roofs = np.argwhere(town)
    roofs = rng.permutation(roofs)[: max(len(roofs) // 30, 2)]
    return Terrain(
        reflectance=np.clip(reflectance, 0.002, 0.7).astype(np.float32),
        fuel=np.where(fuel < 0.12, 0, fuel).astype(np.float32),
        elevation=relief,
        water=water,
        roofs=roofs,
        flare=centre,
    )


def _natural_shares(
    rng: np.random.Generator, relief: FloatImage, moisture: FloatImage, fine: FloatImage
) -> dict[str, FloatImage]:
    """Mix forest, shrub, grass and bare soil by moisture and height; shares of a pixel sum to 1."""
    bare = fractal(rng, relief.shape[0], 1.5)
    scores = np.stack([
        2.6 * moisture + 0.6 * relief + 0.5 * fine - 0.2,
        0.5 * fine + 0.6,
        -2.0 * moisture + 0.4 * fine - 0.5,
        3.0 * bare - 1.5 * moisture - 5.0,
    ])  # fmt: skip
    weights = np.exp(scores - scores.max(axis=0))
    weights /= weights.sum(axis=0)
    shares = {name: np.zeros_like(relief) for name in SPECTRA}
    shares.update(zip(("forest", "shrub", "grass", "soil"), weights.astype(np.float32), strict=True))
    return shares


def _replace(shares: dict[str, FloatImage], cover: str, amount: NDArray[np.floating]) -> None:
    """Let one cover take `amount` (0 to 1) of each pixel from all the others."""
    for name, share in shares.items():
        shares[name] = (share * (1 - amount)).astype(np.float32)
    shares[cover] = (shares[cover] + amount).astype(np.float32)


def _farm(rng: np.random.Generator, shares: dict[str, FloatImage], arable: Mask) -> None:
    """Lay fields over the flat, low, not too dry ground; each field has one state."""
    number = fields(rng, arable.shape[0])
    state = rng.choice(4, size=number.max() + 1, p=(0.3, 0.32, 0.18, 0.2))[number]
    for code, cover in enumerate(("crop", "stubble", "ploughed")):
        _replace(shares, cover, 0.85 * (arable & (state == code)))


def _water(shares: dict[str, FloatImage], relief: FloatImage) -> Mask:
    """Fill the lowest ground with a lake and cut a river and a road along the cheapest ways."""
    size_px = relief.shape[0]
    water = relief < np.quantile(relief, 0.025)
    river = cheapest_path(np.exp(1.6 * relief))
    rows = np.arange(size_px)
    for aside in (0, 1):
        water[rows, np.clip(river + aside, 0, size_px - 1)] = True
    steep = np.hypot(*np.gradient(relief)).T + 0.02 + 0.6 * water.T
    road = np.zeros_like(water)
    road[cheapest_path(steep), rows] = True
    _replace(shares, "road", 0.6 * (road & ~water))
    return water


def _town(
    rng: np.random.Generator,
    shares: dict[str, FloatImage],
    relief: FloatImage,
    slope: NDArray[np.floating],
    water: Mask,
) -> tuple[Mask, tuple[int, int]]:
    """Build a town on the flattest dry place; returns its pixels and where the works' flare stands."""
    size_px = relief.shape[0]
    margin = size_px // 8
    rough = gaussian_filter(slope + 3.0 * water, size_px / 40)[margin:-margin, margin:-margin]
    row, column = (int(i) + margin for i in np.unravel_index(int(rough.argmin()), rough.shape))
    away = np.hypot(*(np.mgrid[:size_px, :size_px] - np.array([row, column])[:, None, None]))
    built = away + 2.5 * fractal(rng, size_px, 0.8) < size_px / 26
    town = built & ~water
    _replace(shares, "town", 0.8 * town)
    return town, (row, column)


def _shading(relief: FloatImage) -> FloatImage:
    """Light on the slopes with the sun in the south-east, as at a mid-morning overpass; mean 1."""
    down, right = np.gradient(gaussian_filter(relief, 0.8) * 5.0)
    sun_elevation, sun_azimuth = np.radians(55.0), np.radians(135.0)
    length = np.sqrt(1 + down**2 + right**2)
    # The surface normal is (-right, +down, 1) in east, north, up: rows count southwards.
    east, north = np.sin(sun_azimuth), np.cos(sun_azimuth)
    direct = (np.cos(sun_elevation) * (-right * east + down * north) + np.sin(sun_elevation)) / length
    light = DIFFUSE_SHARE + (1 - DIFFUSE_SHARE) * np.clip(direct, 0.05, None) / np.sin(sun_elevation)
    return np.asarray(light / light.mean(), dtype=np.float32)
