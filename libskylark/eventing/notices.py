"""What Knative takes and a broker on one machine does without, or otherwise: accepted, and told with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from libskylark.eventing.cesql import compiled
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
_DELIVERY: Final[Location] = ("spec", "delivery")
_DURATIONS: Final[tuple[Location, ...]] = tuple(
    (*_DELIVERY, name) for name in ("timeout", "backoffDelay", "retryAfterMax")
)
_OF_RETRIES: Final = ("backoffPolicy", "backoffDelay", "retryAfterMax")
_FILTERS: Final[Location] = ("spec", "filters")
_ATTRIBUTES: Final[Location] = ("spec", "filter", "attributes")
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
    return _told(document, location, value, "which has no meaning in the embedded broker")


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
    yield from _loops(document)
    for location in _DURATIONS:
        if (duration := _at(document, location)) is not None:
            counted = with_one_decimal(duration)
            if parse_iso_duration_s(counted) != parse_iso_duration_s(duration):
                message = f"found {duration!r}, of which a cluster counts {counted}; here it counts whole"
                yield Notice(document.file, document.line(location), dotted(location), message)
    if _at(document, (*_DELIVERY, "retry")) is None:
        for name in _OF_RETRIES:
            if (value := _at(document, (*_DELIVERY, name))) is not None:
                message = f"found {value!r} without retry, and a delivery without it is tried once only"
                yield Notice(document.file, document.line((*_DELIVERY, name)), dotted((*_DELIVERY, name)), message)
    yield from _filter_notices(document)
    for key, value in (_at(document, _ANNOTATIONS) or {}).items():
        domain = key.partition("/")[0]
        if domain == "knative.dev" or domain.endswith(".knative.dev"):
            yield notice(document, (*_ANNOTATIONS, key), value)


def _loops(document: Document) -> Iterator[Notice]:
    """A Trigger without a filter that refers to its own Broker."""
    if _at(document, ("spec", "filters")) or _at(document, ("spec", "filter", "attributes")):
        return
    own = (_at(document, ("metadata", "namespace")) or "default", _at(document, ("spec", "broker")))
    for location in _DESTINATIONS:
        ref = _at(document, (*location, "ref")) or {}
        if ref.get("kind") == "Broker" and (ref.get("namespace") or own[0], ref.get("name")) == own:
            message = "leads to the Trigger's own Broker, and no filter stops an event that comes back: a loop"
            yield Notice(document.file, document.line(location), dotted(location), message)


def _told(document: Document, location: Location, value: Any, what: str) -> Notice:
    shown = repr(value)
    if len(shown) > _SHOWN_CHARS:
        shown = f"{shown[:_SHOWN_CHARS]}..."
    return Notice(document.file, document.line(location), dotted(location), f"found {shown}, {what}")


def _filter_notices(document: Document) -> Iterator[Notice]:
    """What a filter says in vain."""
    filters = _at(document, _FILTERS)
    if filters and (attributes := _at(document, _ATTRIBUTES)):
        yield _told(document, _ATTRIBUTES, attributes, "which counts for nothing beside filters")
    for location, entry in _dialects(_FILTERS, filters):
        if not any(value or name == "not" for name, value in entry.items()):
            yield _told(document, location, entry, "which filters nothing")
        if expression := entry.get("cesql"):
            for function in compiled(expression).missing:
                what = f"which takes no event where it comes to {function}: there is no such function"
                yield _told(document, (*location, "cesql"), expression, what)


def _dialects(location: Location, entries: Any) -> Iterator[tuple[Location, Any]]:
    """All entries of filters, those within others among them, and where they are."""
    for position, entry in enumerate(entries or ()):
        yield from _within((*location, position), entry)


def _within(location: Location, entry: Any) -> Iterator[tuple[Location, Any]]:
    yield location, entry
    for name in ("all", "any"):
        yield from _dialects((*location, name), entry.get(name))
    if (inner := entry.get("not")) is not None:
        yield from _within((*location, "not"), inner)


def _at(document: Document, location: Location) -> Any:
    node: Any = document.content
    for part in location:
        node = node.get(part) if isinstance(node, dict) else None
    return node
