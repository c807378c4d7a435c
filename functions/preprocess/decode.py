"""From the bytes of a picture to digital numbers and their place; refuses what is no usable picture."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window

from libskylark import BadInput

# GDAL reports a broken file through rasterio's logger as well as by an exception; the exception is enough.
logging.getLogger("rasterio").setLevel(logging.CRITICAL)
# A picture without georeference is nothing to warn of here.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

#: What the first bytes of a picture say about its format, and the one GDAL driver that may then read it.
#: Naming the driver keeps formats that refer to other files (VRT and the like) out.
SIGNATURES = {
    b"II*\x00": "GTiff",
    b"MM\x00*": "GTiff",
    b"II+\x00": "GTiff",
    b"MM\x00+": "GTiff",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}

#: A picture may claim to be this wide or high; beyond, it is a mistake or an attack.
LARGEST_SIDE_PX = 32_768

#: Only this much of a side is used, so that the arrays stay below 50 MB.
USED_SIDE_PX = 2_048

#: One compressed block of the file may unpack to this many pixels.
LARGEST_BLOCK_PX = 64_000_000

#: GDAL shall look for no other file beside the picture.
_GDAL = {"GDAL_PAM_ENABLED": "NO", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}

_ACCEPTED = {"uint8", "uint16", "float32"}


@dataclass(frozen=True)
class Picture:
    """A decoded picture: `numbers` (3, H, W) as stored, `valid` (H, W) false where there are no data."""

    numbers: NDArray[Any]
    valid: NDArray[np.bool_]
    scale: float | None  #: of numbers to reflectance where the file tells, else None
    offset: float | None
    crs: str | None
    transform: list[float] | None  #: six numbers a, b, c, d, e, f: x = a*column + b*row + c
    full_width_px: int  #: before the crop to `USED_SIDE_PX`
    full_height_px: int


def decode(content: bytes) -> Picture:
    """Read a GeoTIFF, PNG or JPEG with the bands SWIR2, SWIR1, NIR.

    Of a larger picture only the upper left `USED_SIDE_PX` a side are read.

    Raises:
        BadInput: the bytes are no such picture, are cut short, or claim absurd dimensions.
    """
    if not content:
        raise BadInput("the picture is empty (0 bytes); a GeoTIFF, PNG or JPEG was expected")
    driver = next((name for start, name in SIGNATURES.items() if content.startswith(start)), None)
    if driver is None:
        raise BadInput(
            f"the picture is no GeoTIFF, PNG or JPEG: it has {len(content)} bytes and begins with "
            f"{content[:8].hex(' ')}"
        )
    try:
        with rasterio.Env(**_GDAL), MemoryFile(content) as memory, memory.open(driver=driver) as source:
            _check(source)
            return _read(source)
    except RasterioError as error:
        kind = {"GTiff": "TIFF"}.get(driver, driver)
        raise BadInput(
            f"the picture begins as a {kind} but cannot be read; is it cut short? "
            f"It has {len(content)} bytes ({_first_line(error)})"
        ) from None


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    return (str(cause).splitlines() or ["no reason given"])[0]


def _check(source: DatasetReader) -> None:
    """Refuse before a pixel is read what should not be."""
    if max(source.width, source.height) > LARGEST_SIDE_PX:
        raise BadInput(
            f"the picture claims {source.width} x {source.height} pixels; {LARGEST_SIDE_PX} a side is the most"
        )
    if any(rows * columns > LARGEST_BLOCK_PX for rows, columns in source.block_shapes):
        raise BadInput(
            f"the picture is stored in blocks of {source.block_shapes[0]} pixels; "
            f"store it in strips or tiles of {LARGEST_BLOCK_PX} pixels at most"
        )
    colour = [band for band in source.indexes if source.colorinterp[band - 1] != ColorInterp.alpha]
    if len(colour) != 3:
        hint = " (a ratio of bands tells a fire, and one band has none)" if len(colour) == 1 else ""
        raise BadInput(f"the picture has {len(colour)} bands{hint}; exactly 3 are needed: SWIR2, SWIR1, NIR")
    kinds = set(source.dtypes)
    if not kinds <= _ACCEPTED:
        raise BadInput(
            f"the picture's pixels are {', '.join(sorted(kinds))}; uint8, uint16 or float32 can be calibrated"
        )


def _read(source: DatasetReader) -> Picture:
    window = Window(0, 0, min(source.width, USED_SIDE_PX), min(source.height, USED_SIDE_PX))
    bands = [band for band in source.indexes if source.colorinterp[band - 1] != ColorInterp.alpha]
    numbers = source.read(bands, window=window)
    valid = (source.read_masks(bands, window=window) > 0).all(axis=0)
    scaled = any(value != 1 for value in source.scales) or any(value != 0 for value in source.offsets)
    located = source.crs is not None and not source.transform.is_identity
    return Picture(
        numbers=numbers,
        valid=valid,
        scale=float(source.scales[0]) if scaled else None,
        offset=float(source.offsets[0]) if scaled else None,
        crs=source.crs.to_string() if located else None,
        transform=[float(number) for number in source.transform[:6]] if located else None,
        full_width_px=source.width,
        full_height_px=source.height,
    )
