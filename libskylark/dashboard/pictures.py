"""Frames as pictures that a browser shows: fetched from the camera that captured them, when somebody looks."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import requests

from libskylark.constellation import Constellation
from libskylark.errors import ConfigError, LabError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEPT: Final = 12
_MOST_PX: Final = 2048  # wide and high; a larger one would be a page of its own
_TIMEOUT_S: Final = 10.0
_DAYLIGHT: Final = (0.5, 0.66, 0.58)  # the reflectance of red, green and blue that is shown at full; fire is above it
_GAMMA: Final = 0.8
_MOST_REFLECTANCE: Final = 10.0  # of a fire that saturates the sensor, with much to spare


class Pictures:
    """PNGs by chain; may be asked from any thread, and fetches each frame once."""

    def __init__(self, constellation: Constellation) -> None:
        self._constellation = constellation
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def png(self, frame: Mapping[str, Any]) -> bytes:
        """Raises LabError where the frame came from no camera of the lab, or cannot be drawn here."""
        with self._lock:  # one at a time: a viewer who looks through all of them takes no more than one thread's time
            if (known := self._kept.get(frame["id"])) is not None:
                return known
            png = self._kept[frame["id"]] = draw(self._fetch(frame))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return png

    def _fetch(self, frame: Mapping[str, Any]) -> bytes:
        satellite, number = frame["satellite"], frame["frame"]
        if satellite not in self._constellation.nodes or not isinstance(number, int):
            raise LabError("the frame came from no camera of this lab: nobody has the picture any more")
        try:
            camera = self._constellation.locate("camera", satellite)
            url = f"http://{camera.host}:{camera.port}/frame"
            answer = requests.get(url, params={"frame": str(number)}, timeout=_TIMEOUT_S)
        except (ConfigError, requests.RequestException) as error:
            raise LabError(f"the camera of {satellite} was not reached: {error}") from None
        if not answer.ok:
            raise LabError(f"the camera of {satellite} answered {answer.status_code} for frame {number}")
        return answer.content


def draw(content: bytes) -> bytes:
    """The PNG of a frame's GeoTIFF, pixel by pixel, in false colours: the longer a band's waves, the redder.

    Fire glows in SWIR2 and so is red. Raises LabError where it is no picture of three bands and of 2048 by 2048
    pixels at most, or rasterio is missing.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError:
        raise LabError("pictures need rasterio: pip install 'skylark-functions[firewatch]'") from None
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # here nobody asks where on earth it is
            return _png(_colours(_reflectance(content)))
    except RasterioError as error:
        raise LabError(f"the frame cannot be drawn: {error}") from None


def _reflectance(content: bytes) -> NDArray[np.float32]:
    """SWIR2, SWIR1 and NIR."""
    import numpy as np
    from rasterio.io import MemoryFile

    with MemoryFile(content) as memory, memory.open() as source:
        height, width = source.shape
        if source.count < 3 or max(height, width) > _MOST_PX:
            found = f"{source.count} bands of {width} by {height} pixels"
            raise LabError(f"the frame has {found}; three of {_MOST_PX} by {_MOST_PX} at most can be shown")
        numbers: NDArray[np.float32] = source.read([1, 2, 3]).astype(np.float32)
        scales, offsets = (np.array(values[:3])[:, None, None] for values in (source.scales, source.offsets))
    reflectance = np.asarray(numbers * scales + offsets, dtype=np.float32)
    if reflectance.max(initial=0) > _MOST_REFLECTANCE:  # digital numbers that do not say what they mean
        return np.asarray(numbers / numbers.max(), dtype=np.float32)
    return reflectance


def _colours(reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
    import numpy as np

    swir2, swir1, nir = reflectance
    colours = np.stack([swir2, (swir1 + nir) / 2, swir1]) / np.array(_DAYLIGHT)[:, None, None]
    return np.asarray(np.clip(colours, 0, 1) ** _GAMMA * 255, dtype=np.uint8)


def _png(colours: NDArray[np.uint8]) -> bytes:
    from rasterio.io import MemoryFile

    _, height, width = colours.shape
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "width": width, "height": height}
    with MemoryFile() as target:
        with target.open(**profile) as picture:
            picture.write(colours)
        return bytes(target.read())
