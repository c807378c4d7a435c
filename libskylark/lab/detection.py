"""How well the fires of the synthetic scene were found: detected clusters against the truth, per frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_METRES_PER_DEGREE = 111_320.0  # of latitude, and of longitude at the equator (WGS 84, mean)
_SLACK_M = 60.0  # two pixels: centres of clusters and of fires are weighted differently


@dataclass(frozen=True)
class Score:
    """Counts over all frames; a ratio is None where nothing was there to be counted."""

    found: int
    hotspots: int
    caught: int
    fires: int

    @property
    def precision(self) -> float | None:
        """Hotspots that lie on a burning fire, of all hotspots."""
        return self.found / self.hotspots if self.hotspots else None

    @property
    def recall(self) -> float | None:
        """Fires not hidden by cloud that have a hotspot, of all such fires."""
        return self.caught / self.fires if self.fires else None


def score(frames: Iterable[tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]]) -> Score:
    """Scores (hotspots, true fires) of each frame; both have `lon` and `lat` in degrees, fires a `radius_m`.

    A hotspot and a fire belong together where their centres are no further apart than their two radii and
    two pixels. A hotspot on a fire that clouds cover in part counts as found; a fire that they cover whole
    is not expected to be caught.
    """
    found = hotspots = caught = fires = 0
    for spots, truth in frames:
        hotspots += len(spots)
        found += sum(any(_meets(spot, fire) for fire in truth) for spot in spots)
        visible = [fire for fire in truth if fire["visible"]]
        fires += len(visible)
        caught += sum(any(_meets(spot, fire) for spot in spots) for fire in visible)
    return Score(found, hotspots, caught, fires)


def _meets(spot: Mapping[str, Any], fire: Mapping[str, Any]) -> bool:
    if spot.get("lon") is None:
        return False
    radius_m = math.sqrt((spot.get("area_m2") or 0.0) / math.pi)
    return _distance_m(spot, fire) <= radius_m + float(fire["radius_m"]) + _SLACK_M


def _distance_m(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Distance on a plane that touches the earth: right to a few metres over a scene."""
    north_m = (a["lat"] - b["lat"]) * _METRES_PER_DEGREE
    east_m = (a["lon"] - b["lon"]) * _METRES_PER_DEGREE * math.cos(math.radians(a["lat"]))
    return math.hypot(north_m, east_m)
