"""What Knative takes and a broker on one machine does without, or otherwise: accepted, and told with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from libskylark.eventing.values import parse_iso_duration_s, with_one_decimal
from libskylark.yamlfile import Document, Location, dotted

_SHOWN_CHARS: Final = 80
_DESTINATIONS: Final[tuple[Location, ...]] = (
    ("spec", "subscriber"),
    ("spec", "sink"),
    ("spec", "delivery", "deadLetterSink"),
)
_FIELDS: Final[tuple[Location, ...]] = (
    ("status",),
    ("spec", "brokerRef"),
    ("spec", "config"),
    *((*destination, name) for destination in _DESTINATIONS for name in ("CACerts", "audience")),
)
_DURATIONS: Final[tuple[Location, ...]] = (
    ("spec", "delivery", "timeout"),
    ("spec", "delivery", "backoffDelay"),
    ("spec", "delivery", "retryAfterMax"),
)
_ANNOTATIONS: Final[Location] = ("metadata", "annotations")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is valid and does nothing, at a place that an editor can jump to."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


def notice(document: Document, location: Location, value: Any) -> Notice:
    """The notice of a field of a document."""
    shown = repr(value)
    if len(shown) > _SHOWN_CHARS:
        shown = f"{shown[:_SHOWN_CHARS]}..."
    message = f"found {shown}, which has no meaning in the embedded broker"
    return Notice(document.file, document.line(location), dotted(location), message)


def left_alone(document: Document, location: Location, reason: str) -> Notice:
    """The notice of an object that is the business of another engine, for `reason`."""
    return Notice(document.file, document.line(location), dotted(location), f"{reason}, which is not served here")


def notices_of(document: Document) -> Iterator[Notice]:
    """The notices of a Broker, Trigger or PingSource that has no faults."""
    for location in _FIELDS:
        if (value := _at(document, location)) is not None:
            yield notice(document, location, value)
    for destination in _DESTINATIONS:
        namespace = _at(document, (*destination, "ref", "namespace"))
        own = _at(document, ("metadata", "namespace")) or "default"
        if _at(document, (*destination, "ref", "kind")) == "Service" and namespace not in (None, own):
            yield notice(document, (*destination, "ref", "namespace"), namespace)
    for location in _DURATIONS:
        if (duration := _at(document, location)) is not None:
            counted = with_one_decimal(duration)
            if parse_iso_duration_s(counted) != parse_iso_duration_s(duration):
                message = f"found {duration!r}, of which a cluster counts {counted}; here it counts whole"
                yield Notice(document.file, document.line(location), dotted(location), message)
    for key, value in (_at(document, _ANNOTATIONS) or {}).items():
        domain = key.partition("/")[0]
        if domain == "knative.dev" or domain.endswith(".knative.dev"):
            yield notice(document, (*_ANNOTATIONS, key), value)


def _at(document: Document, location: Location) -> Any:
    node: Any = document.content
    for part in location:
        node = node.get(part) if isinstance(node, dict) else None
    return node
