"""Filters of Triggers as predicates, and the index that finds the Triggers of an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from libskylark.eventing.cesql import compiled
from libskylark.eventing.objects import Dialect, TriggerSpec

Attributes = Mapping[str, str]
Predicate = Callable[[Attributes], bool]
Pair = tuple[str, str]
Item = TypeVar("Item")


def compile_filters(spec: TriggerSpec) -> Predicate:
    """Whether an event passes: `filters` if there are any, else `filter`, else every event."""
    if spec.filters:
        return _all([_compile(dialect) for _, dialect in filtering(spec.filters)])
    if spec.filter and spec.filter.attributes:
        return _attributes(spec.filter.attributes)
    return lambda attributes: True


def required_pairs(spec: TriggerSpec) -> set[Pair]:
    """Pairs (attribute, value) that every event which passes has: what the index may rely on."""
    if spec.filters:
        return {pair for _, dialect in filtering(spec.filters) for pair in _required(dialect)}
    if spec.filter and spec.filter.attributes:
        return {(name, value) for name, value in spec.filter.attributes.items() if value}
    return set()


def filtering(dialects: Iterable[Dialect]) -> list[tuple[int, Dialect]]:
    """Those of a list that filter anything, and their positions in it."""
    return [(position, dialect) for position, dialect in enumerate(dialects) if not dialect.is_empty]


class Index(Generic[Item]):
    """Finds the items whose Trigger an event passes, in the order in which they were given.

    Every item is filed under the rarest exact pair that its filter requires, so an event is only held
    against those items that share such a pair with it, and those that require none.
    """

    def __init__(self, items: Iterable[tuple[TriggerSpec, Item]]) -> None:
        entries = [
            (position, compile_filters(spec), item, required_pairs(spec)) for position, (spec, item) in enumerate(items)
        ]
        counts = Counter(pair for entry in entries for pair in entry[3])
        self._filed: dict[str, dict[str, list[tuple[int, Predicate, Item]]]] = {}
        self._unfiled: list[tuple[int, Predicate, Item]] = []
        for position, predicate, item, pairs in entries:
            entry = (position, predicate, item)
            if pairs:
                name, value = min(pairs, key=lambda pair: (counts[pair], pair))
                self._filed.setdefault(name, {}).setdefault(value, []).append(entry)
            else:
                self._unfiled.append(entry)

    def find(self, attributes: Attributes) -> list[Item]:
        """The items whose filter the attributes pass."""
        candidates = self._unfiled
        for name, by_value in self._filed.items():
            if filed := by_value.get(attributes.get(name, "")):
                candidates = [*candidates, *filed]
        found = [(position, item) for position, passes, item in candidates if passes(attributes)]
        if len(found) > 1:
            found.sort(key=lambda entry: entry[0])
        return [item for _, item in found]


def _compile(dialect: Dialect) -> Predicate:
    if dialect.exact:
        return _compare(dialect.exact, str.__eq__)
    if dialect.prefix:
        return _compare(dialect.prefix, str.startswith)
    if dialect.suffix:
        return _compare(dialect.suffix, str.endswith)
    if dialect.all:
        return _all([_compile(inner) for _, inner in filtering(dialect.all)])
    if dialect.any:
        return _any([_compile(inner) for _, inner in filtering(dialect.any)])
    if dialect.cesql:
        return compiled(dialect.cesql).matches
    assert dialect.not_ is not None, "a Dialect that filters has one of them"
    negated = _compile(dialect.not_)
    return lambda attributes: not negated(attributes)


def _required(dialect: Dialect) -> set[Pair]:
    if dialect.exact:
        return set(dialect.exact.items())
    if dialect.all:
        return {pair for _, inner in filtering(dialect.all) for pair in _required(inner)}
    if dialect.any and len(one := filtering(dialect.any)) == 1:
        return _required(one[0][1])
    if dialect.cesql:
        return set(compiled(dialect.cesql).required)
    return set()


def _attributes(wanted: Mapping[str, str]) -> Predicate:
    """The old `filter.attributes`: exact, where an empty value takes any that is there."""
    valued = {name: value for name, value in wanted.items() if value}
    present = [name for name, value in wanted.items() if not value]

    def passes(attributes: Attributes) -> bool:
        return all(attributes.get(name) == value for name, value in valued.items()) and all(
            name in attributes for name in present
        )

    return passes


def _compare(wanted: Mapping[str, str], holds: Callable[[str, str], bool]) -> Predicate:
    """All pairs hold; an attribute that the event does not have fails."""
    pairs = list(wanted.items())

    def passes(attributes: Attributes) -> bool:
        for name, value in pairs:
            found = attributes.get(name)
            if found is None or not holds(found, value):
                return False
        return True

    return passes


def _all(predicates: list[Predicate]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]
    return lambda attributes: all(passes(attributes) for passes in predicates)


def _any(predicates: list[Predicate]) -> Predicate:
    return lambda attributes: any(passes(attributes) for passes in predicates)
