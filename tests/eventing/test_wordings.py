"""What a subscriber says with its refusal, in one bounded line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.eventing.delivery import read_answer
from libskylark.eventing.wordings import one_line, told_by
from libskylark.problem import problem

PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        (PROBLEM, problem(400, "the data is no picture"), ": the data is no picture"),
        (PROBLEM, b'{"title": "Bad Request", "detail": null}', ": Bad Request"),
        ("application/json; charset=utf-8", b'{"detail": "of FastAPI"}', ": of FastAPI"),
        ("application/json", b'{"error": "no detail"}', ': {"error": "no detail"}'),
        ("application/json", b"[1]", ": [1]"),
        ("application/json", b"{broken", ": {broken"),
        ("text/plain", b"\n  first line  \nsecond line", ": first line"),
        ("", "größer als erlaubt".encode(), ": größer als erlaubt"),
        ("text/plain", b"red \x1b[31malert\x07 \xe2\x80\xae", r": red \x1b[31malert\x07 \u202e"),
        (
            "text/html",
            b"<!doctype html>\n<html><title>500 Internal Server Error</title>",
            ": 500 Internal Server Error",
        ),
        ("text/html", b"<!doctype html>\n<html><body>", ""),
        ("image/png", b"\x89PNG\r\n", ""),
        ("text/plain", b"", ""),
        ("text/plain", b" \r\n ", ""),
        (PROBLEM, json.dumps({"detail": "x" * 100_000}).encode(), ': {"detail": "' + "x" * 1012),
        (PROBLEM, json.dumps({"detail": "first\nsecond"}).encode(), ": first"),
    ],
)
def test_the_sentence_of_an_answer_is_found(content_type: str, body: bytes, said: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert told_by(headers, body) == said


@given(st.binary(max_size=3000), st.sampled_from(["", "text/plain", "text/html", "application/json", PROBLEM]))
def test_whatever_a_subscriber_answers_becomes_one_short_line(body: bytes, content_type: str) -> None:
    said = told_by({"content-type": content_type}, body)
    assert said.isprintable()
    assert len(said.encode()) <= 1024 + 2


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=2000))
def test_a_line_keeps_what_is_printable(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.encode()) <= 1024
    if text.isprintable() and len(text.encode()) <= 1024:
        assert line == text


def test_the_reason_of_an_answer_has_what_the_subscriber_said() -> None:
    refused = read_answer(400, [("content-type", PROBLEM)], problem(400, "no picture"))
    assert (refused.reason, refused.retryable) == ("answered 400: no picture", False)
    no_event = read_answer(200, [("content-type", "text/plain")], b"ok")
    assert no_event.reason == "answered 200 with a body that is no CloudEvent: ok"
