"""Frames and alarms of the fire watch, out of the answers that functions have recorded with their memory.

Journals tell that an event was sent, not what was in it. The function that sent it has kept it, for ten minutes, so
that a repetition gets the same answer: that is where it is read, without a Trigger that would have to deliver it.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from libskylark.constellation import Constellation
from libskylark.errors import SkylarkError
from libskylark.event import Event
from libskylark.eventing.journal import Accepted
from libskylark.eventing.journey import Step
from libskylark.lab.tally import ALARM_TYPE, HOTSPOTS_TYPE
from libskylark.memory import MemoryKeys, MemoryName, event_name
from libskylark.store import Store

log = logging.getLogger("skylark.dashboard")

_MOST_FRAMES: Final = 60  # more than are shown: a page may ask for a picture a little later
_MOST_ALARMS: Final = 60
_MOST_HOTSPOTS: Final = 60
_MOST_SOURCES: Final = 4000


class Findings:
    """Not safe for several threads, but for `look_up`, which reads a store."""

    def __init__(self, constellation: Constellation, stores: Mapping[str, Store]) -> None:
        self._constellation = constellation
        self._stores = stores
        self._sources: OrderedDict[str, str] = OrderedDict()
        self.frames: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.alarms: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def asks_for(self, step: Step) -> Event | None:
        """The event that caused the answer to be looked up; None where a record is about nothing that is shown."""
        record = step.record
        if not isinstance(record, Accepted):
            return None
        source = self._sources.get(record.cause or "")
        self._sources.setdefault(record.event, record.source)
        if len(self._sources) > _MOST_SOURCES:
            self._sources.popitem(last=False)
        if record.hop or record.type not in (HOTSPOTS_TYPE, ALARM_TYPE) or source is None or record.cause is None:
            return None
        return Event({"id": record.cause, "source": source})

    def look_up(self, node: str, record: Accepted, cause: Event) -> Event | None:
        """The answer as its function recorded it, on the node or wherever the memory has gone since."""
        function = record.source.rpartition("/")[2]
        hosts = self._constellation.hosts(function)
        for host in dict.fromkeys([node, *hosts]):
            for keys in self._memories(host, function):
                if answer := self._recorded(host, keys, cause):
                    head, _, data = answer.partition(b"\n")
                    return Event(json.loads(head), data)
        return None

    def _recorded(self, host: str, keys: MemoryKeys, cause: Event) -> Any:
        return self._stores[host].run(lambda client: client.hget(keys.replies, event_name(cause)))

    def _memories(self, host: str, function: str) -> Iterator[MemoryKeys]:
        """Those of a function: first that of the ground area, then those of other partitions."""
        area = MemoryKeys(MemoryName(function, self._constellation.spec.area))
        yield area
        prefix = f"replies:{function}:"
        names = self._stores[host].run(lambda client: list(client.scan_iter(f"{prefix}*", count=1000)))
        for name in names:
            keys = MemoryKeys(MemoryName(function, name.decode().removeprefix(prefix)))
            if keys.replies != area.replies:
                yield keys

    def add(self, step: Step, answer: Event) -> list[tuple[str, dict[str, Any]]]:
        """(kind, content) of each frame or alarm that an answer tells of; nothing where it is not what it should be."""
        record = step.record
        try:
            told = answer.json()
            if record.type == HOTSPOTS_TYPE:
                return [("frame", self._add_frame(step, answer, told))]
            return [("alarm", self._add_alarm(step, answer, feature)) for feature in told["features"]]
        except (SkylarkError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.info("event %s of %s cannot be shown: %r", record.event, record.type, error)
            return []

    def _add_frame(self, step: Step, answer: Event, told: Mapping[str, Any]) -> dict[str, Any]:
        frame: dict[str, Any] = {
            "id": step.record.chain,
            "frame": told.get("frame"),
            "area": told.get("area") or answer.subject,
            "satellite": told.get("satellite"),
            "detected_on": step.node,
            "time": answer.attributes.get("time"),
            "synthetic": told.get("synthetic"),
            "cloud_fraction": told.get("cloud_fraction"),
            "count": int(told["count"]),
            "hotspots": [_hotspot(spot) for spot in told["hotspots"][:_MOST_HOTSPOTS]],
        }
        self.frames[frame["id"]] = frame
        while len(self.frames) > _MOST_FRAMES:
            self.frames.popitem(last=False)
        return frame

    def _add_alarm(self, step: Step, answer: Event, feature: Mapping[str, Any]) -> dict[str, Any]:
        told, point = feature["properties"], feature["geometry"]
        lon, lat = point["coordinates"] if point else (None, None)
        alarm = {
            "id": f"{step.record.event}/{told['id']}",
            "fire": told["id"],
            "area": told["area"],
            "chain": step.record.chain,
            "raised_on": step.node,
            "time": answer.attributes.get("time"),
            "lon": lon,
            "lat": lat,
            **{name: told[name] for name in ("x", "y", "area_m2", "first_frame", "last_frame", "frames_seen")},
        }
        self.alarms[alarm["id"]] = alarm
        while len(self.alarms) > _MOST_ALARMS:
            self.alarms.popitem(last=False)
        return alarm


def _hotspot(spot: Mapping[str, Any]) -> dict[str, Any]:
    return {name: spot.get(name) for name in ("x", "y", "box", "lon", "lat", "area_m2", "pixels", "persistent")}
