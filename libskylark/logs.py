"""Logs: one line per thing that matters, with the node and role, and the chain, event and epoch that it is about.

Code logs by the standard library: a sentence, and `extra` for what a program should find by name. structlog writes
the lines, and adds what `about` has bound: for people in a terminal, as a JSON object each elsewhere.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any, Final, Literal, Protocol, TextIO

from pydantic import BaseModel, ConfigDict, Field

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "text"]

# structlog imports them for the sake of exceptions in a terminal: 90 ms, where all of the rest takes 15.
_PRETTY: Final = ("rich", "colorama", "better_exceptions")


class LogSettings(BaseModel):
    """How a process logs; field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    level: LogLevel = Field(
        default="info",
        validation_alias="SKYLARK_LOG_LEVEL",
        description="The least important lines that are logged.",
    )
    format: LogFormat = Field(
        default="auto",
        validation_alias="SKYLARK_LOG_FORMAT",
        description="json: an object a line; text: for people; auto: text in a terminal, json elsewhere.",
    )


def configure_logs(role: str, node: str, settings: LogSettings, stream: TextIO | None = None) -> None:
    """Has everything that this process logs written to `stream`, by default the standard error, and to no other."""
    stream = stream or sys.stderr
    is_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    structlog = _structlog(with_pretty=stream.isatty())

    def fixed(_: object, __: str, line: dict[str, Any]) -> dict[str, Any]:
        return {"node": node, "role": role, **line}

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        fixed,
    ]
    if is_text:
        colors = stream.isatty() and not os.environ.get("NO_COLOR")
        ends = [structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time", sort_keys=False)]
    else:
        ends = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    handler = logging.StreamHandler(stream)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove_meta, *ends]))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


class Named(Protocol):
    """An event, as far as a line names it."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def chain(self) -> str: ...
    @property
    def epoch(self) -> int | None: ...


def fields_of(event: Named) -> dict[str, Any]:
    """What a line about an event has beside its words, for `extra` or `about`."""
    return {"chain": event.chain, "event_id": event.id, "type": event.type, "epoch": event.epoch}


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Everything that is logged within is about these: chain, event_id, type, epoch."""
    with _bound(fields):
        yield


def _bound(fields: dict[str, Any]) -> AbstractContextManager[None]:
    bound: AbstractContextManager[None] = _structlog(with_pretty=False).contextvars.bound_contextvars(**fields)
    return bound


def _structlog(with_pretty: bool) -> ModuleType:
    if (known := sys.modules.get("structlog")) is not None:
        return known
    hidden = [] if with_pretty else [name for name in _PRETTY if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what Python takes for "cannot be imported"
    try:
        import structlog
    finally:
        for name in hidden:
            del sys.modules[name]
    return structlog
