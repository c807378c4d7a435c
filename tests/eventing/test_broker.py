"""The broker as a process: its HTTP contract, and what becomes of an event that it took."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from libskylark.event import Event, to_http
from tests.eventing.conftest import ACCEPT, Broker, Delivery, Journal, Lab, RedisServer, Reply, Subscriber, trigger

FAST = "delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT0.01S}"
NUMBERS = count()


@dataclass
class Site:
    """One broker for many tests; its subscriber answers as `answers` says for the type of the event."""

    broker: Broker
    store: RedisServer
    subscriber: Subscriber
    answers: dict[str, list[Reply]]

    def send(self, type: str, data: object = None, **attributes: str) -> Event:
        event = Event.new(type, f"/tests/{next(NUMBERS)}", data, **attributes)
        status, _, body = self.broker.send(event)
        assert status == 202, body
        return event

    @property
    def journal(self) -> Journal:
        return Journal(self.store)

    def delivered(self, event: Event) -> Delivery:
        """The next delivery, which must be the one of this event."""
        delivery = self.subscriber.next()
        assert delivery.event.id == event.id
        return delivery


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    answers: dict[str, list[Reply]] = {}

    def answer(delivery: Delivery) -> Reply:
        waiting = answers.get(delivery.event.type)
        return waiting.pop(0) if waiting else ACCEPT

    with ExitStack() as stack:
        lab = Lab(tmp_path_factory.mktemp("site"), stack)
        store = lab.redis()
        subscriber = lab.subscriber(answer)
        objects = "".join(
            [
                trigger("plain", subscriber.url, FAST),
                trigger("question", subscriber.url),
                trigger("answer", subscriber.url),
                trigger("loop", subscriber.url),
                trigger("structured", subscriber.url, "delivery: {format: json}"),
                trigger(
                    "sunk", subscriber.url, f"delivery: {{retry: 0, deadLetterSink: {{uri: {subscriber.url}dead}}}}"
                ),
            ]
        )
        broker = lab.broker(store, objects, SKYLARK_BROKER_MAX_BODY_BYTES="65536")
        yield Site(broker, store, subscriber, answers)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "site" in request.fixturenames:
        site: Site = request.getfixturevalue("site")
        assert site.subscriber.received.empty()


def test_an_event_is_taken_and_reaches_the_subscriber_as_it_was(site: Site) -> None:
    event = Event.new(
        "plain", "/a", {"x": 1}, id="1", subject="s", somenumber="7", time="2026-11-24t00:00:00.123456789z"
    )
    passed = {"Knative-Thing": "k", "X-B3-TraceId": "b", "X-Request-Id": "r", "Traceparent": "00-1-1-00"}
    status, _, body = site.broker.send(event, **passed, Cookie="no", **{"X-Other": "no"})
    assert (status, body) == (202, b"")
    delivery = site.subscriber.next()
    attributes = dict(delivery.event.attributes)
    assert attributes.pop("knativearrivaltime").endswith("Z")
    assert attributes == dict(event.attributes)
    assert delivery.body == b'{"x":1}'
    headers = delivery.headers
    assert (headers["prefer"], headers["kn-namespace"]) == ("reply", "default")
    assert [headers[name.lower()] for name in passed] == ["k", "b", "r", "00-1-1-00"]
    assert "cookie" not in headers
    assert "x-other" not in headers
    assert "ce-knativebrokerttl" not in headers


def test_a_structured_event_of_any_content_type_is_taken(site: Site) -> None:
    event = Event.new("plain", "/a", b"\x00\xff", datacontenttype="image/tiff")
    headers, body = to_http(event, structured=True)
    assert site.broker.request("POST", "/default/default", headers, body)[0] == 202
    delivery = site.delivered(event)
    assert (delivery.body, delivery.headers["content-type"]) == (b"\x00\xff", "image/tiff")


def test_format_json_delivers_in_structured_mode(site: Site) -> None:
    event = site.send("structured", {"x": 1})
    delivery = site.delivered(event)
    assert delivery.headers["content-type"].startswith("application/cloudevents+json")
    assert json.loads(delivery.body)["data"] == {"x": 1}


def test_an_event_without_content_type_stays_without(site: Site) -> None:
    event = site.send("plain")
    assert "content-type" not in site.delivered(event).headers


@pytest.mark.parametrize(
    ("headers", "body", "faults"),
    [
        ({"ce-specversion": "1.0", "ce-id": "1"}, b"", {"source", "type"}),
        ({"ce-source": "/a"}, b"", {"specversion", "id", "type"}),
        ({"content-type": "application/json"}, b"{}", {"message"}),
        ({"content-type": "application/cloudevents+json"}, b"{", {"message"}),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", {"content-type"}),
        ({"ce-knativebrokerttl": "0"}, None, {"knativebrokerttl"}),
        ({"ce-knativebrokerttl": "many"}, None, {"knativebrokerttl"}),
        ({"ce-expirytime": "tomorrow"}, None, {"expirytime"}),
    ],
)
def test_what_is_no_event_is_refused_with_every_fault(
    site: Site, headers: dict[str, str], body: bytes | None, faults: set[str]
) -> None:
    if body is None:
        headers, body = {**to_http(Event.new("plain", "/a"))[0], **headers}, b""
    status, answered, problem = site.broker.request("POST", "/default/default", headers, body)
    assert (status, answered["content-type"]) == (400, "application/problem+json")
    assert set(json.loads(problem)["faults"]) == faults


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/default/other", 404),
        ("POST", "/other/default", 404),
        ("POST", "/default/default/none", 404),
        ("POST", "/default/default/plain/more", 404),
        ("GET", "/nothing", 404),
        ("GET", "/default/default", 405),
        ("PUT", "/default/default", 405),
        ("OPTIONS", "/default/default/plain/more", 404),
        ("OPTIONS", "/health", 405),
        ("POST", "/health", 405),
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
    ],
)
def test_paths_and_methods(site: Site, method: str, path: str, status: int) -> None:
    answer = site.broker.request(method, path, to_http(Event.new("plain", "/a"))[0])
    assert answer[0] == status
    assert (answer[1].get("allow") is not None) == (status == 405)


def test_a_body_in_thousands_of_small_chunks_is_one_body(site: Site) -> None:
    event, parts = Event.new("plain", "/a"), [f"{number:016}".encode() for number in range(4000)]
    headers = {**to_http(event)[0], "Transfer-Encoding": "chunked", "Content-Type": "text/plain"}
    lines = ["POST /default/default HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    chunks = b"".join(b"10\r\n%b\r\n" % part for part in parts)
    with socket.create_connection((site.broker.host, site.broker.port), 10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + chunks + b"0\r\n\r\n")
        assert b" 202 " in connection.recv(100)
    assert site.delivered(event).body == b"".join(parts)


def test_too_large_a_body_is_refused_before_it_is_read(site: Site) -> None:
    headers, _ = to_http(Event.new("plain", "/a", b""))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((site.broker.host, site.broker.port), timeout=5) as sender:
        sender.sendall(f"POST /default/default HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n{lines}\r\n".encode())
        assert sender.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection((site.broker.host, site.broker.port), timeout=5) as sender:
        sender.sendall(
            f"POST /default/default HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
        )
        sender.sendall(b"10001\r\n" + b"x" * 65537 + b"\r\n")
        assert sender.recv(100).startswith(b"HTTP/1.1 413")


def test_an_event_that_nobody_wants_is_recorded(site: Site) -> None:
    event = site.send("unwanted", causationid="c", correlationid="chain")
    accepted = site.journal.accepted(event.id)
    assert (accepted.to, accepted.chain, accepted.cause, accepted.source) == ((), "chain", "c", event.source)


def test_a_reply_goes_back_into_the_broker(site: Site) -> None:
    reply = Event.new("answer", "/b", {"y": 2})
    site.answers["question"] = [(200, *to_http(reply))]
    event = site.send("question", correlationid="chain-1")
    site.delivered(event)
    assert site.delivered(reply).event.json() == {"y": 2}
    (outcome,) = site.journal.outcomes(event.id)
    assert (outcome.outcome, outcome.reply, outcome.status, outcome.attempts) == ("replied", reply.id, 200, 1)
    assert (outcome.trigger, outcome.chain) == ("default/question", "chain-1")
    accepted = site.journal.accepted(reply.id)
    assert (accepted.cause, accepted.chain, accepted.to) == (event.id, "chain-1", ("default/answer",))
    assert site.journal.outcomes(reply.id)[0].outcome == "delivered"


def test_a_loop_ends_when_the_ttl_is_spent(site: Site) -> None:
    replies = [Event.new("loop", "/loop") for _ in range(3)]
    site.answers["loop"] = [(200, *to_http(reply)) for reply in replies]
    event = site.send("loop", knativebrokerttl="3")
    for expected in (event, *replies[:2]):
        site.delivered(expected)
    (outcome,) = site.journal.outcomes(replies[1].id)
    assert (outcome.outcome, outcome.status) == ("expired", 508)
    letter = site.store.last_dead_letter()
    assert json.loads(letter["attributes"])["id"] == replies[2].id


def test_a_subscriber_that_fails_twice_gets_the_event_a_third_time(site: Site) -> None:
    site.answers["plain"] = [(500, {}, b""), (429, {"retry-after": "0"}, b"")]
    event = site.send("plain")
    for _ in range(3):
        site.delivered(event)
    (outcome,) = site.journal.outcomes(event.id)
    assert (outcome.outcome, outcome.attempts, outcome.status) == ("delivered", 3, 202)


@pytest.mark.parametrize(
    ("reply", "attempts", "status"),
    [
        ((400, {}, b"never"), 1, 400),
        ((302, {"location": "http://localhost/"}, b""), 1, 302),
        ((503, {}, b""), 4, 503),
        ((404, {}, b""), 4, 404),
        ((200, {"content-type": "application/json"}, b'{"no": "event"}'), 4, 502),
        ((200, {"ce-specversion": "1.0"}, b""), 4, 502),
        ((200, to_http(Event.new("answer", "/b", expirytime="soon"))[0], b""), 1, 502),
    ],
)
def test_an_event_that_cannot_be_delivered_is_kept(site: Site, reply: Reply, attempts: int, status: int) -> None:
    site.answers["plain"] = [reply] * attempts
    event = site.send("plain", b"body")
    for _ in range(attempts):
        site.delivered(event)
    (outcome,) = site.journal.outcomes(event.id)
    assert (outcome.outcome, outcome.attempts, outcome.status) == ("dead-lettered", attempts, status)
    letter = site.store.last_dead_letter()
    assert json.loads(letter["attributes"])["id"] == event.id
    assert letter["data"] == "body"
    assert (letter["trigger"], letter["status"], letter["attempts"]) == ("default/plain", str(status), str(attempts))
    assert letter["reason"] == outcome.reason != ""


def test_a_dead_letter_sink_gets_the_event_and_why(site: Site) -> None:
    site.answers["sunk"] = [(422, {}, b"e" * 2000)]
    event = site.send("sunk", b"body")
    site.delivered(event)
    dead = site.delivered(event)
    assert (dead.path, dead.body) == ("/dead", b"body")
    attributes = dead.event.attributes
    assert attributes["knativeerrordest"] == site.subscriber.url
    assert attributes["knativeerrorcode"] == "422"
    assert base64.b64decode(attributes["knativeerrordata"]) == b"e" * 1024
    assert site.journal.outcomes(event.id)[0].outcome == "dead-lettered"


def test_an_expired_event_is_not_delivered(site: Site) -> None:
    event = site.send("plain", expirytime="2020-01-01T00:00:00Z")
    (outcome,) = site.journal.outcomes(event.id)
    assert (outcome.outcome, outcome.attempts) == ("expired", 0)


def test_a_hop_is_delivered_to_its_one_trigger(site: Site) -> None:
    event = Event.new("anything", "/a", knativearrivaltime="2026-01-01T00:00:00.000Z")
    assert site.broker.send(event, "/default/default/plain")[0] == 202
    assert site.delivered(event).event.attributes == event.attributes
    assert site.journal.accepted(event.id).to == ("default/plain",)


def test_an_event_goes_to_the_node_that_runs_its_subscriber(lab: Lab, tmp_path: Path) -> None:
    function = lab.subscriber(lambda delivery: (200, *to_http(reply)), host="127.0.0.3")
    elsewhere = lab.subscriber(host="127.0.0.2")
    reply = Event.new("reply", "/there")
    nodes = "- {name: a, type: Sat, ip: 127.0.0.2}\n- {name: b, type: Sat, ip: 127.0.0.3}\n"
    constellation = tmp_path / "constellation.yaml"
    constellation.write_text(f"nodes:\n{nodes}functions:\n  detect: {{nodes: [b], port: {function.port}}}\n")
    objects = trigger("frame", "b-detect")
    objects += trigger("reply", elsewhere.url)
    here, there = lab.redis("127.0.0.2"), lab.redis("127.0.0.3")
    path = str(constellation)
    first = lab.broker(here, objects, False, host="127.0.0.2", NODE_NAME="a", SKYLARK_CONSTELLATION=path)
    port = str(first.port)
    second = lab.broker(there, objects, host="127.0.0.3", port=port, NODE_NAME="b", SKYLARK_CONSTELLATION=path)
    first.until_ready()
    event = Event.new("frame", "/camera", knativebrokerttl="9")
    assert first.send(event)[0] == 202
    assert function.next().event.id == event.id
    assert elsewhere.next().event.id == reply.id
    (outcome,) = Journal(here).outcomes(event.id)
    assert (outcome.outcome, outcome.status, outcome.trigger) == ("forwarded", 202, "default/frame")
    assert Journal(there).outcomes(event.id)[0].outcome == "replied"
    assert Journal(there).outcomes(reply.id)[0].outcome == "delivered"
    # A node that is handed an event whose subscriber is elsewhere keeps it, instead of handing it back.
    assert first.send(event, "/default/default/frame")[0] == 202
    assert Journal(here).outcomes(event.id, count=2)[1].outcome == "dead-lettered"
    assert second.stop() == 0


def test_a_configuration_error_is_told_without_a_traceback(lab: Lab) -> None:
    store = RedisServer(lab.folder / "none")
    broker = lab.broker(store, trigger("t", "http://x/").replace("uri", "url"), wait=False)
    assert broker.wait() == 4
    text = broker.log.read_text()
    assert "objects.yaml:8: spec.subscriber.url: unknown field" in text
    assert "Traceback" not in text
    broker = lab.broker(store, trigger("t", "http://x/"), wait=False, SKYLARK_BROKER_IN_FLIGHT="none")
    assert broker.wait() == 4
    assert "setting SKYLARK_BROKER_IN_FLIGHT: found 'none', expected" in broker.log.read_text()
