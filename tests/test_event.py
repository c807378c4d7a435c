from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libskylark import binding
from libskylark import event as module
from libskylark.binding import is_json
from libskylark.errors import BadInput, InvalidEvent
from libskylark.event import Event, derived_id, encode_data, from_http, to_http

BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
STRUCTURED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
STRUCTURED_TYPE = "application/cloudevents+json"

# What the CloudEvents type system allows in a string.
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).filter(
    lambda name: name not in {"specversion", "id", "source", "type", "time", "subject", "data", "datacontenttype"}
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    attributes = {"specversion": "1.0", "id": draw(texts), "source": draw(texts), "type": draw(texts)}
    attributes |= draw(st.dictionaries(names.filter(lambda name: name != "dataschema"), texts, max_size=4))
    if draw(st.booleans()):
        attributes["subject"] = draw(texts)
    if draw(st.booleans()):
        stamp = draw(st.datetimes(timezones=st.just(UTC)))
        attributes["time"] = stamp.isoformat().replace("+00:00", "Z")
    data = draw(st.binary(max_size=30))
    if data:
        attributes["datacontenttype"] = draw(st.sampled_from(["application/octet-stream", "image/png", "text/plain"]))
    return Event(attributes, data)


def binary(**changes: str | None) -> Event:
    """The event of BINARY with other headers (named with underscores)."""
    headers = {**BINARY, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return from_http([(name, value) for name, value in headers.items() if value is not None], b"")


def structured(content_type: str = STRUCTURED_TYPE, **changes: Any) -> Event:
    return from_http([("Content-Type", content_type)], json.dumps({**STRUCTURED, **changes}).encode())


def faults_of(message: Any, *arguments: Any, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidEvent) as caught:
        message(*arguments, **changes)
    return caught.value.faults


@given(events())
def test_an_event_comes_back_from_binary_mode(event: Event) -> None:
    headers, body = to_http(event)
    assert from_http(headers.items(), body) == event


@given(events())
def test_an_event_comes_back_from_structured_mode(event: Event) -> None:
    headers, body = to_http(event, structured=True)
    assert headers == {"content-type": STRUCTURED_TYPE}
    assert from_http(headers.items(), body) == event


@given(events())
def test_both_modes_mean_the_same_event(event: Event) -> None:
    once = from_http(*_items(to_http(event)))
    assert from_http(*_items(to_http(once, structured=True))) == once


def _items(message: tuple[dict[str, str], bytes]) -> tuple[list[tuple[str, str]], bytes]:
    return list(message[0].items()), message[1]


@given(events())
def test_headers_are_printable_ascii(event: Event) -> None:
    headers, _ = to_http(event)
    assert all(value.isascii() and value.isprintable() for value in headers.values())


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)))
def test_json_data_comes_back_from_both_modes(data: dict[str, Any]) -> None:
    event = Event.new("t", "/s", data)
    for mode in (False, True):
        assert from_http(*_items(to_http(event, mode))).json() == data


@given(st.lists(st.tuples(st.sampled_from([*BINARY, "ce-time", "ce-x", "ce-", "content-type", "host"]), st.text())))
@example([("content-type", STRUCTURED_TYPE), ("ce-id", "1")])
def test_garbage_in_headers_raises_nothing_but_invalid_event(headers: list[tuple[str, str]]) -> None:
    try:
        event = from_http([*BINARY.items(), *headers], b"")
    except InvalidEvent:
        return
    to_http(event)  # what was taken can be sent


@given(st.text(), st.text(), st.binary(max_size=30))
def test_garbage_in_a_header_name_raises_nothing_but_invalid_event(name: str, value: str, body: bytes) -> None:
    try:
        event = from_http([*BINARY.items(), (f"ce-{name}", value)], body)
    except InvalidEvent:
        return
    to_http(event)


@given(st.binary(max_size=60) | st.text().map(json.dumps).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"data":' * 100_000)
@example(json.dumps({**STRUCTURED, "n": 0}).encode().replace(b"0", b"9" * 5000))
def test_garbage_in_a_structured_body_raises_nothing_but_invalid_event(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        from_http([("content-type", STRUCTURED_TYPE)], body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([*STRUCTURED, "data", "data_base64", "time", "datacontenttype", "x", "X\n"]), json_values
    )
)
def test_any_structured_document_gives_an_event_that_can_be_sent_or_invalid_event(changes: dict[str, Any]) -> None:
    try:
        event = structured(**changes)
    except InvalidEvent:
        return
    headers, _ = to_http(event)
    assert all(value.isprintable() for value in headers.values())
    to_http(event, structured=True)


@pytest.mark.parametrize("text", ["Grüße aus Köln", "日本語", "🚀", 'a "quote"', "100 %", "a b", "~tilde"])
def test_unicode_attributes_are_percent_encoded_on_the_wire(text: str) -> None:
    event = Event.new("t", "/s", subject=text)
    headers, body = to_http(event)
    assert headers["ce-subject"].isascii()
    assert not set(headers["ce-subject"]) & {" ", '"'}
    assert from_http(headers.items(), body).subject == text


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (-1, "-1"), (True, "true"), (False, "false"), ("x", "x")])
def test_json_attributes_become_the_strings_of_their_type(value: Any, text: str) -> None:
    assert structured(extension=value).attributes["extension"] == text


def test_a_null_attribute_counts_as_unset() -> None:
    event = structured(extension=None, subject=None, time=None)
    assert set(event.attributes) == {"specversion", "id", "source", "type"}


@pytest.mark.parametrize("value", [1.5, [1], {"a": 1}])
def test_an_attribute_of_another_json_type_is_refused_by_name(value: Any) -> None:
    assert set(faults_of(structured, extension=value)) == {"extension"}


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_required_attribute_is_named_in_either_mode(name: str) -> None:
    assert faults_of(binary, **{f"ce_{name}": None}) == {name: "is required"}
    assert faults_of(structured, **{name: None}) == {name: "is required"}


def test_every_fault_of_an_event_is_named_at_once() -> None:
    faults = faults_of(binary, ce_id=None, ce_source=None, ce_type="", **{"ce_bad-name": "x"})
    assert set(faults) == {"id", "source", "type", "bad-name"}


@pytest.mark.parametrize("changes", [{"ce_specversion": "0.3"}, {"ce_id": ""}, {"ce_subject": ""}, {"ce_time": "soon"},
                                     {"ce_time": "2026-01-01T00:00:00"}, {"ce_time": "9999-12-31T24:00:00Z"},
                                     {"ce_data": "x"}, {"ce_x_y": "x"}, {"content_type": ""}])  # fmt: skip
def test_a_faulty_binary_attribute_is_refused(changes: dict[str, str]) -> None:
    assert faults_of(binary, **changes)


@pytest.mark.parametrize("character", ["\n", "\r", "\x00", "\x7f", "\x85", "\ud800"])
@pytest.mark.parametrize("name", ["id", "subject", "datacontenttype", "extension"])
def test_a_character_that_no_attribute_may_have_is_refused(character: str, name: str) -> None:
    assert list(faults_of(structured, **{name: f"a{character}b"})) == [name]
    with pytest.raises(InvalidEvent, match=name):
        to_http(Event.new("t", "/s", **{name: f"a{character}b"}))


def test_an_attribute_name_cannot_smuggle_a_line_break_into_the_headers() -> None:
    assert list(faults_of(structured, **{"name\n": "x"})) == ["name\n"]


def test_a_content_type_must_be_ascii() -> None:
    assert list(faults_of(structured, datacontenttype="text/plän")) == ["datacontenttype"]


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+xml"])
def test_batches_and_other_formats_are_refused_by_their_content_type(content_type: str) -> None:
    assert list(faults_of(structured, content_type)) == ["content-type"]


@pytest.mark.parametrize("headers", [[], [("content-type", "application/json")], [("x-ce-id", "1")]])
def test_a_message_in_neither_mode_is_refused(headers: list[tuple[str, str]]) -> None:
    assert "neither" in faults_of(from_http, headers, b"{}")["message"]


@pytest.mark.parametrize("content_type", [f"{STRUCTURED_TYPE}; charset=utf-8", "Application/CloudEvents+JSON"])
def test_structured_mode_is_known_by_its_media_type_alone(content_type: str) -> None:
    assert structured(content_type).id == "1"


def test_header_names_are_taken_in_any_case() -> None:
    assert from_http([(name.title(), value) for name, value in BINARY.items()], b"x").data == b"x"


@pytest.mark.parametrize(
    ("document", "data", "content_type"),
    [
        ({"data": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"data": "text"}, b'"text"', "application/json"),
        ({"data": None}, b"null", "application/json"),
        ({"data": "text", "datacontenttype": "text/plain"}, b"text", "text/plain"),
        ({"data": [1], "datacontenttype": "application/geo+json"}, b"[1]", "application/geo+json"),
        ({"data_base64": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff", None),
        ({"data_base64": "", "datacontenttype": "image/png"}, b"", "image/png"),
        ({}, b"", None),
    ],
)
def test_structured_data_becomes_bytes(document: dict[str, Any], data: bytes, content_type: str | None) -> None:
    event = structured(**document)
    assert (event.data, event.content_type) == (data, content_type)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"data": "a", "data_base64": "YQ=="}, "data_base64"),
        ({"data_base64": "not base64!"}, "data_base64"),
        ({"data_base64": 5}, "data_base64"),
        ({"data": {"a": 1}, "datacontenttype": "text/plain"}, "data"),
    ],
)
def test_faulty_structured_data_is_refused_by_name(document: dict[str, Any], fault: str) -> None:
    assert list(faults_of(structured, **document)) == [fault]


@pytest.mark.parametrize("document", ["[]", '"text"', "5", "null"])
def test_a_structured_body_that_is_no_object_is_refused(document: str) -> None:
    assert (
        "expected an object" in faults_of(from_http, [("content-type", STRUCTURED_TYPE)], document.encode())["message"]
    )


@pytest.mark.parametrize("content_type", ["application/json", None])
def test_a_body_that_only_claims_to_be_json_still_travels_in_structured_mode(content_type: str | None) -> None:
    event = Event.new("t", "/s", b"\xff{", datacontenttype=content_type)
    event = event.with_attributes(datacontenttype=content_type)
    assert from_http(*_items(to_http(event, structured=True))).data == b"\xff{"


def test_time_keeps_its_instant_and_an_event_without_time_gets_none() -> None:
    event = binary(ce_time="2026-07-01T12:00:00.5+02:00")
    assert event.time is not None
    assert event.time.isoformat() == "2026-07-01T12:00:00.500000+02:00"
    assert "ce-time" not in to_http(binary())[0]
    assert "time" not in json.loads(to_http(binary(), structured=True)[1])


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-01T12:00:00Z",
        "2026-07-01t12:00:00z",
        "2026-07-01T12:00:00.25-03:00",
        "2026-07-01T12:00:00.123456789+00:00",
        "2026-07-01 12:00:00.000Z",
    ],
)
def test_a_time_goes_on_as_it_came_in_both_modes(text: str) -> None:
    escaped = text.replace(":", "%3A")
    for event in (
        binary(ce_time=text),
        binary(ce_time=escaped),
        structured(time=text),
        structured(time=text, x="\u00fc"),
    ):
        assert event.attributes["time"] == text
        assert event.time is not None
        assert event.time.timestamp() == pytest.approx(datetime.fromisoformat(text.upper()).timestamp())
        headers, body = to_http(event)
        assert headers["ce-time"] == text.replace(" ", "%20")
        assert from_http(headers.items(), body).attributes["time"] == text
        assert json.loads(to_http(event, structured=True)[1])["time"] == text


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "",
        "2026-07-01",
        "2026-07-01T12:00:00",
        "12:00Z",
        "2026-13-01T00:00:00Z",
        "20260701T120000Z",  # ISO 8601, which RFC 3339 is a part of
    ],
)
def test_a_time_that_cannot_be_read_is_told_by_name_with_all_other_faults(time: str) -> None:
    fault = f"found {time!r}, expected an RFC 3339 time with its zone"
    assert faults_of(binary, ce_time=time) == faults_of(structured, time=time) == {"time": fault}
    assert list(faults_of(binary, ce_time=time, ce_id=None)) == ["id", "time"]
    assert set(faults_of(structured, time=time, source=None)) == {"source", "time"}


@pytest.mark.parametrize("time", [5, True, [], {"a": 1}])
def test_a_time_that_is_no_text_is_told_by_name(time: Any) -> None:
    assert list(faults_of(structured, time=time)) == ["time"]


def test_an_event_with_an_unreadable_time_cannot_be_sent() -> None:
    with pytest.raises(InvalidEvent, match="time: found 'yesterday', expected an RFC 3339 time"):
        to_http(Event.new("t", "/s", time="yesterday"))


@pytest.mark.parametrize(
    ("data", "body", "content_type"),
    [
        (None, b"", None),
        (b"raw", b"raw", "application/octet-stream"),
        (bytearray(b"raw"), b"raw", "application/octet-stream"),
        ("Grüße", "Grüße".encode(), "text/plain; charset=utf-8"),
        ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
        (0, b"0", "application/json"),
    ],
)
def test_data_is_encoded_by_its_type(data: Any, body: bytes, content_type: str | None) -> None:
    assert encode_data(data) == (body, content_type)
    event = Event.new("t", "/s", data)
    assert (event.data, event.content_type) == (body, content_type)


@pytest.mark.parametrize("data", [object(), {"x": float("nan")}, [float("inf")]])
def test_data_that_is_no_json_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_data(data)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_asking_for_json_of_other_data_names_the_event(body: bytes) -> None:
    with pytest.raises(BadInput, match="event 1: data is no JSON"):
        Event.new("t", "/s", body, id="1").json()


def test_the_chain_is_the_correlation_id_or_follows_from_source_and_id() -> None:
    assert Event.new("t", "/s", correlationid="c").chain == "c"
    first, second = Event.new("t", "/s", id="1"), Event.new("other", "/s", id="1")
    assert first.chain == second.chain
    assert first.chain != Event.new("t", "/other", id="1").chain


def test_derived_ids_keep_their_parts_apart() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc")
    namespace = uuid.UUID("6ce7ae5e-45f4-5d10-9d3a-6b1d0e5f1a11")
    assert derived_id("ab", "\u00e9") == str(uuid.uuid5(namespace, "ab\x00\u00e9"))


def test_the_partition_is_the_partition_key_or_the_subject() -> None:
    assert Event.new("t", "/s", subject="s", partitionkey="p").partition == "p"
    assert Event.new("t", "/s", subject="s").partition == "s"
    assert Event.new("t", "/s").partition is None


@pytest.mark.parametrize(("text", "epoch"), [("0", 0), ("29", 29), ("", None), ("-1", None), ("1.5", None), ("x", None),
                                             ("9" * 5000, None)])  # fmt: skip
def test_the_epoch_is_a_whole_number_or_none(text: str, epoch: int | None) -> None:
    assert Event.new("t", "/s", skylarkepoch=text).epoch == epoch


def test_attributes_are_changed_in_a_copy_only() -> None:
    event = Event.new("t", "/s", subject="a")
    changed = event.with_attributes(subject=None, skylarknode="n")
    assert (event.subject, changed.subject) == ("a", None)
    assert changed.attributes["skylarknode"] == "n"
    assert "skylarknode" not in event.attributes


@pytest.mark.parametrize(("content_type", "expected"), [
    (None, True), ("application/json", True), ("Application/JSON; charset=utf-8", True), ("application/geo+json", True),
    ("text/plain", False), ("application/jsonl", False)])  # fmt: skip
def test_json_is_known_by_its_content_type(content_type: str | None, expected: bool) -> None:
    assert is_json(content_type) is expected


# Header and attribute texts that meet every branch: what is plain, what is escaped, what is refused.
odd_texts = st.one_of(
    st.sampled_from(
        ["", "1.0", "0.3", "%41", "%", "a b", '"', "\u00e9", "\x7f", "\n", "2026-11-24T00:00:00Z", "2026-11-24"]
    ),
    st.sampled_from(["2026-11-24t00:00:00z", "2026-11-24T01:02:03.456+01:00", "2026-11-24 00:00:00+00:00"]),
    st.text(max_size=5),
)
odd_types = st.sampled_from(["", "a/b", "text/plain; charset=utf-8", "\u00e9", "Application/CloudEvents+JSON", "a\nb"])
odd_names = st.sampled_from(["x", "X", "x1", "1", "x_y", "", "data", "\u00e9", "\u00b2", "datacontenttype", "x\n"])


@st.composite
def odd_attributes(draw: st.DrawFn) -> dict[str, str]:
    """Those of an event, most of them right, some missing or odd, in any order."""
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-11-24T00:00:00.5Z"}
    for name in draw(st.sets(st.sampled_from([*attributes, "subject", "dataschema"]), max_size=2)):
        attributes[name] = draw(odd_texts)
    for name in draw(st.sets(st.sampled_from([*attributes]), max_size=1)):
        del attributes[name]
    attributes |= draw(st.dictionaries(odd_names, odd_texts, max_size=2))
    return dict(draw(st.permutations(list(attributes.items()))))


def outcome(message: Callable[[], Any]) -> Any:
    try:
        return message()
    except InvalidEvent as error:
        return error.faults


@settings(max_examples=500)
@given(odd_attributes(), st.none() | odd_types)
def test_a_message_is_read_as_the_sdk_reads_it(attributes: dict[str, str], content_type: str | None) -> None:
    headers = {f"Ce-{name}": text for name, text in attributes.items()}
    if content_type is not None:
        headers["Content-Type"] = content_type
    read = outcome(lambda: from_http(headers.items(), b"{}"))
    with mock.patch.object(module, "_read_plain", return_value=None):
        assert outcome(lambda: from_http(headers.items(), b"{}")) == read
    if isinstance(read, Event):
        with mock.patch.object(module, "_write_plain", return_value=None):
            by_sdk = to_http(read)
        assert to_http(read) == by_sdk


@settings(max_examples=500)
@given(odd_attributes(), st.none() | odd_types)
def test_an_event_is_written_as_the_sdk_writes_it(attributes: dict[str, str], content_type: str | None) -> None:
    attributes = {"id": "1", **attributes}  # the SDK makes one up
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    written = outcome(lambda: to_http(Event(attributes, b"{}")))
    with mock.patch.object(module, "_write_plain", return_value=None):
        assert outcome(lambda: to_http(Event(attributes, b"{}"))) == written


def test_a_usual_event_needs_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Event.new("t", "/s", {"x": 1}, time="2026-11-24T00:00:00Z", subject="s", partitionkey="p")
    monkeypatch.delattr(binding, "to_binary")
    monkeypatch.delattr(binding, "from_binary")
    headers, body = to_http(usual)
    read = from_http(headers.items(), body)
    assert read == usual
    assert read.plain
    assert to_http(read) == (headers, body)
    assert not read.with_attributes(x="\u00e9").plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"quoted"', "quoted"),
        (r'"a \" and a \\"', 'a " and a \\'),
        ('"', '"'),
        ("a%20b", "a b"),
        ("%C3%9C", "\u00dc"),
        ("\u00c3\u009c", "\u00dc"),  # UTF-8 as it is, which should have been encoded
    ],
)
def test_a_header_is_unquoted_and_decoded_once(value: str, text: str) -> None:
    required = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]
    assert from_http([*required, ("ce-subject", value)], b"").subject == text


@pytest.mark.parametrize("value", ["%FF", "%C3", "%ED%A0%80", "\u00fc"])
def test_a_header_that_stands_for_no_text_is_refused_by_name(value: str) -> None:
    required = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]
    with pytest.raises(InvalidEvent, match=r"subject: found .*, expected percent-encoded UTF-8"):
        from_http([*required, ("ce-subject", value)], b"")


@pytest.mark.parametrize("data", ["NaN", "[1e999]", "-Infinity"])
def test_data_that_python_but_not_json_has_a_word_for_is_refused(data: str) -> None:
    document = '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": ' + data + "}"
    with pytest.raises(InvalidEvent):
        from_http([("content-type", "application/cloudevents+json")], document.encode())
