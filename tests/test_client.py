from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import responses

from libskylark.client import Client, read_event
from libskylark.errors import InvalidEvent, SendError
from libskylark.event import Event, from_http
from libskylark.eventing.journal import KEY, Accepted, Outcome, Record, encode
from libskylark.store import Store

URL = "http://broker.example/default/default"
NOW = "2027-01-15T08:00:00.000Z"

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Between its tries the client waits no real time; the list says how long it would have."""
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture
def broker() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def event() -> Event:
    return Event.new("test.happened", "/s", {"n": 1}, id="event-1")


def sent(broker: responses.RequestsMock) -> list[Event]:
    return [from_http(list(call.request.headers.items()), _body(call.request)) for call in broker.calls]


def _body(request: Any) -> bytes:
    body: bytes = request.body
    return body


def test_an_event_is_posted_in_binary_mode(broker: responses.RequestsMock) -> None:
    broker.post(URL, status=202)
    Client(URL).send(event())
    assert sent(broker) == [event()]


def test_a_token_goes_with_the_event_and_none_without(broker: responses.RequestsMock) -> None:
    broker.post(URL, status=202)
    Client(URL, token="0123456789abcdef").send(event())
    Client(URL).send(event())
    with_token, without = (call.request.headers for call in broker.calls)
    assert with_token["Authorization"] == "Bearer 0123456789abcdef"
    assert "Authorization" not in without


@pytest.mark.parametrize(
    "trouble",
    [{"status": 503}, {"status": 429}, {"body": requests.ConnectionError("refused")}, {"body": requests.Timeout()}],
)
def test_what_fails_in_passing_is_sent_again_under_the_same_id(
    broker: responses.RequestsMock, no_waiting: list[float], trouble: dict[str, Any]
) -> None:
    broker.post(URL, **trouble)
    broker.post(URL, **trouble)
    broker.post(URL, status=202)
    Client(URL).send(event())
    assert [e.id for e in sent(broker)] == ["event-1"] * 3
    assert len(no_waiting) == 2
    assert all(0 <= seconds <= 2 for seconds in no_waiting)


def test_sending_again_ends(broker: responses.RequestsMock) -> None:
    broker.post(URL, status=503, body="the stream is full")
    with pytest.raises(SendError, match=f"{URL} took no event: 503 the stream is full"):
        Client(URL).send(event())
    assert len(broker.calls) == 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 404, "json": {"detail": "no broker at /x"}}, "refused the event with 404: no broker at /x"),
        ({"status": 400, "body": "plain words"}, "refused the event with 400: plain words"),
        ({"status": 500, "json": ["a list"]}, "refused the event with 500"),
    ],
)
def test_a_refusal_is_told_in_the_brokers_words_and_not_repeated(
    broker: responses.RequestsMock, answer: dict[str, Any], words: str
) -> None:
    broker.post(URL, **answer)
    with pytest.raises(SendError, match=words):
        Client(URL).send(event())
    assert len(broker.calls) == 1


def test_a_broker_that_is_no_address_is_a_send_error() -> None:
    with pytest.raises(SendError, match="took no event"):
        Client("not a url").send(event())


def test_an_event_in_a_json_file_is_sent_as_it_is(write: Write) -> None:
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
    found = read_event(write("event.json", json.dumps(document)))
    assert (found.id, found.type, found.json()) == ("1", "t", {"a": 1})


def test_a_picture_becomes_the_data_of_a_captured_frame(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(b"\x89PNG")
    found = read_event(path)
    assert (found.type, found.content_type, found.subject) == ("dev.skylark.frame.captured", "image/png", "frame.png")
    assert found.data == b"\x89PNG"


def test_any_file_is_sent_under_a_given_type(write: Write) -> None:
    found = read_event(write("order.json", '{"id": 5}'), "com.example.order", "/shop")
    assert (found.type, found.source, found.content_type) == ("com.example.order", "/shop", "application/json")
    assert found.json() == {"id": 5}
    assert read_event(write("data.bin", "x"), "t").content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("order.json", '{"id": 5}', "name the event's type with --type"),
        ("notes.txt", "x", "is text/plain and no event"),
        ("event.json", '{"specversion": "1.0", "id": "1"}', "source: is required"),
        ("event.json", "{", "Expecting property name"),
    ],
)
def test_a_file_that_means_no_event_is_refused_by_name(write: Write, name: str, text: str, fault: str) -> None:
    path = write(name, text)
    with pytest.raises(InvalidEvent, match=fault) as caught:
        read_event(path)
    assert list(caught.value.faults) == [str(path)]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidEvent, match="cannot be read: No such file"):
        read_event(tmp_path / "missing.json")


def accepted(chain: str, name: str, *to: str) -> Accepted:
    return Accepted(name, "/s", "test.happened", chain, None, to, NOW)


def outcome(chain: str, name: str, trigger: str, reply: str | None = None, result: Any = "delivered") -> Outcome:
    return Outcome(name, chain, "test.happened", trigger, result, 200, 1, reply, 5.0, NOW)


def journaling(store: Store, records: list[Record]) -> Callable[[Any], tuple[int, dict[str, str], str]]:
    """Answers 202, and lets the journal have the records."""

    def answer(request: Any) -> tuple[int, dict[str, str], str]:
        for record in records:
            text = encode(record)
            store.run(lambda client, text=text: client.xadd(KEY, {"record": text}))
        return 202, {}, ""

    return answer


def test_waiting_ends_when_every_event_of_the_chain_has_its_outcome(
    broker: responses.RequestsMock, store: Store
) -> None:
    chain = event().chain
    records: list[Record] = [
        accepted("another chain", "x", "t"),
        accepted(chain, "event-1", "default/count"),
        outcome(chain, "event-1", "default/count", reply="event-2"),
        accepted(chain, "event-2", "default/alarm"),
        outcome(chain, "event-2", "default/alarm", result="dead-lettered"),
    ]
    broker.add_callback(responses.POST, URL, journaling(store, records))
    journey = Client(URL, {"here": store}).send_and_wait(event(), 10)
    assert [step.record for step in journey.steps] == records[1:]
    assert {step.node for step in journey.steps} == {"here"}
    assert [dead.event for dead in journey.dead_lettered] == ["event-2"]


def test_waiting_has_an_end(broker: responses.RequestsMock, store: Store) -> None:
    records: list[Record] = [accepted(event().chain, "event-1", "default/count")]
    broker.add_callback(responses.POST, URL, journaling(store, records))
    with pytest.raises(SendError, match=r"did not end within 0\.1 s, after [01] steps"):
        Client(URL, {"here": store}).send_and_wait(event(), 0.1)


def test_waiting_needs_journals() -> None:
    with pytest.raises(SendError, match="there are none on a cluster"):
        Client(URL).send_and_wait(event(), 1)
