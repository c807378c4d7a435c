"""Why a Trigger does not take an event: the innermost clause of its filter that decides so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from libskylark.eventing.cesql import compiled
from libskylark.eventing.filters import Attributes, filtering
from libskylark.eventing.objects import Dialect, TriggerSpec
from libskylark.yamlfile import Location

_FILTERS: Final[Location] = ("spec", "filters")
_FILTER: Final[Location] = ("spec", "filter", "attributes")
_EXPRESSION_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Clause:
    """Where in the Trigger it is, and what it finds in the event."""

    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class _Comparison:
    holds: Callable[[str, str], bool]
    wants: str  # before the value, what the filter says, and what it says within a `not`
    wants_not: str


_COMPARISONS: Final = {
    "exact": _Comparison(str.__eq__, "exactly", "anything but"),
    "prefix": _Comparison(str.startswith, "it to begin with", "it not to begin with"),
    "suffix": _Comparison(str.endswith, "it to end in", "it not to end in"),
}


def stopped_by(spec: TriggerSpec, attributes: Attributes) -> Clause | None:
    """The clause that stops an event; None where the Trigger takes it, as compile_filters has it."""
    if spec.filters:
        return _first(_decide(inner, attributes, (*_FILTERS, n), True) for n, inner in filtering(spec.filters))
    for name, value in ((spec.filter and spec.filter.attributes) or {}).items():
        if name not in attributes or value not in ("", attributes[name]):
            wants = f"exactly {value!r}" if value else "it to be there"
            return Clause((*_FILTER, name), f"{_found(name, attributes)}, the filter wants {wants}")
    return None


def _decide(dialect: Dialect, attributes: Attributes, at: Location, wanted: bool) -> Clause | None:
    """The clause because of which a dialect is not `wanted`, which a `not` around it turns over."""
    for kind, comparison in _COMPARISONS.items():
        if pairs := getattr(dialect, kind):
            return _compare(pairs, comparison, attributes, (*at, kind), wanted)
    for kind in ("all", "any"):
        if parts := getattr(dialect, kind):
            clauses = (_decide(part, attributes, (*at, kind, n), wanted) for n, part in filtering(parts))
            return _first(clauses) if (kind == "all") == wanted else _every(clauses, (*at, kind))
    if dialect.cesql:
        return _evaluate(dialect.cesql, attributes, (*at, "cesql"), wanted)
    assert dialect.not_ is not None, "a Dialect that filters has one of them"
    return _decide(dialect.not_, attributes, (*at, "not"), not wanted)


def _compare(
    pairs: Mapping[str, str], comparison: _Comparison, attributes: Attributes, at: Location, wanted: bool
) -> Clause | None:
    wants = comparison.wants if wanted else comparison.wants_not
    clauses = (
        Clause((*at, name), f"{_found(name, attributes)}, the filter wants {wants} {value!r}")
        if (name in attributes and comparison.holds(attributes[name], value)) != wanted
        else None
        for name, value in pairs.items()
    )
    return _first(clauses) if wanted else _every(clauses, at)


def _evaluate(text: str, attributes: Attributes, at: Location, wanted: bool) -> Clause | None:
    expression = compiled(text)
    if expression.matches(attributes) == wanted:
        return None
    shown = text if len(text) <= _EXPRESSION_CHARS else f"{text[: _EXPRESSION_CHARS - 1]}…"
    if not wanted:
        return Clause(at, f"the cesql expression is true, the filter wants it not to be: {shown}")
    outcome = expression.evaluate(attributes)
    if outcome.error is not None:
        return Clause(at, f"the cesql expression ends in an error ({outcome.error}: {outcome.message}): {shown}")
    gives = "" if outcome.result is False else f" but {outcome.result!r}"
    return Clause(at, f"the cesql expression is not true{gives}: {shown}")


def _first(clauses: Iterable[Clause | None]) -> Clause | None:
    """Where all must hold: the first that does not."""
    return next((clause for clause in clauses if clause is not None), None)


def _every(clauses: Iterable[Clause | None], at: Location) -> Clause | None:
    """Where one must hold: all of them, if none does."""
    found = list[Clause]()
    for clause in clauses:
        if clause is None:
            return None
        found.append(clause)
    if len(found) == 1:
        return found[0]
    return Clause(at, "one of these would have to hold: " + "; ".join(clause.message for clause in found))


def _found(name: str, attributes: Attributes) -> str:
    return f"attributes.{name} is {attributes[name]!r}" if name in attributes else f"attributes.{name} is missing"
