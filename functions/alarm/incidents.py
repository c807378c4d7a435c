"""Which hotspots of successive frames are one fire, and when that is an alarm: pure logic, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

Incident = dict[str, Any]
Hotspot = Mapping[str, Any]

#: A fire's centre may move this far between two frames, besides the fire's own size.
REACH_M = 200.0
#: The same in pixels, for pictures without georeference.
REACH_PX = 7.0

#: Seen in this many different frames, an incident becomes an alarm.
FRAMES_TO_ALARM = 2

#: An incident ends when this many frames in a row do not show it.
FRAMES_TO_END = 3

#: So many late frames in a row are not late: the camera counts anew.
LATE_FRAMES_TO_RESTART = 5

#: Numbers of this many frames are kept per incident, to know a frame that was counted already.
_KEPT_FRAMES = 8

_METRES_PER_DEGREE = 111_195.0


@dataclass(frozen=True)
class Numbering:
    """Tells frames that come in order from late ones.

    Frames come late when an event was retried or a link was down. A run of late frames means something else:
    the camera was started anew, or somebody asked for a frame far ahead. The count then starts over from
    there.
    """

    newest: int | None = None
    late_in_a_row: int = 0

    def place(self, frame: int) -> tuple[Numbering, bool]:
        """The numbering after a frame, and whether that frame is late (or a repetition)."""
        if self.newest is None or frame > self.newest:
            return Numbering(frame), False
        if frame == self.newest:
            return self, True
        if self.late_in_a_row + 1 >= LATE_FRAMES_TO_RESTART:
            return Numbering(frame), False
        return Numbering(self.newest, self.late_in_a_row + 1), True


def step(
    incidents: Sequence[Incident], frame_number: int, hotspots: Sequence[Hotspot], *, late: bool = False
) -> tuple[list[Incident], list[Incident], list[Incident]]:
    """Fold one frame's hotspots into the incidents; returns (incidents, raised, ended). Changes no argument.

    Every hotspot joins the nearest incident in reach, or opens one. An incident seen in `FRAMES_TO_ALARM`
    different frames is raised, once; one unseen for `FRAMES_TO_END` frames ends. A late frame only adds
    to what is known: a hotspot that matches counts as one more sighting, but nothing moves, opens or ends,
    because newer frames have already told what burns now.
    """
    known = [{**incident, "frames": list(incident["frames"])} for incident in incidents]
    sightings: dict[int, list[Hotspot]] = {}
    names = {incident["id"] for incident in known}
    for hotspot in sorted(hotspots, key=lambda spot: -spot["pixels"]):
        number = _nearest(known, hotspot)
        if number is None:
            if late:
                continue
            number = len(known)
            # After the camera's count started over, an old incident may have the name of a new one.
            name = next(name for k in count() if (name := f"{frame_number}-{k}") not in names)
            names.add(name)
            known.append(_open(name, frame_number, hotspot))
        sightings.setdefault(number, []).append(hotspot)

    for number, incident in enumerate(known):
        if number in sightings:
            _see(incident, frame_number, sightings[number], late)
        elif not late:
            incident["unseen"] += 1
    raised = [each for each in known if not each["alarmed"] and each["frames_seen"] >= FRAMES_TO_ALARM]
    for incident in raised:
        incident["alarmed"] = True
    ended = [each for each in known if each["unseen"] >= FRAMES_TO_END]
    return [each for each in known if each["unseen"] < FRAMES_TO_END], raised, ended


def _open(name: str, frame: int, hotspot: Hotspot) -> Incident:
    place = {key: hotspot.get(key) for key in ("lon", "lat", "x", "y", "area_m2", "pixels")}
    return {
        "id": name, **place, "first_frame": frame, "last_frame": frame,
        "frames_seen": 0, "frames": [], "unseen": 0, "alarmed": False,
    }  # fmt: skip


def _see(incident: Incident, frame: int, hotspots: Sequence[Hotspot], late: bool) -> None:
    """Count a sighting, unless this frame was counted before, and follow the fire to where it is now."""
    counted = incident["frames"]
    forgotten = late and len(counted) == _KEPT_FRAMES and frame < min(counted)
    if frame not in counted and not forgotten:
        incident["frames"] = [*counted, frame][-_KEPT_FRAMES:]
        incident["frames_seen"] += 1
    if late:
        incident["first_frame"] = min(incident["first_frame"], frame)
        return
    incident["last_frame"] = frame
    incident["unseen"] = 0
    pixels = sum(spot["pixels"] for spot in hotspots)
    for key in ("lon", "lat", "x", "y"):
        values = [spot.get(key) for spot in hotspots]
        known = all(value is not None for value in values)
        incident[key] = round(sum(spot[key] * spot["pixels"] for spot in hotspots) / pixels, 6) if known else values[0]
    areas = [spot.get("area_m2") for spot in hotspots]
    incident["area_m2"] = None if None in areas else round(sum(area for area in areas if area is not None), 1)
    incident["pixels"] = pixels


def _nearest(incidents: Sequence[Incident], hotspot: Hotspot) -> int | None:
    """The number of the incident nearest to a hotspot, if any is in reach."""
    best, best_share = None, 1.0
    for number, incident in enumerate(incidents):
        share = _distance_by_reach(incident, hotspot)
        if share <= best_share and (best is None or share < best_share):
            best, best_share = number, share
    return best


def _distance_by_reach(incident: Mapping[str, Any], hotspot: Hotspot) -> float:
    """How far a hotspot is from an incident, 1 being the farthest that still matches."""
    if None not in (incident["lon"], incident["lat"], hotspot.get("lon"), hotspot.get("lat")):
        north = (incident["lat"] - hotspot["lat"]) * _METRES_PER_DEGREE
        # The shorter way round, for fires on both sides of the date line.
        degrees_east = (incident["lon"] - hotspot["lon"] + 180) % 360 - 180
        east = degrees_east * _METRES_PER_DEGREE * math.cos(math.radians(hotspot["lat"]))
        reach = REACH_M + _radius(incident["area_m2"]) + _radius(hotspot.get("area_m2"))
        return math.hypot(north, east) / reach
    if (incident["lon"] is None) != (hotspot.get("lon") is None):
        return math.inf  # one is on the map, the other only in a picture
    reach = REACH_PX + _radius(incident["pixels"]) + _radius(hotspot["pixels"])
    return math.hypot(incident["x"] - hotspot["x"], incident["y"] - hotspot["y"]) / reach


def _radius(area: float | None) -> float:
    """Of a circle of this area."""
    return math.sqrt((area or 0) / math.pi)
