from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from libskylark.errors import DocumentError
from libskylark.yamlfile import dotted, dump, read_documents, read_one

Write = Callable[[str, str], Path]


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    items: list[Inner] = []


def faults_of(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_one(path, Outer)
    return [str(fault).removeprefix(f"{path.parent}/") for fault in caught.value.faults]


def test_a_document_becomes_a_validated_model(write: Write) -> None:
    model, document = read_one(write("a.yaml", "# a comment\nname: x\nitems:\n  - size: 1\n"), Outer)
    assert model == Outer(name="x", items=[Inner(size=1)])
    assert document.line(("items", 0, "size")) == 4


def test_every_fault_has_its_line_and_field(write: Write) -> None:
    path = write("a.yaml", "items:\n  - size: big\n  - size: 1\n    colour: red\nnme: x\n")
    assert sorted(faults_of(path)) == [
        "a.yaml:1: name: is required",
        "a.yaml:2: items[0].size: found 'big': Input should be a valid integer, unable to parse string as an integer",
        "a.yaml:4: items[1].colour: unknown field",
        "a.yaml:5: nme: unknown field",
    ]


def test_a_fault_in_what_an_alias_merges_in_has_a_line_too(write: Write) -> None:
    path = write("a.yaml", "name: x\nitems:\n  - &first {size: big}\n  - <<: *first\n")
    assert [fault.split(": found")[0] for fault in faults_of(path)] == [
        "a.yaml:3: items[0].size",
        "a.yaml:4: items[1].size",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: [", "a.yaml:1: not YAML"),
        ("name: x\n\titems: []\n", "a.yaml:2: not YAML"),
        ("name: x\nname: y\n", "a.yaml:2: not YAML: found duplicate key"),
        ("name: \x00\n", "a.yaml: not YAML"),
        ("- x\n", "a.yaml:1: found a CommentedSeq, expected a mapping of fields"),
        ("just text\n", "a.yaml:1: found a str, expected a mapping of fields"),
        ("", "a.yaml: found 0 documents, expected one"),
        ("name: x\n---\nname: y\n", "a.yaml: found 2 documents, expected one"),
    ],
)
def test_a_file_that_is_no_such_document_is_refused_with_its_line(write: Write, text: str, fault: str) -> None:
    assert faults_of(write("a.yaml", text))[0].startswith(fault)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: \xff\n")
    assert faults_of(path)[0].startswith("a.yaml: not YAML")


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "a.yaml") == ["a.yaml: cannot be read: No such file or directory"]


def test_documents_of_one_file_keep_their_own_lines(write: Write) -> None:
    path = write("a.yaml", "---\nname: x\n---\n# empty\n---\nname: y\n")
    assert [(d.content["name"], d.first_line) for d in read_documents(path)] == [("x", 2), ("y", 6)]


def test_a_location_that_the_document_lacks_gives_the_line_of_its_parent(write: Write) -> None:
    _, document = read_one(write("a.yaml", "name: x\nitems:\n  - size: 1\n"), Outer)
    assert document.line(("items", 0, "missing", "deeper")) == 3
    assert document.line(("items", 7)) == 2


def test_locations_are_written_with_dots_and_brackets() -> None:
    assert dotted(("spec", "filters", 0, "exact")) == "spec.filters[0].exact"
    assert dotted(()) == ""


def test_dumped_values_are_read_back_in_their_order(write: Write) -> None:
    content = {"z": 1, "a": {"list": ["x", {"y": None}], "text": "1"}}
    document = next(read_documents(write("a.yaml", dump(content))))
    assert document.content == content
    assert list(document.content) == ["z", "a"]


@pytest.mark.parametrize("text", ["+_", "a: 2026-13-01", "a: " + "[" * 500, "a: 0x_"])
def test_a_value_that_the_parser_cannot_make_is_a_fault(write: Write, text: str) -> None:
    with pytest.raises(DocumentError, match="not YAML"):
        list(read_documents(write("objects.yaml", text)))


def test_an_anchor_may_be_given_anew(write: Write) -> None:
    (document,) = read_documents(write("objects.yaml", "a: &x 1\nb: &x 2\nc: *x\n"))
    assert document.content["c"] == 2
