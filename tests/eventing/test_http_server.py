"""The edge of a running broker: limits that gunicorn does not keep, the token, and where subscribers may be."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psutil
import pytest

from libskylark.errors import SendError
from libskylark.event import Event
from libskylark.sender import Sender
from tests.eventing.conftest import Broker, Lab, eventually, trigger

TOKEN = "0123456789-abcdef"
OTHER = "---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: other}\n"
DEFAULT = OTHER.replace("other", "default")
HEAD = b"POST /default/default HTTP/1.1\r\nHost: h\r\n"
EVENT = b"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\n"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One whose limits are small."""
    limits = {
        "SKYLARK_BROKER_HEAD_TIMEOUT": "100ms",
        "SKYLARK_BROKER_BODY_TIMEOUT": "100ms",
        "SKYLARK_BROKER_MAX_CONNECTIONS": "8",
        "SKYLARK_BROKER_MAX_BODY_BYTES": "1000000",
        "SKYLARK_BROKER_MAX_HELD_BYTES": "2000000",
    }
    with ExitStack() as stack:
        lab = Lab(tmp_path_factory.mktemp("server"), stack)
        yield lab.broker(lab.redis(), "", wait=True, **limits)


def connect(broker: Broker) -> socket.socket:
    return socket.create_connection((broker.host, broker.port), 10)


def answer(broker: Broker, *pieces: bytes) -> bytes:
    """All that the broker says until it closes."""
    with closing(connect(broker)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    said = b""
    while received := connection.recv(65536):
        said += received
    return said


def ask(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """(status, body) of one request on a connection that stays."""
    connection.sendall(request)
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply.status, reply.read()


def problem_of(said: bytes) -> tuple[int, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    content = json.loads(body)
    assert content["status"] == int(head.split()[1])
    return content["status"], content["detail"]


def test_a_head_that_does_not_end_is_answered_and_the_connection_closed(broker: Broker) -> None:
    assert problem_of(answer(broker, HEAD))[0] == 408


def test_a_connection_on_which_nothing_comes_is_closed(broker: Broker) -> None:
    assert answer(broker) == b""


def test_a_body_that_does_not_end_is_answered_and_the_connection_closed(broker: Broker) -> None:
    assert problem_of(answer(broker, HEAD, EVENT + b"Content-Length: 9\r\n\r\nx"))[0] == 408


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + b"x: " + b"v" * 200_000, 431),
        (HEAD + b"".join(b"x-%d: v\r\n" % number for number in range(101)) + b"\r\n", 431),
        (b"POST /" + b"p" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (HEAD + b"Host: other\r\n\r\n", 400),
        (HEAD + EVENT + b"Transfer-Encoding: rot13\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (HEAD + EVENT + b"Content-Length: 9000000\r\n\r\n" + b"x" * 4_000_000, 413),
    ],
)
def test_what_is_too_much_or_no_request_is_told_so(broker: Broker, request_: bytes, status: int) -> None:
    assert problem_of(answer(broker, request_))[0] == status


def test_an_attribute_whose_name_has_an_underscore_is_refused_and_not_lost(broker: Broker) -> None:
    status, _, body = broker.send(Event.new("t", "/s"), **{"ce-a_b": "x"})
    assert (status, list(json.loads(body)["faults"])) == (400, ["a_b"])


def test_head_and_upgrade_are_methods_like_others(broker: Broker) -> None:
    status, headers, body = broker.request("HEAD", "/default/default")
    assert (status, headers["allow"], body) == (405, "POST, OPTIONS", b"")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    assert broker.request("GET", "/default/default", upgrade)[0] == 405
    assert broker.request("GET", "/health", upgrade)[0] == 200


def test_a_target_in_absolute_form_means_its_path(broker: Broker) -> None:
    assert broker.send(Event.new("t", "/s"), "http://elsewhere/default/default")[0] == 202


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + EVENT + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\ndata", 202),
        (HEAD.replace(b"1.1", b"1.0") + EVENT + b"Connection: keep-alive\r\nContent-Length: 4\r\n\r\ndata", 202),
        (HEAD + EVENT + b"Transfer-Encoding: chunked\r\n\r\n4;x\r\ndata\r\n0\r\nce-id: 2\r\n\r\n", 202),
        (HEAD + b"Content-Length: 4\r\n\r\ndata", 400),
        (HEAD.replace(b"POST", b"PUT") + EVENT + b"Content-Length: 4\r\n\r\ndata", 405),
        (HEAD.replace(b"/default/default", b"/default/none") + b"Content-Length: 50000\r\n\r\n" + b"x" * 50_000, 404),
    ],
)
def test_a_connection_is_good_for_the_next_request(broker: Broker, request_: bytes, status: int) -> None:
    with closing(connect(broker)) as connection:
        for _ in range(3):
            assert ask(connection, request_)[0] == status
            assert ask(connection, HEAD + EVENT + b"Content-Length: 0\r\n\r\n") == (202, b"")


def test_events_in_one_go_are_all_taken(broker: Broker) -> None:
    event = HEAD + EVENT + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000
    with closing(connect(broker)) as connection:
        connection.sendall(event * 50)
        connection.shutdown(socket.SHUT_WR)
        said = read_all(connection)
    assert (said.count(b"HTTP/1.1 202 "), said.count(b"HTTP/1.1 ")) == (50, 50)


def test_more_connections_than_may_be_open_are_told_to_come_again(broker: Broker) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(broker))) for _ in range(8)]
        for connection in held:  # each has been served, and is kept
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        said = answer(broker)
        assert problem_of(said)[0] == 503
        assert b"Retry-After: 1\r\n" in said
    eventually(lambda: broker.request("GET", "/health")[0] == 200, "closed connections make room")


def test_what_is_refused_before_it_is_a_request_is_counted(broker: Broker) -> None:
    def counted(status: int) -> float:
        named = f'skylark_broker_refused_requests_total{{node="here",status="{status}"}} '
        told = broker.request("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.removeprefix(named)) for line in told if line.startswith(named))

    too_many = [b"x-%d: v\r\n" % number for number in range(101)]
    for status, request in (
        (408, HEAD),
        (431, HEAD + b"x: " + b"v" * 200_000),
        (431, HEAD + b"".join(too_many) + b"\r\n"),
        (414, b"POST /" + b"p" * 5000 + b" HTTP/1.1\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\r\n\r\n"),
        (408, HEAD + EVENT + b"Content-Length: 9\r\n\r\nx"),
    ):
        before = counted(status)
        assert problem_of(answer(broker, request))[0] == status
        assert counted(status) == before + 1
    before = counted(503)
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(broker))) for _ in range(8)]
        for connection in held:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert problem_of(answer(broker))[0] == 503
    eventually(lambda: counted(503) == before + 1, "closed connections make room, and the refusal is told")


def test_connections_that_end_leave_nothing_behind(broker: Broker) -> None:
    worker = psutil.Process(broker.worker())

    def visit(times: int) -> int:
        for _ in range(times):
            while not broker.request("GET", "/health")[0]:
                pass
        return int(worker.memory_info().rss)

    before = visit(200)
    assert visit(1000) - before < 4 * 2**20  # it was 11 KiB for each


def test_a_broker_that_stops_answers_what_is_under_way_and_closes(lab: Lab) -> None:
    store = lab.redis()
    broker = lab.broker(store, "", wait=True, SKYLARK_STORE_TIMEOUT="10s")
    worker = broker.worker()
    with closing(connect(broker)) as connection:
        assert ask(connection, HEAD + EVENT + b"Content-Length: 0\r\n\r\n")[0] == 202
        os.kill(store.pid, signal.SIGSTOP)
        connection.sendall(HEAD + EVENT + b"Content-Length: 0\r\n\r\n")
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: "Worker shutting down" in broker.log.read_text(), "the worker stops")
        os.kill(store.pid, signal.SIGCONT)
        said = read_all(connection)
    assert said.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nConnection: close\r\n" in said


def test_a_token_guards_events_and_goes_from_broker_to_broker_and_no_further(lab: Lab) -> None:
    sink = lab.subscriber()
    away = trigger("away", "http://unused/").replace(
        "{uri: 'http://unused/'}", "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: other}}"
    )
    there = trigger("there", sink.url, type="away").replace("broker: default", "broker: other")
    broker = lab.broker(lab.redis(), DEFAULT + OTHER + away + there, wait=True, SKYLARK_BROKER_TOKEN=TOKEN)
    url = f"http://{broker.host}:{broker.port}/default/default"
    with closing(connect(broker)) as connection:
        for _ in range(2):  # over the same connection
            assert ask(connection, HEAD + EVENT + b"Content-Length: 4\r\n\r\ndata")[0] == 401
    with pytest.raises(SendError, match="with a bearer token"):
        Sender(url).post(Event.new("away", "/s"))
    with pytest.raises(SendError, match="is not this broker's"):
        Sender(url, TOKEN + "x").post(Event.new("away", "/s"))
    Sender(url, TOKEN).post(Event.new("away", "/s", id="guarded"))
    delivery = sink.next()
    assert delivery.event.id == "guarded"
    assert TOKEN not in str(delivery)
    assert TOKEN not in broker.log.read_text()


def test_a_subscriber_outside_of_the_list_stops_the_start_with_its_place(lab: Lab) -> None:
    broker = lab.broker(
        lab.redis(),
        trigger("far", "http://sink.example.com/"),
        wait=False,
        SKYLARK_SUBSCRIBER_ALLOW="10.0.0.0/8, *.org",
    )
    assert broker.wait() != 0
    said = broker.log.read_text()
    assert "objects.yaml:8: spec.subscriber: found sink.example.com:80, which SKYLARK_SUBSCRIBER_ALLOW" in said


def test_a_subscriber_within_the_list_gets_its_events(lab: Lab) -> None:
    sink = lab.subscriber()
    broker = lab.broker(lab.redis(), trigger("near", sink.url), wait=True, SKYLARK_SUBSCRIBER_ALLOW="127.0.0.0/24")
    assert broker.send(Event.new("near", "/s", id="near"))[0] == 202
    assert sink.next().event.id == "near"


def test_a_faulty_token_or_list_stops_the_start_without_being_shown(lab: Lab) -> None:
    for name, value in (("SKYLARK_BROKER_TOKEN", "too short"), ("SKYLARK_SUBSCRIBER_ALLOW", "http://x")):
        broker = lab.broker(lab.redis(), "", wait=False, **{name: value})
        assert broker.wait() != 0
        assert f"setting {name}: found" in broker.log.read_text()
        assert "too short" not in broker.log.read_text()
