"""Knative's Broker, Trigger and PingSource as models: the fields its API has, and no others."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from libskylark.eventing import annotated
from libskylark.eventing.cron import check_cron
from libskylark.eventing.values import (
    AttributeName,
    Attributes,
    Duration,
    Expression,
    FilterAttributes,
    Given,
    Key,
    Label,
    Namespace,
    NonEmpty,
    ObjectName,
    PositiveDuration,
)
from libskylark.yamlfile import Location

EVENTING_GROUP: Final = "eventing.knative.dev"
SOURCES_GROUP: Final = "sources.knative.dev"

_INT32_MAX: Final = 2**31 - 1
# The attributes that an event's sender or the broker sets, so that an override would break them.
_NOT_EXTENSIONS: Final = {"id", "source", "type", "specversion", "time", "data", "datacontenttype", "dataschema"}


class Model(BaseModel):
    """Strict: the text `3` is no number, and a field that Knative does not have is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Metadata(Model):
    """What matters of an object's metadata, and what Kubernetes adds when it exports one."""

    name: ObjectName
    namespace: Namespace = "default"
    labels: dict[Key, Label] | None = None
    annotations: dict[Key, str] | None = None
    creation_timestamp: Any = Field(None, alias="creationTimestamp")
    deletion_grace_period_seconds: Any = Field(None, alias="deletionGracePeriodSeconds")
    deletion_timestamp: Any = Field(None, alias="deletionTimestamp")
    finalizers: Any = None
    generate_name: Any = Field(None, alias="generateName")
    generation: Any = None
    managed_fields: Any = Field(None, alias="managedFields")
    owner_references: Any = Field(None, alias="ownerReferences")
    resource_version: Any = Field(None, alias="resourceVersion")
    self_link: Any = Field(None, alias="selfLink")
    uid: Any = None


class Reference(Model):
    """A KReference: another object."""

    api_version: NonEmpty = Field(alias="apiVersion")
    kind: NonEmpty
    name: NonEmpty
    namespace: str | None = None


class BrokerReference(Model):
    """A Broker of another namespace, which is a feature of clusters that switch it on."""

    api_version: str | None = Field(None, alias="apiVersion")
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None


class Destination(Model):
    """`ref`, or an absolute `uri`, or a `uri` that is relative to the address of `ref`."""

    ref: Reference | None = None
    uri: NonEmpty | None = None
    ca_certs: str | None = Field(None, alias="CACerts")
    audience: str | None = None

    @model_validator(mode="after")
    def _has_address(self) -> Destination:
        if self.ref is None and self.uri is None:
            raise ValueError("expected ref or uri")
        if self.uri is None:
            return self
        parts = urlsplit(self.uri)
        if parts.scheme and (parts.scheme not in ("http", "https") or not parts.netloc):
            raise ValueError(f"uri: found {self.uri!r}, expected http:// or https:// and a host")
        if not parts.scheme and self.ref is None:
            raise ValueError(f"uri: found {self.uri!r}; a relative uri needs a ref beside it")
        if parts.scheme and self.ref is not None:
            raise ValueError("found ref and an absolute uri; expected one of them")
        return self


class Delivery(Model):
    """How hard delivery is tried, and where an event goes that nobody took."""

    retry: Annotated[int, Field(ge=0, le=_INT32_MAX)] | None = None
    backoff_policy: Literal["linear", "exponential"] | None = Field(None, alias="backoffPolicy")
    backoff_delay: Duration | None = Field(None, alias="backoffDelay")
    timeout: PositiveDuration | None = None
    retry_after_max: Duration | None = Field(None, alias="retryAfterMax")
    dead_letter_sink: Destination | None = Field(None, alias="deadLetterSink")
    format: Literal["json", "binary"] | None = None


class Dialect(Model):
    """One entry of `filters`: exactly one dialect."""

    exact: FilterAttributes | None = None
    prefix: FilterAttributes | None = None
    suffix: FilterAttributes | None = None
    all: Annotated[list[Dialect], Field(min_length=1)] | None = None
    any: Annotated[list[Dialect], Field(min_length=1)] | None = None
    not_: Dialect | None = Field(None, alias="not")
    cesql: Expression | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Dialect:
        given = sorted(name.rstrip("_") for name in self.model_fields_set if getattr(self, name) is not None)
        if len(given) != 1:
            found = ", ".join(given) or "none"
            raise ValueError(f"expected one of exact, prefix, suffix, all, any, not, cesql; found {found}")
        return self


class Filter(Model):
    attributes: Attributes | None = None


class TriggerSpec(Model):
    broker: Given
    broker_ref: BrokerReference | None = Field(None, alias="brokerRef")
    filter: Filter | None = None
    filters: list[Dialect] | None = None
    subscriber: Destination
    delivery: Delivery | None = None


class BrokerSpec(Model):
    config: Reference | None = None
    delivery: Delivery | None = None


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


class _Object(Model):
    metadata: Metadata
    status: Any = None

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.metadata.annotations or {}

    def faults(self) -> Iterator[tuple[Location, str]]:
        """What is wrong between several fields, and with the values of annotations: where, and why."""
        yield from annotated.own_faults(self.annotations, ())


class Broker(_Object):
    api_version: Literal["eventing.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Broker"]
    spec: BrokerSpec | None = None

    @property
    def delivery(self) -> Delivery | None:
        return self.spec.delivery if self.spec else None

    @property
    def duplicate_window_s(self) -> float | None:
        """For how long an event of the same source and id is a duplicate; None where duplicates pass."""
        return annotated.duplicate_window_s(self.annotations)

    def faults(self) -> Iterator[tuple[Location, str]]:
        yield from annotated.broker_faults(self.annotations)


class Trigger(_Object):
    api_version: Literal["eventing.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Trigger"]
    spec: TriggerSpec

    @property
    def broker_id(self) -> str:
        return f"{self.namespace}/{self.spec.broker}"

    def faults(self) -> Iterator[tuple[Location, str]]:
        yield from super().faults()
        yield from annotated.trigger_faults(self.annotations, self.namespace, self.spec.broker)


class PingSource(_Object):
    api_version: Literal["sources.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["PingSource"]
    spec: PingSourceSpec

    def faults(self) -> Iterator[tuple[Location, str]]:
        yield from super().faults()
        if self.spec.content_type == "application/json":  # and no other spelling, as Knative has it
            for name, data in (("data", self.spec.data), ("dataBase64", self.spec.data_base64)):
                if data and not _is_json_object(data if name == "data" else base64.b64decode(data)):
                    yield ("spec", name), f"found {data[:40]!r}: of application/json, Knative takes a JSON object only"


def _is_json_object(data: str | bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict | NoneType)
    except (ValueError, RecursionError):
        return False
