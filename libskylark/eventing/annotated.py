"""Annotations that have a meaning: Skylark's own, and those whose value Knative checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from libskylark.eventing.values import check_positive_duration, parse_iso_duration_s
from libskylark.yamlfile import Location

DUPLICATE_WINDOW: Final = "skylark.dev/duplicate-window"

_OWN_PREFIX: Final = "skylark.dev/"
_LONGEST_WINDOW: Final = "P1D"
_INJECTION: Final = "eventing.knative.dev/injection"
_DEPENDENCY: Final = "knative.dev/dependency"
_PLACE: Final[Location] = ("metadata", "annotations")

Annotations = Mapping[str, str]
Faults = Iterator[tuple[Location, str]]
"""Where, and what is wrong there."""


def duplicate_window_s(annotations: Annotations) -> float | None:
    """The window of a Broker without faults; None where it has none."""
    window = annotations.get(DUPLICATE_WINDOW)
    return None if window is None else parse_iso_duration_s(window)


def own_faults(annotations: Annotations, known: Sequence[str]) -> Faults:
    """Annotations with Skylark's prefix that an object of this kind has not."""
    for key in annotations:
        if key.startswith(_OWN_PREFIX) and key not in known:
            yield (*_PLACE, key), f"unknown annotation; known of this kind is {', '.join(known) or 'none'}"


def broker_faults(annotations: Annotations) -> Faults:
    yield from own_faults(annotations, [DUPLICATE_WINDOW])
    if (window := annotations.get(DUPLICATE_WINDOW)) is not None:
        try:
            if parse_iso_duration_s(check_positive_duration(window)) > parse_iso_duration_s(_LONGEST_WINDOW):
                raise ValueError(f"expected {_LONGEST_WINDOW} at most")
        except ValueError as error:
            yield (*_PLACE, DUPLICATE_WINDOW), f"found {window!r}: {error}"


def trigger_faults(annotations: Annotations, namespace: str, broker: str) -> Faults:
    """What Knative checks of a Trigger of this namespace and broker."""
    if (injection := annotations.get(_INJECTION)) is not None:
        if injection not in ("enabled", "disabled"):
            yield (*_PLACE, _INJECTION), f"found {injection!r}, expected 'enabled' or 'disabled'"
        if broker != "default":
            yield (*_PLACE, _INJECTION), f"is for Broker default only; spec.broker is {broker!r}"
    if (dependency := annotations.get(_DEPENDENCY)) is not None:
        for message in _dependency_faults(dependency, namespace):
            yield (*_PLACE, _DEPENDENCY), message


def _dependency_faults(text: str, namespace: str) -> Iterator[str]:
    try:
        reference = json.loads(text)
    except (ValueError, RecursionError):
        reference = None
    if not isinstance(reference, dict):
        yield f"found {text!r}, expected a JSON object with kind, name and apiVersion"
        return
    if missing := [name for name in ("kind", "name", "apiVersion") if not reference.get(name)]:
        yield f"found {text!r}, without {', '.join(missing)}"
    if reference.get("namespace") not in (None, "", namespace):
        yield f"found {text!r}: the namespace must be {namespace!r}, the Trigger's"
