"""From hotspots frame by frame to one alarm per fire: remembers the incidents of each ground area."""

from __future__ import annotations

import logging
import math
from collections.abc import MutableMapping
from typing import Any

from incidents import Incident, Numbering, step

from libskylark import BadInput, Event, Function

log = logging.getLogger("skylark.alarm")

app = Function("alarm", emits="dev.skylark.alarm.raised")


@app.handler
def alarm(event: Event, state: MutableMapping[str, Any], memory: MutableMapping[str, Any]) -> dict[str, Any] | None:
    """Fold a frame's hotspots into the area's incidents; emits the alarms that it confirms, if any."""
    data = event.json()
    # detect forwards the list as state; an event from elsewhere may have it in its data. It ends here.
    if "hotspots" in state and isinstance(data, dict):
        data["hotspots"] = state.pop("hotspots")
    frame, hotspots = check(data, after=memory.get("newest_frame", -1))
    area = data.get("area") or event.subject
    numbering, late = Numbering(memory.get("newest_frame"), memory.get("late_in_a_row", 0)).place(frame)
    incidents, raised, _ = step(memory.get("incidents", []), frame, hotspots, late=late)

    memory["incidents"] = incidents
    memory["newest_frame"] = numbering.newest
    memory["late_in_a_row"] = numbering.late_in_a_row
    memory["frames_decided"] = memory.get("frames_decided", 0) + 1
    memory["alarms_raised"] = memory.get("alarms_raised", 0) + len(raised)
    if not raised:
        return None
    for incident in raised:
        where, seen = f"{area or 'an area without name'} at {place(incident)}", incident["frames_seen"]
        log.info("fire %s in %s, seen in %d frames", incident["id"], where, seen)
    return {"type": "FeatureCollection", "features": [feature(incident, area) for incident in raised]}


def check(data: Any, after: int) -> tuple[int, list[dict[str, Any]]]:
    """The frame number and the hotspots of an event's data; raises BadInput that says what is amiss.

    A picture that somebody sent by hand has no number: it counts as the next one `after` the newest.
    """
    if not isinstance(data, dict) or not isinstance(data.get("hotspots"), list):
        raise BadInput('the data must be a JSON object with a list "hotspots", as detect sends it')
    frame = data.get("frame", after + 1)
    if isinstance(frame, bool) or not isinstance(frame, int):
        raise BadInput(f'"frame" must be the whole number of the frame, found {frame!r}')
    for number, spot in enumerate(data["hotspots"]):
        if not isinstance(spot, dict):
            raise BadInput(f"hotspot {number} must be an object, found {type(spot).__name__}")
        faulty = [key for key in ("x", "y", "pixels") if not _is_number(spot.get(key))]
        faulty += [key for key in ("lon", "lat", "area_m2") if not _is_number(spot.get(key, 0) or 0)]
        if faulty or spot["pixels"] <= 0:
            raise BadInput(f"hotspot {number} needs numbers in {', '.join(faulty) or 'pixels (above 0)'}")
        if (spot.get("lon") is None) != (spot.get("lat") is None):
            raise BadInput(f"hotspot {number} has only one of lon and lat")
    return frame, data["hotspots"]


def place(incident: Incident) -> str:
    """Where it burns, for a human: degrees, or the pixel where the picture had no georeference."""
    if incident["lon"] is None:
        return f"column {incident['x']:.0f}, row {incident['y']:.0f}"
    return f"{incident['lat']:.5f} N {incident['lon']:.5f} E"


def feature(incident: Incident, area: str | None) -> dict[str, Any]:
    """One alarm as a GeoJSON feature; a fire whose picture had no georeference has no geometry but pixels."""
    located = incident["lon"] is not None
    point = {"type": "Point", "coordinates": [incident["lon"], incident["lat"]]}
    return {
        "type": "Feature",
        "geometry": point if located else None,
        "properties": {
            "id": incident["id"],
            "area": area,
            "first_frame": incident["first_frame"],
            "last_frame": incident["last_frame"],
            "frames_seen": incident["frames_seen"],
            "area_m2": incident["area_m2"],
            "x": incident["x"],
            "y": incident["y"],
        },
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
