"""What a broker process is told beside what every process of a node is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from libskylark.config import Seconds
from libskylark.eventing.keys import Caps
from libskylark.eventing.outbound import AllowList

AtLeastOne = Annotated[int, Field(ge=1)]


class BrokerSettings(BaseModel):
    """Settings of a broker; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    objects: str = Field(
        default="triggers",
        validation_alias="SKYLARK_OBJECTS",
        description="Files and folders of Broker, Trigger and PingSource objects, separated as in PATH.",
    )
    ping_sources: Literal["on", "off"] = Field(
        default="off",
        validation_alias="SKYLARK_PING_SOURCES",
        description="Whether this broker sends the ticks of PingSources; one of a constellation's does.",
    )
    max_body_bytes: AtLeastOne = Field(
        default=10 * 1024 * 1024,
        validation_alias="SKYLARK_BROKER_MAX_BODY_BYTES",
        description="The largest body of an event; a larger one is answered 413.",
    )
    max_held_bytes: AtLeastOne = Field(
        default=64 * 1024 * 1024,
        validation_alias="SKYLARK_BROKER_MAX_HELD_BYTES",
        description="Bodies that are read or wait to be stored, of all requests together; beyond it, 503.",
    )
    max_headers: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100,
        validation_alias="SKYLARK_BROKER_MAX_HEADERS",
        description="How many headers a request may have; more are answered 431.",
    )
    max_header_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = Field(
        default=32 * 1024,
        validation_alias="SKYLARK_BROKER_MAX_HEADER_BYTES",
        description="How long all headers together may be; longer ones are answered 431.",
    )
    max_connections: AtLeastOne = Field(
        default=1000,
        validation_alias="SKYLARK_BROKER_MAX_CONNECTIONS",
        description="How many senders may be connected; more are answered 503.",
    )
    head_timeout_s: Seconds = Field(
        default=10.0,
        validation_alias="SKYLARK_BROKER_HEAD_TIMEOUT",
        description="How long a request's head may take to arrive; then 408.",
    )
    body_timeout_s: Seconds = Field(
        default=10.0,
        validation_alias="SKYLARK_BROKER_BODY_TIMEOUT",
        description="How long a request's body may take to arrive; then 408.",
    )
    subscriber_allow: str = Field(
        default="",
        validation_alias="SKYLARK_SUBSCRIBER_ALLOW",
        description="Hosts, `*.suffix` and networks where subscribers given by an address may be; empty for any.",
    )
    stream_max: AtLeastOne = Field(
        default=Caps().events,
        validation_alias="SKYLARK_BROKER_STREAM_MAX",
        description="How many events may wait in a node's stream; then senders are answered 429.",
    )
    stream_max_bytes: AtLeastOne = Field(
        default=Caps().events_bytes,
        validation_alias="SKYLARK_BROKER_STREAM_MAX_BYTES",
        description="How many bytes may wait in a node's stream; then senders are answered 429.",
    )
    letters_max: AtLeastOne = Field(
        default=Caps().letters,
        validation_alias="SKYLARK_BROKER_DEAD_LETTERS_MAX",
        description="How many dead letters a node keeps; the oldest are dropped for later ones, with a warning.",
    )
    letters_max_bytes: AtLeastOne = Field(
        default=Caps().letters_bytes,
        validation_alias="SKYLARK_BROKER_DEAD_LETTERS_MAX_BYTES",
        description="How many bytes of dead letters a node keeps, and the latest one whatever its size.",
    )
    duplicates_max: AtLeastOne = Field(
        default=Caps().digests,
        validation_alias="SKYLARK_BROKER_DUPLICATES_MAX",
        description="How many events duplicates are known by; beyond it, those whose window ends first are forgotten.",
    )
    in_flight: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32,
        validation_alias="SKYLARK_BROKER_IN_FLIGHT",
        description="How many deliveries of one Trigger are under way at a time.",
    )
    grace_s: Seconds = Field(
        default=5.0,
        validation_alias="SKYLARK_BROKER_GRACE",
        description="How long deliveries that are under way may take when the broker stops.",
    )
    # Each dispatcher says something every second.
    lease_s: Annotated[Seconds, Field(ge=3)] = Field(
        default=10.0,
        validation_alias="SKYLARK_BROKER_LEASE",
        description="How long another dispatcher of the stream may be silent before its events are taken over.",
    )
    readdress_after_s: Seconds = Field(
        default=5.0,
        validation_alias="SKYLARK_READDRESS_AFTER",
        description="How long another node must not be reached before its events go to a further one.",
    )

    @field_validator("objects")
    @classmethod
    def _has_paths(cls, value: str) -> str:
        if not [part for part in value.split(os.pathsep) if part]:
            raise ValueError(f"expected files and folders, separated by {os.pathsep!r}")
        return value

    @field_validator("max_held_bytes")
    @classmethod
    def _has_room_for_one(cls, value: int, info: ValidationInfo) -> int:
        if value < (largest := info.data.get("max_body_bytes", 0)):
            raise ValueError(f"expected at least {largest}, the largest body (SKYLARK_BROKER_MAX_BODY_BYTES)")
        return value

    @field_validator("subscriber_allow")
    @classmethod
    def _is_allow_list(cls, value: str) -> str:
        AllowList.parse(value)
        return value

    @property
    def caps(self) -> Caps:
        """How much is kept in Redis."""
        return Caps(
            self.stream_max, self.stream_max_bytes, self.letters_max, self.letters_max_bytes, self.duplicates_max
        )

    @property
    def allow(self) -> AllowList | None:
        """The hosts that subscribers may be on; None for any."""
        return AllowList.parse(self.subscriber_allow) if self.subscriber_allow.strip(", ") else None

    @property
    def paths(self) -> list[Path]:
        """The files and folders of `objects`."""
        return [Path(part) for part in self.objects.split(os.pathsep) if part]
