"""The camera of a satellite: at each tick, the one above the ground area captures a frame."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Response, abort, jsonify, request
from flask.typing import ResponseReturnValue

from libskylark import BadInput, Context, Event, Function, Reply, SettingError

if TYPE_CHECKING:
    from frames import FrameSource

TICK_TYPE = "dev.knative.sources.ping"

#: The seed of the scene when none is set.
DEFAULT_SEED = 7


@dataclass(frozen=True)
class CameraSettings:
    """What the environment says about the camera."""

    images: Path | None  #: SKYLARK_CAMERA_IMAGES: a folder of pictures to send instead of the scene
    seed: int  #: SKYLARK_CAMERA_SEED: the scene's seed; 7 unless set
    first_epoch: int  #: SKYLARK_CAMERA_FIRST_EPOCH: the epoch of frame 0; 0 unless set
    frames: int  #: SKYLARK_CAMERA_FRAMES: ticks capture frames 0 to this less one; 0 is no limit
    area: str  #: SKYLARK_CAMERA_AREA: the ground area's name; area-1 unless set

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> CameraSettings:
        """The settings of an environment; unset and empty ones take their defaults.

        Raises:
            SettingError: a number is no whole number from 0 on.
        """
        images = environment.get("SKYLARK_CAMERA_IMAGES")
        return cls(
            images=Path(images) if images else None,
            seed=_whole(environment, "SKYLARK_CAMERA_SEED", DEFAULT_SEED),
            first_epoch=_whole(environment, "SKYLARK_CAMERA_FIRST_EPOCH", 0),
            frames=_whole(environment, "SKYLARK_CAMERA_FRAMES", 0),
            area=environment.get("SKYLARK_CAMERA_AREA") or "area-1",
        )

    def source(self) -> FrameSource:
        """Where frames come from; raises SettingError for a folder that has none."""
        from frames import FolderSource, NoFramesError, SceneSource

        if self.images is None:
            return SceneSource(self.seed)
        try:
            return FolderSource(self.images)
        except NoFramesError as error:
            expected = f"a folder with pictures, but {error}"
            raise SettingError("SKYLARK_CAMERA_IMAGES", str(self.images), expected) from None


def _whole(environment: Mapping[str, str], key: str, default: int) -> int:
    text = environment.get(key) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise SettingError(key, text, "a whole number, 0 or more")
    return int(text)


State = MutableMapping[str, Any]

settings = CameraSettings.read()
app = Function("camera", emits="dev.skylark.frame.captured")


@cache
def source() -> FrameSource:
    """Where frames come from; numpy, scipy and rasterio come with it, for the one satellite that is above."""
    return settings.source()


if settings.images is not None:
    source()  # a folder without pictures is told at the start


@app.handler
def capture(event: Event, state: State, context: Context) -> Reply | None:
    """Capture the frame of a tick if this satellite is above the area, or the frame that a request names."""
    ticked = event.type == TICK_TYPE
    if ticked:
        frame = context.epoch - settings.first_epoch
        beyond = settings.frames and frame >= settings.frames
        if not context.is_above or frame < 0 or beyond:
            return None
    else:
        frame = requested_frame(event, context.epoch)
    from scene import BANDS

    captured = source().capture(frame)
    state["image"] = captured.content
    data = {
        "frame": frame,
        "area": settings.area,
        "satellite": context.node,
        "epoch": context.epoch,
        "bands": list(BANDS),
        "synthetic": captured.synthetic,
        "picture": captured.name,
        "bytes": len(captured.content),
    }
    return Reply(data, subject=settings.area, partition=settings.area, new_chain=ticked)


def requested_frame(event: Event, epoch: int) -> int:
    """The frame that a request's JSON names, or without data the frame of the event's epoch."""
    if not event.data:
        return max(epoch - settings.first_epoch, 0)
    wanted = event.json()
    if not isinstance(wanted, dict):
        raise BadInput(f'a request is JSON such as {{"frame": 3}}, found {json.dumps(wanted)[:80]}')
    frame = wanted.get("frame", max(epoch - settings.first_epoch, 0))
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
        raise BadInput(f"frame must be a whole number from 0 on, found {json.dumps(frame)[:80]}")
    return frame


@app.get("/truth")
def truth() -> ResponseReturnValue:
    """The fires that really burn in ?frame=N, known for the synthetic scene only."""
    number = queried_frame()
    fires = source().truth(number)
    if fires is None:
        abort(
            404,
            f"frames come from the folder {settings.images}; which fires really burn is known only of "
            "the synthetic scene (unset SKYLARK_CAMERA_IMAGES)",
        )
    return jsonify(frame=number, synthetic=True, fires=fires)


@app.get("/frame")
def frame() -> ResponseReturnValue:
    """The picture of ?frame=N as a file, to look at or to send by hand; no event is emitted."""
    try:
        captured = source().capture(queried_frame())
    except BadInput as error:
        abort(404, str(error))
    return Response(captured.content, content_type="image/tiff")


def queried_frame() -> int:
    text = request.args.get("frame", "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        abort(400, f"query parameter frame must be a whole number from 0 on, such as ?frame=3; found {text!r}")
    return int(text)
