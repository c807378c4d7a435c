"""What a broker process is told beside what every process of a node is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from libskylark.config import Seconds


class BrokerSettings(BaseModel):
    """Settings of a broker; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    objects: str = Field(default="triggers", validation_alias="SKYLARK_OBJECTS")
    ping_sources: Literal["on", "off"] = Field(default="off", validation_alias="SKYLARK_PING_SOURCES")
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(
        default=10 * 1024 * 1024, validation_alias="SKYLARK_BROKER_MAX_BODY_BYTES"
    )
    stream_max: Annotated[int, Field(ge=1)] = Field(default=100_000, validation_alias="SKYLARK_BROKER_STREAM_MAX")
    in_flight: Annotated[int, Field(ge=1, le=1024)] = Field(default=16, validation_alias="SKYLARK_BROKER_IN_FLIGHT")
    grace_s: Seconds = Field(default=5.0, validation_alias="SKYLARK_BROKER_GRACE")
    # How long another dispatcher of this stream may be silent before its events are taken over; each says something
    # every second.
    lease_s: Annotated[Seconds, Field(ge=3)] = Field(default=10.0, validation_alias="SKYLARK_BROKER_LEASE")
    # How long another node must not be reached before its events are addressed to a further one.
    readdress_after_s: Seconds = Field(default=5.0, validation_alias="SKYLARK_READDRESS_AFTER")

    @field_validator("objects")
    @classmethod
    def _has_paths(cls, value: str) -> str:
        if not [part for part in value.split(os.pathsep) if part]:
            raise ValueError(f"expected files and folders, separated by {os.pathsep!r}")
        return value

    @property
    def paths(self) -> list[Path]:
        """The files and folders of `objects`."""
        return [Path(part) for part in self.objects.split(os.pathsep) if part]
