"""Knative's PingSource as a model: the fields its API has, and no others."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter
from pydantic import Field, field_validator, model_validator

from libskylark.errors import InvalidEvent
from libskylark.event import TICK_TYPE, Event, to_http
from libskylark.eventing.cron import check_cron
from libskylark.eventing.entry import expires_s, ttl_of
from libskylark.eventing.objects import Destination, Model, Object
from libskylark.eventing.values import AttributeName, NonEmpty
from libskylark.yamlfile import Location

SOURCES_GROUP: Final = "sources.knative.dev"

# The attributes that an event's sender or the broker sets, so that an override would break them.
_NOT_EXTENSIONS: Final = {"id", "source", "type", "specversion", "time", "data", "datacontenttype", "dataschema"}


_ZONED: Final = re.compile(r"(?:CRON_)?TZ=(?P<zone>\S+)\s+(?P<fields>.*)")


class CloudEventOverrides(Model):
    extensions: dict[AttributeName, str] | None = None

    @field_validator("extensions")
    @classmethod
    def _are_extensions(cls, extensions: dict[str, str] | None) -> dict[str, str] | None:
        for name in extensions or {}:
            if name in _NOT_EXTENSIONS:
                raise ValueError(f"found {name!r}, which is no extension attribute")
        return extensions


class PingSourceSpec(Model):
    sink: Destination
    schedule: str = "* * * * *"
    timezone: str | None = None
    data: str | None = None
    data_base64: str | None = Field(None, alias="dataBase64")
    content_type: NonEmpty | None = Field(None, alias="contentType")
    ce_overrides: CloudEventOverrides | None = Field(None, alias="ceOverrides")

    @model_validator(mode="before")
    @classmethod
    def _zone_of_its_own(cls, given: Any) -> Any:
        """A zone before the fields of `schedule` is `timezone`, as in Knative, which refuses both at once."""
        if not isinstance(given, Mapping) or given.get("timezone"):
            return given
        match = _ZONED.fullmatch(str(given.get("schedule")))
        return {**given, "timezone": match["zone"], "schedule": match["fields"]} if match else given

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, schedule: str) -> str:
        check_cron(schedule)
        try:
            croniter(schedule, second_at_beginning=True).get_next()
        except CroniterError as error:
            raise ValueError(f"not a cron schedule: {error}") from None
        return schedule

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, name: str | None) -> str | None:
        try:
            ZoneInfo(name or "UTC")
        except (KeyError, ValueError, OSError):
            raise ValueError("expected a time zone of the IANA list, such as Europe/Berlin") from None
        return name

    @field_validator("data_base64")
    @classmethod
    def _is_base64(cls, text: str | None) -> str | None:
        try:
            base64.b64decode(text or "", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is not base64") from None
        return text

    @model_validator(mode="after")
    def _has_one_body(self) -> PingSourceSpec:
        if self.data and self.data_base64:
            raise ValueError("found data and dataBase64; expected one of them")
        return self


class PingSource(Object):
    api_version: Literal["sources.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["PingSource"]
    spec: PingSourceSpec

    @property
    def path(self) -> str:
        """The source of its events."""
        return f"/apis/v1/namespaces/{self.namespace}/pingsources/{self.name}"

    def attributes(self, id: str) -> dict[str, str]:
        """Those of an event, but for what depends on its time."""
        spec = self.spec
        attributes = {"specversion": "1.0", "id": id, "source": self.path, "type": TICK_TYPE}
        if spec.content_type:
            attributes["datacontenttype"] = spec.content_type
        if spec.ce_overrides and spec.ce_overrides.extensions:
            attributes.update(spec.ce_overrides.extensions)
        return attributes

    def faults(self) -> Iterator[tuple[Location, str]]:
        yield from super().faults()
        if self.spec.content_type == "application/json":  # and no other spelling, as Knative has it
            for name, data in (("data", self.spec.data), ("dataBase64", self.spec.data_base64)):
                if data and not _is_json_object(data if name == "data" else base64.b64decode(data)):
                    yield ("spec", name), f"found {data[:40]!r}: of application/json, Knative takes a JSON object only"
        for name, message in _refusals(self.attributes("any")).items():
            is_type = name == "datacontenttype"
            yield ("spec", *(("contentType",) if is_type else ("ceOverrides", "extensions", name))), message


def _refusals(attributes: Mapping[str, str]) -> dict[str, str]:
    """Why no broker would take events with these attributes, or nobody could write them, by attribute."""
    event, faults = Event(attributes), dict[str, str]()
    for check in (lambda event: ttl_of(event.attributes), expires_s, to_http):
        try:
            check(event)
        except InvalidEvent as error:
            faults |= error.faults
    return faults


def _is_json_object(data: str | bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict | NoneType)
    except (ValueError, RecursionError):
        return False
