"""Active fires in three bands by the HOTMAP tests: which pixels are hot, and which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as reproject
from scipy import ndimage

#: Mask codes (written by preprocess) of pixels that cannot tell of a fire: cloud and no data.
BLIND_CODES = (1, 3)

#: Ratios of SWIR2 to SWIR1 and to NIR, and the SWIR2 reflectance, from which a pixel is hot beyond doubt.
HOT_RATIO = 1.4
LEAST_SWIR2 = 0.15

#: Ratio of SWIR1 to NIR, and the SWIR1 reflectance, of a pixel so hot that even SWIR1 is filled by its glow.
VERY_HOT_RATIO = 2.0
LEAST_SWIR1 = 0.5

#: A Collection 2 pixel is saturated at DN 65535, 1.602; a little less allows for rounding.
SATURATED = 1.6

#: Hot pixels with at most this many cool ones between them belong to one cluster: a front that runs around
#: its own ashes falls to pieces in the picture, and each piece would look like a fire.
GAP_PX = 2

_NEIGHBOURS = np.ones((3, 3), dtype=bool)

#: Metres per degree of latitude, for pixels given in degrees.
_METRES_PER_DEGREE = 111_195.0


class Hotspot(TypedDict):
    """One cluster of hot pixels; `x` and `y` are its centre in pixels (column, row; 0 is the first's centre).

    Without a georeference `lon`, `lat` and `area_m2` are None.
    """

    lon: float | None
    lat: float | None
    area_m2: float | None
    pixels: int
    x: float
    y: float
    peak_swir2: float
    box: list[int]  #: first column, first row, last column, last row


def detect(reflectance: NDArray[np.floating], mask: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
    """Hot pixels (H, W) of a reflectance (3, H, W) in the order SWIR2, SWIR1, NIR.

    After Murphy, de Souza Filho, Wright, Sabatino and Correa Pabon, "HOTMAP: Global hot target detection at
    moderate spatial resolution", Remote Sensing of Environment 177 (2016) 78-88. A pixel is hot beyond doubt
    where SWIR2 exceeds SWIR1 and NIR by `HOT_RATIO` and is `LEAST_SWIR2` at least. A hotter pixel fails these
    ratios, since its glow fills SWIR1 as well or the sensor saturates; it counts when it is connected
    to one that is beyond doubt. The ratios are compared as products, so that a band at or below 0 divides
    nothing.

    `mask` (H, W) excludes the pixels whose code is in `BLIND_CODES`.

    Raises:
        ValueError: the arrays do not have these shapes.
    """
    if reflectance.ndim != 3 or reflectance.shape[0] != 3:
        raise ValueError(f"expected reflectance of shape (3, H, W), found {reflectance.shape}")
    if mask is not None and mask.shape != reflectance.shape[1:]:
        raise ValueError(f"the mask's shape {mask.shape} is not that of the image, {reflectance.shape[1:]}")
    swir2, swir1, nir = reflectance
    # A comparison with NaN is false, so no-data pixels given as NaN are never hot.
    certain = (swir2 >= HOT_RATIO * swir1) & (swir2 >= HOT_RATIO * nir) & (swir2 >= LEAST_SWIR2)
    likely = (swir1 >= VERY_HOT_RATIO * nir) & (swir1 >= LEAST_SWIR1)
    likely |= (swir2 >= SATURATED) | (swir1 >= SATURATED)
    if mask is not None:
        clear = ~np.isin(mask, BLIND_CODES)
        certain &= clear
        likely &= clear
    hot = ndimage.binary_propagation(certain, structure=_NEIGHBOURS, mask=certain | likely)
    return np.asarray(hot, dtype=np.bool_)


def clusters(
    hot: NDArray[np.bool_], reflectance: NDArray[np.floating], georeference: Mapping[str, Any] | None = None
) -> list[Hotspot]:
    """Groups of hot pixels that touch (corners too) or are `GAP_PX` pixels apart at most, largest first.

    `georeference` is {"crs": text, "transform": six floats}, as preprocess writes it, or None.

    Raises:
        ValueError: the georeference is not of this form.
    """
    # Pixels grown by half the gap touch where the gap between them is no wider.
    grown = ndimage.binary_dilation(hot, _NEIGHBOURS, iterations=GAP_PX // 2) if hot.any() else hot
    labels, count = ndimage.label(grown, structure=_NEIGHBOURS)
    if not count:
        return []
    labels = np.where(hot, labels, 0)
    numbers = np.arange(1, count + 1)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    centres = np.array(ndimage.center_of_mass(hot, labels, numbers))
    peaks = ndimage.maximum(reflectance[0], labels, numbers)
    boxes = ndimage.find_objects(labels)
    places = _places(centres, georeference)
    found: list[Hotspot] = []
    for number in np.argsort(-pixels, kind="stable"):
        lon, lat, pixel_m2 = places[number]
        rows, columns = boxes[number]
        found.append({
            "lon": lon,
            "lat": lat,
            "area_m2": None if pixel_m2 is None else round(float(pixels[number] * pixel_m2), 1),
            "pixels": int(pixels[number]),
            "x": round(float(centres[number, 1]), 2),
            "y": round(float(centres[number, 0]), 2),
            "peak_swir2": round(float(peaks[number]), 4),
            "box": [columns.start, rows.start, columns.stop - 1, rows.stop - 1],
        })  # fmt: skip
    return found


def _places(
    centres: NDArray[np.float64], georeference: Mapping[str, Any] | None
) -> Sequence[tuple[float | None, float | None, float | None]]:
    """Longitude, latitude and square metres of a pixel at each centre (row, column)."""
    if georeference is None:
        return [(None, None, None)] * len(centres)
    try:
        crs = CRS.from_user_input(georeference["crs"])
        a, b, c, d, e, f = (float(number) for number in georeference["transform"])
    except (CRSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"georeference needs a crs and a transform of six numbers: {error}") from None
    rows, columns = centres.T + 0.5
    xs, ys = a * columns + b * rows + c, d * columns + e * rows + f
    longitudes, latitudes = reproject(crs, "EPSG:4326", xs, ys)[:2]
    square = abs(a * e - b * d)
    if crs.is_projected:
        areas = [square * float(crs.linear_units_factor[1]) ** 2] * len(xs)
    else:
        areas = [square * _METRES_PER_DEGREE**2 * float(np.cos(np.radians(lat))) for lat in latitudes]
    return [(round(lon, 6), round(lat, 6), area) for lon, lat, area in zip(longitudes, latitudes, areas, strict=True)]
