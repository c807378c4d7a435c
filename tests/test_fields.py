from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from libskylark.codec import compress, decode, encode
from libskylark.errors import CodecError
from libskylark.fields import Fields, Frames


class Source:
    """Stored frames that remember what was asked of them."""

    def __init__(self, **values: Any) -> None:
        self.frames = {name: encode(value) for name, value in values.items()}
        self.asked: list[list[str] | None] = []

    def load(self, names: Sequence[str] | None) -> Frames:
        self.asked.append(None if names is None else list(names))
        return {name: frame for name, frame in self.frames.items() if names is None or name in names}

    def others(self) -> set[str]:
        """All that the last load did not bring."""
        return self.frames.keys() - set(self.asked[-1] or self.frames)


@pytest.fixture
def source() -> Source:
    return Source(a=1, b=[1, 2], c={"n": 0}, d=np.arange(3))


@pytest.fixture
def fields(source: Source) -> Fields:
    return Fields(source.load)


def values(frames: Frames) -> dict[str, Any]:
    return {name: decode(frame) for name, frame in frames.items()}


def test_nothing_is_fetched_before_the_first_touch(source: Source, fields: Fields) -> None:
    assert not fields.touched
    assert source.asked == []


def test_the_first_touch_fetches_one_field_and_the_second_all_the_rest(source: Source, fields: Fields) -> None:
    assert fields["a"] == 1
    assert source.asked == [["a"]]
    assert fields["b"] == [1, 2]
    assert source.asked == [["a"], None]
    assert fields["c"] == {"n": 0}
    assert source.asked == [["a"], None]
    assert fields.touched


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (lambda f: f["b"], [["b", "c", "d"]]),
        (lambda f: f.update(b=1, c=2, d=3), []),
        (lambda f: f.update(b=1, c=2), [["d"]]),
    ],
    ids=["nothing", "all", "some"],
)
def test_where_it_is_known_what_else_is_stored_only_that_is_fetched_which_is_not_written_over(
    source: Source, change: Callable[[Fields], Any], asked: list[list[str]]
) -> None:
    fields = Fields(source.load, others=source.others)
    assert fields["a"] == 1
    change(fields)
    assert sorted(fields.frames()) == ["a", "b", "c", "d"]
    assert source.asked == [["a"], *asked]


def test_what_was_removed_unread_is_not_fetched_when_all_else_is_known(source: Source) -> None:
    fields = Fields(source.load, others=source.others)
    del fields["b"]
    fields.update(c=0, d=0)
    assert values(fields.frames()) == {"a": 1, "c": 0, "d": 0}
    assert source.asked == [["b"], ["a"]]


def test_one_field_read_again_and_again_is_fetched_once(source: Source, fields: Fields) -> None:
    assert [fields["a"], fields.get("a"), "a" in fields] == [1, 1, True]
    assert source.asked == [["a"]]


def test_what_was_read_first_stays_as_it_was_seen(source: Source, fields: Fields) -> None:
    assert fields["a"] == 1
    source.frames["a"] = encode("changed meanwhile")
    assert dict(fields)["a"] == 1
    assert decode(fields.frames()["a"]) == 1


def test_walking_over_the_fields_fetches_all_at_once(source: Source, fields: Fields) -> None:
    assert sorted(fields) == ["a", "b", "c", "d"]
    assert len(fields) == 4
    assert source.asked == [None]


def test_a_missing_field_is_a_key_error_and_get_has_its_default(fields: Fields) -> None:
    with pytest.raises(KeyError, match="missing"):
        fields["missing"]
    assert fields.get("missing", 7) == 7
    assert "missing" not in fields


def test_reading_writes_nothing(fields: Fields) -> None:
    dict(fields)
    assert fields.written() == {}
    assert fields.removed() == set()


def test_an_assigned_field_is_written_without_being_read(source: Source, fields: Fields) -> None:
    fields["new"] = 5
    assert fields["new"] == 5
    assert values(fields.written()) == {"new": 5}
    assert source.asked == []
    assert not fields.touched


def test_assigning_the_same_value_counts_as_written(fields: Fields) -> None:
    fields["a"] = fields["a"]
    assert values(fields.written()) == {"a": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f["b"].append(3), {"b": [1, 2, 3]}),
        (lambda f: f["c"].update(n=1), {"c": {"n": 1}}),
        (lambda f: (f["b"].append(3), f["b"].pop()), {}),
    ],
    ids=["list", "dict", "changed back"],
)
def test_a_change_in_place_is_noticed(
    fields: Fields, change: Callable[[Fields], Any], expected: dict[str, Any]
) -> None:
    change(fields)
    assert values(fields.written()) == expected


def test_reading_a_compressed_field_does_not_write_it(source: Source, fields: Fields) -> None:
    source.frames = {name: compress(frame) for name, frame in source.frames.items()}
    assert fields["b"] == [1, 2]
    assert fields["c"] == {"n": 0}
    assert fields.written() == {}
    assert fields.frames() == source.frames
    fields["c"]["n"] = 1
    assert values(fields.written()) == {"c": {"n": 1}}


def test_a_stored_array_cannot_be_changed_in_place_unnoticed(fields: Fields) -> None:
    with pytest.raises(ValueError, match="read-only"):
        fields["d"][0] = 9


def test_a_deleted_field_is_gone_and_removed(fields: Fields) -> None:
    del fields["a"]
    assert "a" not in fields
    assert fields.get("a") is None
    assert sorted(fields) == ["b", "c", "d"]
    assert fields.removed() == {"a"}
    assert "a" not in fields.frames()


def test_deleting_what_is_not_there_is_a_key_error(fields: Fields) -> None:
    with pytest.raises(KeyError):
        del fields["missing"]
    del fields["a"]
    with pytest.raises(KeyError):
        del fields["a"]
    assert fields.removed() == {"a"}


def test_a_field_assigned_after_its_deletion_is_written_and_not_removed(fields: Fields) -> None:
    del fields["a"]
    fields["a"] = 2
    assert values(fields.written()) == {"a": 2}
    assert fields.removed() == set()
    assert sorted(fields) == ["a", "b", "c", "d"]


def test_a_field_deleted_after_its_assignment_is_not_written(fields: Fields) -> None:
    fields["new"] = 1
    del fields["new"]
    assert fields.written() == {}
    assert "new" not in list(fields)


def test_frames_are_all_fields_as_they_are_now(source: Source, fields: Fields) -> None:
    fields["a"] = 10
    fields["b"].append(3)
    del fields["c"]
    frames = fields.frames()
    assert set(frames) == {"a", "b", "d"}
    assert decode(frames["a"]) == 10
    assert decode(frames["b"]) == [1, 2, 3]
    assert frames["d"] == source.frames["d"]


def test_pop_and_setdefault_work_as_on_any_mapping(fields: Fields) -> None:
    assert fields.pop("a") == 1
    assert fields.setdefault("new", []) == []
    fields["new"].append(1)
    assert values(fields.written()) == {"new": [1]}
    assert fields.removed() == {"a"}


@pytest.mark.parametrize("name", ["", 5, None, ("a",)])
def test_a_field_name_is_a_non_empty_string(fields: Fields, name: Any) -> None:
    with pytest.raises(TypeError, match="non-empty strings"):
        fields[name] = 1
    assert name not in fields


def test_a_torn_field_is_named() -> None:
    torn = Fields(lambda name: {"image": b"SKY torn bytes"})
    with pytest.raises(CodecError, match="field 'image'"):
        torn["image"]


def test_fields_of_nothing_are_empty() -> None:
    assert dict(Fields()) == {}
