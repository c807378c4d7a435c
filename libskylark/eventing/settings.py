"""What a broker process is told beside what every process of a node is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from libskylark.config import Seconds


class BrokerSettings(BaseModel):
    """Settings of a broker; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    objects: str = Field("triggers", alias="SKYLARK_OBJECTS")
    ping_sources: Literal["on", "off"] = Field("off", alias="SKYLARK_PING_SOURCES")
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(10 * 1024 * 1024, alias="SKYLARK_BROKER_MAX_BODY_BYTES")
    stream_max: Annotated[int, Field(ge=1)] = Field(100_000, alias="SKYLARK_BROKER_STREAM_MAX")
    in_flight: Annotated[int, Field(ge=1, le=1024)] = Field(16, alias="SKYLARK_BROKER_IN_FLIGHT")
    grace_s: Seconds = Field(5.0, alias="SKYLARK_BROKER_GRACE")

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
