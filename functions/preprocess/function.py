"""From a picture to reflectance and a mask of clouds, water and no data."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from calibrate import calibrate, classify, fractions, tiles
from decode import decode

from libskylark import BadInput, Event, Function

#: What is told on of the camera's data.
CARRIED = ("frame", "area", "satellite", "epoch", "synthetic", "picture")

State = MutableMapping[str, Any]

app = Function("preprocess", emits="dev.skylark.image.preprocessed")


@app.handler
def preprocess(event: Event, state: State) -> dict[str, Any]:
    """Calibrate and mask the picture in the state, or else the one that is the event's body."""
    content, carried = find_picture(event, state)
    picture = decode(content)
    reflectance, valid = calibrate(picture)
    mask = classify(reflectance, valid)
    state.pop("image", None)
    state["reflectance"] = reflectance
    state["mask"] = mask
    located = picture.crs is not None
    state["georeference"] = {"crs": picture.crs, "transform": picture.transform} if located else None
    height, width = mask.shape
    return {
        **carried,
        **fractions(mask),
        "width": width,
        "height": height,
        "cropped_from": [picture.full_width_px, picture.full_height_px]
        if (width, height) != (picture.full_width_px, picture.full_height_px)
        else None,
        "tiles": tiles(mask),
        "georeferenced": located,
    }


def find_picture(event: Event, state: State) -> tuple[bytes, dict[str, Any]]:
    """The picture's bytes, and what the camera said about it.

    A camera's event has the picture in its state and JSON as its data; a user may post a picture as it is.

    Raises:
        BadInput: there is no picture in either place.
    """
    image = state.get("image")
    if image is not None:
        if not isinstance(image, bytes | bytearray):
            raise BadInput(f"state image must be a picture's bytes, found {type(image).__name__}")
        said = event.json() if event.data else {}
        if not isinstance(said, dict):
            raise BadInput(f"the data beside a picture must be a JSON object, found {type(said).__name__}")
        return bytes(image), {key: said[key] for key in CARRIED if key in said}
    kind = (event.content_type or "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        raise BadInput(
            f"the event has no picture: its state has no image, and its body is {kind}. "
            "Post a GeoTIFF, PNG or JPEG as the body with its own content type, such as image/tiff"
        )
    return event.data, {"area": event.subject} if event.subject else {}
