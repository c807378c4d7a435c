"""From digital numbers to reflectance, and what each pixel shows: clear ground, cloud, water or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from decode import Picture
from numpy.typing import NDArray

#: Landsat Collection 2, level 2: reflectance = DN * scale + offset, DN 0 being no data.
COLLECTION_2_SCALE = 2.75e-5
COLLECTION_2_OFFSET = -0.2

#: Codes of the mask.
CLEAR, CLOUD, WATER, NO_DATA = 0, 1, 2, 3

#: A cloud is at least this bright in NIR and SWIR1 ...
CLOUD_LEAST_NIR = 0.38
CLOUD_LEAST_SWIR1 = 0.26
#: ... and darker the longer the wave, since its droplets and ice absorb there. Bright soil and roofs rise
#: from NIR to SWIR1, vegetation falls far more steeply, and a fire rises towards SWIR2.
CLOUD_SWIR1_TO_NIR = (0.55, 0.95)
CLOUD_SWIR2_TO_SWIR1 = (0.55, 0.95)

#: Water is dark in all three bands.
WATER_MOST_NIR = 0.08
WATER_MOST_SWIR = 0.05

#: Side of the tiles that the picture is described in.
TILE_PX = 256


def calibrate(picture: Picture) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reflectance (3, H, W) and where it is valid (H, W).

    A file that states scale and offset is taken at its word. Otherwise 16-bit numbers are Landsat Collection
    2, 8-bit numbers are reflectance from 0 (0) to 1 (255), and floats are reflectance already. Invalid pixels
    get 0.
    """
    numbers = picture.numbers
    scale, offset = picture.scale, picture.offset
    valid = picture.valid.copy()
    if scale is None or offset is None:
        scale, offset = {
            "uint8": (1 / 255, 0.0),
            "uint16": (COLLECTION_2_SCALE, COLLECTION_2_OFFSET),
        }.get(numbers.dtype.name, (1.0, 0.0))
    if numbers.dtype == np.uint16:
        valid &= (numbers > 0).all(axis=0)
    reflectance = numbers.astype(np.float32)
    reflectance *= np.float32(scale)
    reflectance += np.float32(offset)
    valid &= np.isfinite(reflectance).all(axis=0)
    reflectance[:, ~valid] = 0
    return reflectance, valid


def classify(reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The mask (H, W) of a reflectance (3, H, W): CLEAR, CLOUD, WATER or NO_DATA.

    Three bands allow a spectral test only, without the thermal band that full cloud masks rest on: thin
    cloud passes as clear, and snow passes as water or clear. Ratios are compared as products, so that nothing
    is divided by 0.
    """
    swir2, swir1, nir = reflectance
    bright = (nir >= CLOUD_LEAST_NIR) & (swir1 >= CLOUD_LEAST_SWIR1)
    low, high = CLOUD_SWIR1_TO_NIR
    sloped = (swir1 >= low * nir) & (swir1 <= high * nir)
    low, high = CLOUD_SWIR2_TO_SWIR1
    cloud = bright & sloped & (swir2 >= low * swir1) & (swir2 <= high * swir1)
    water = (nir <= WATER_MOST_NIR) & (swir1 <= WATER_MOST_SWIR) & (swir2 <= WATER_MOST_SWIR)
    mask = np.full(nir.shape, CLEAR, dtype=np.uint8)
    mask[water] = WATER
    mask[cloud] = CLOUD
    mask[~valid] = NO_DATA
    return mask


def fractions(mask: NDArray[np.uint8]) -> dict[str, float]:
    """Which part of the picture is cloud, water and no data, each from 0 to 1."""
    counts = np.bincount(mask.ravel(), minlength=NO_DATA + 1) / mask.size
    return {
        "cloud_fraction": round(float(counts[CLOUD]), 4),
        "water_fraction": round(float(counts[WATER]), 4),
        "no_data_fraction": round(float(counts[NO_DATA]), 4),
    }


def tiles(mask: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The tiles of `TILE_PX` a side (less at the right and lower edge) that hold something to look at.

    Each is {"x", "y", "width", "height"} in pixels; tiles that are all cloud and no data are left out.
    """
    height, width = mask.shape
    found = []
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            part = mask[y : y + TILE_PX, x : x + TILE_PX]
            if np.isin(part, (CLEAR, WATER)).any():
                found.append({"x": x, "y": y, "width": part.shape[1], "height": part.shape[0]})
    return found
