"""Filters: what each dialect means, and that the index finds exactly what holding every filter would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.eventing.filters import Index, compile_filters
from libskylark.eventing.objects import Dialect, TriggerSpec

EVENT = {"type": "dev.skylark.frame.captured", "source": "/camera", "skylarknode": "pi5u4"}

NAMES = st.sampled_from(["type", "source", "skylarknode", "subject"])
VALUES = st.sampled_from(["a", "b", "ab", "ba"])
MAPS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=3)
ATTRIBUTES = st.dictionaries(NAMES, st.sampled_from(["", "a", "b", "ab", "ba", "aba"]))
EMPTY = st.sampled_from([{}, {"exact": {}}, {"all": []}, {"cesql": ""}])
LEAVES = st.one_of(EMPTY, *(st.fixed_dictionaries({name: MAPS}) for name in ("exact", "prefix", "suffix")))
DIALECTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)
SPECS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"filters": st.lists(DIALECTS, max_size=3)}),
    st.fixed_dictionaries(
        {"filter": st.fixed_dictionaries({"attributes": st.dictionaries(NAMES, st.sampled_from(["", "a", "b"]))})}
    ),
)


def spec(**fields: Any) -> TriggerSpec:
    return TriggerSpec.model_validate({"broker": "default", "subscriber": {"uri": "http://localhost/"}, **fields})


def passes(*filters: dict[str, Any]) -> bool:
    return compile_filters(spec(filters=list(filters)))(EVENT)


def meaning(dialect: Dialect, attributes: dict[str, str]) -> bool | None:
    """The dialects' definition, as plainly as it can be said; None for what filters nothing, as in Knative."""
    if dialect.exact:
        return all(attributes.get(name) == value for name, value in dialect.exact.items())
    if dialect.prefix:
        return all(name in attributes and attributes[name].startswith(v) for name, v in dialect.prefix.items())
    if dialect.suffix:
        return all(name in attributes and attributes[name].endswith(v) for name, v in dialect.suffix.items())
    for parts, decide in ((dialect.all, all), (dialect.any, any)):
        found = [told for inner in parts or () if (told := meaning(inner, attributes)) is not None]
        if found:
            return decide(found)
    told = meaning(dialect.not_, attributes) if dialect.not_ else None
    return None if told is None else not told


def expected(trigger: TriggerSpec, attributes: dict[str, str]) -> bool:
    if trigger.filters:
        return all(meaning(dialect, attributes) is not False for dialect in trigger.filters)
    wanted = (trigger.filter.attributes if trigger.filter else None) or {}
    return all(name in attributes and value in ("", attributes[name]) for name, value in wanted.items())


@pytest.mark.parametrize(
    ("dialect", "result"),
    [
        ({"exact": {"type": "dev.skylark.frame.captured"}}, True),
        ({"exact": {"type": "dev.skylark.frame"}}, False),
        ({"exact": {"subject": "x"}}, False),
        ({"prefix": {"type": "dev.skylark."}}, True),
        ({"prefix": {"subject": "x"}}, False),
        ({"suffix": {"type": ".captured", "skylarknode": "4"}}, True),
        ({"suffix": {"type": ".captured", "skylarknode": "5"}}, False),
        ({"not": {"exact": {"subject": "x"}}}, True),
        ({"any": [{"exact": {"subject": "x"}}, {"prefix": {"source": "/"}}]}, True),
        ({"all": [{"exact": {"subject": "x"}}, {"prefix": {"source": "/"}}]}, False),
        ({}, True),
        ({"exact": {}}, True),
        ({"not": {"prefix": {}}}, True),
        ({"any": [{}]}, True),
        ({"any": [{}, {"exact": {"subject": "x"}}]}, False),
        ({"all": [{}, {"exact": {"subject": "x"}}]}, False),
        ({"exact": {}, "suffix": {"source": "x"}}, False),
    ],
)
def test_a_dialect_decides(dialect: dict[str, Any], result: bool) -> None:
    assert passes(dialect) is result


def test_all_entries_of_filters_must_pass() -> None:
    assert passes({"prefix": {"source": "/"}}, {"exact": {"skylarknode": "pi5u4"}})
    assert not passes({"prefix": {"source": "/"}}, {"exact": {"skylarknode": "pi5u2"}})


def test_filters_override_filter() -> None:
    both = spec(filter={"attributes": {"type": "other"}}, filters=[{"prefix": {"type": "dev."}}])
    assert compile_filters(both)(EVENT)


def test_an_empty_value_of_filter_attributes_takes_any_value_but_not_a_missing_one() -> None:
    assert compile_filters(spec(filter={"attributes": {"skylarknode": ""}}))(EVENT)
    assert not compile_filters(spec(filter={"attributes": {"subject": ""}}))(EVENT)


def test_no_filter_takes_every_event() -> None:
    assert compile_filters(spec())(EVENT)
    assert compile_filters(spec(filters=[], filter={}))(EVENT)


@given(st.lists(SPECS, max_size=8), ATTRIBUTES)
def test_the_index_finds_what_every_filter_by_itself_lets_pass(
    specs: list[dict[str, Any]], attributes: dict[str, str]
) -> None:
    triggers = [spec(**fields) for fields in specs]
    index = Index((trigger, position) for position, trigger in enumerate(triggers))
    assert index.find(attributes) == [n for n, trigger in enumerate(triggers) if expected(trigger, attributes)]
