"""Knative's Broker and Trigger as models, and what they are made of: the fields its API has, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from libskylark.eventing import annotated
from libskylark.eventing.values import (
    Attributes,
    Duration,
    Expression,
    FilterAttributes,
    Given,
    Key,
    Label,
    Namespace,
    NonEmpty,
    NotNegativeDuration,
    ObjectName,
    PositiveDuration,
)
from libskylark.yamlfile import Location

EVENTING_GROUP: Final = "eventing.knative.dev"

_INT32_MAX: Final = 2**31 - 1


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
    retry_after_max: NotNegativeDuration | None = Field(None, alias="retryAfterMax")
    dead_letter_sink: Destination | None = Field(None, alias="deadLetterSink")
    format: Literal["json", "binary"] | None = None


class Dialect(Model):
    """One entry of `filters`: one dialect, or none. What has none filters nothing: it is as if it were not there."""

    exact: FilterAttributes | None = None
    prefix: FilterAttributes | None = None
    suffix: FilterAttributes | None = None
    all: list[Dialect] | None = None
    any: list[Dialect] | None = None
    not_: Dialect | None = Field(None, alias="not")
    cesql: Expression | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Dialect:
        given = sorted(name.rstrip("_") for name in self.model_fields_set if getattr(self, name))
        if len(given) > 1:
            raise ValueError(f"expected one of exact, prefix, suffix, all, any, not, cesql; found {', '.join(given)}")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether it filters nothing."""
        if self.exact or self.prefix or self.suffix or self.cesql:
            return False
        inner = [*(self.all or ()), *(self.any or ()), *((self.not_,) if self.not_ else ())]
        return all(dialect.is_empty for dialect in inner)


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


class Object(Model):
    """What all kinds have."""

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


class Broker(Object):
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


class Trigger(Object):
    api_version: Literal["eventing.knative.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Trigger"]
    spec: TriggerSpec

    @property
    def broker_id(self) -> str:
        return f"{self.namespace}/{self.spec.broker}"

    def faults(self) -> Iterator[tuple[Location, str]]:
        yield from super().faults()
        yield from annotated.trigger_faults(self.annotations, self.namespace, self.spec.broker)
