"""A function behind Knative's broker: what it answers, what is tried again, and how large its headers get."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from libskylark import BadInput, Event, Function, Reply
from libskylark.errors import ElectionError, MemoryConflict, MemoryFenced, StateMissing, StoreUnavailable
from libskylark.event import from_http, to_http
from libskylark.store import Store
from libskylark.testing import FakeClock, FakeServices
from tests.conftest import RedisNode, Serve

#: Knative's data-plane contract: these are tried again, and every 5xx; other 4xx are not.
TRIED_AGAIN = {404, 408, 409, 429}
#: What Knative's broker sends with every event to a subscriber whose reply it takes.
KNATIVE = {"Prefer": "reply", "Kn-Namespace": "skylark", "ce-knativearrivaltime": "2026-06-12T08:21:44.123456789Z"}

Make = Callable[..., Function]


@pytest.fixture
def make(redis_node: RedisNode, clock: FakeClock) -> Make:
    def build(handler: Any, **changes: Any) -> Function:
        app = Function(
            "count", "test.done", settings=redis_node.settings(**changes), services=FakeServices(), clock=clock
        )
        app.handler(handler)
        return app

    return build


def raises(error: Exception) -> Callable[..., None]:
    def handler(event: Event, memory: Any, state: Any) -> None:
        memory["half"] = state["half"] = "done"
        raise error

    return handler


def deliver(app: Function, event: Event, **more: str) -> Any:
    headers, body = to_http(event)
    client: FlaskClient = app.test_client()
    return client.post("/", headers={**headers, **KNATIVE, **more}, data=body)


ANSWERS: list[tuple[Callable[..., Any], int, bool]] = [
    (lambda event: {"n": 1}, 200, False),
    (lambda event: b"\x00\x01", 200, False),
    (lambda event: "", 200, False),
    (lambda event: Reply(type="test.other"), 200, False),
    (lambda event: None, 202, False),
    (raises(BadInput("no price")), 400, False),
    (raises(ValueError("a fault of the handler")), 500, True),
    (raises(MemoryConflict("m", 1, 2)), 409, True),
    (raises(MemoryFenced("m", 1, "leaving", "there", 2)), 503, True),
    (raises(StoreUnavailable("127.0.0.1:1", "refused")), 503, True),
    (raises(StateMissing("expired")), 503, True),
    (raises(ElectionError("silent")), 503, True),
    (lambda event: object(), 500, True),
]


@pytest.mark.parametrize(("handler", "status", "again"), ANSWERS)
def test_an_answer_is_an_event_or_nothing_or_a_problem(
    make: Make, handler: Callable[..., Any], status: int, again: bool
) -> None:
    response = deliver(make(handler), Event.new("t", "/s", id="1"))
    assert response.status_code == status
    assert (status in TRIED_AGAIN or status >= 500) is again
    is_event = any(name.lower().startswith("ce-") for name, _ in response.headers)
    assert is_event == (status == 200)
    if status == 200:
        from_http(list(response.headers.items()), response.data)
    elif status == 202:
        assert response.data == b""
    else:
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("prefer", ["reply", "respond-async, reply", "return=minimal"])
def test_the_reply_comes_whatever_is_preferred(make: Make, prefer: str) -> None:
    response = deliver(make(lambda event: {"n": 1}), Event.new("t", "/s", id="1"), Prefer=prefer)
    assert (response.status_code, response.json) == (200, {"n": 1})


@pytest.mark.parametrize(("handler", "status", "again"), ANSWERS)
def test_a_redelivery_is_answered_alike_and_changes_nothing(
    make: Make, store: Store, handler: Callable[..., Any], status: int, again: bool
) -> None:
    app, event = make(handler), Event.new("t", "/s", id="1")
    first = deliver(app, event)
    kept = contents(store)
    second = deliver(app, event, **{"ce-knativearrivaltime": "2026-06-12T08:22:44Z"})
    assert (second.status_code, second.data) == (first.status_code, first.data)
    assert attributes(second) == attributes(first)
    assert contents(store) == kept


def attributes(response: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers if name.lower().startswith("ce-")}


def contents(store: Store) -> dict[Any, Any]:
    """Everything in Redis, as it would be written to a disk."""
    return store.run(lambda client: {key: client.dump(key) for key in client.keys("*")})


def test_a_redelivery_that_comes_while_the_first_runs_changes_nothing_either(make: Make, store: Store) -> None:
    inner: list[Any] = []

    def handler(event: Event, memory: Any) -> dict[str, int]:
        if not inner:
            inner.append(None)
            inner[0] = deliver(app, event)
        memory["seen"] = memory.get("seen", 0) + 1
        return {"seen": memory["seen"]}

    app = make(handler)
    outer = deliver(app, Event.new("t", "/s", id="1"))
    assert (outer.status_code, inner[0].status_code) == (200, 200)
    assert outer.data == inner[0].data == b'{"seen":1}'
    assert attributes(outer) == attributes(inner[0])


# Headers

LONGEST_NAME = "n" * 63  # of a node and of a function, as Kubernetes allows them


def size_bytes(response: Any) -> int:
    """Status line and headers as they go over the wire."""
    lines = [f"{name}: {value}\r\n" for name, value in response.headers.items()]
    return len("HTTP/1.1 200 OK\r\n") + sum(map(len, lines)) + len("\r\n")


@pytest.fixture
def worst(redis_node: RedisNode, clock: FakeClock) -> Callable[[int], Function]:
    """`worst(n)`: a function of the longest names, whose state takes n bytes as text in the event."""

    def build(inline_bytes: int) -> Function:
        settings = redis_node.settings(LONGEST_NAME, inline_limit_bytes=6144)
        emits = "dev.skylark." + "t" * 51
        services = FakeServices(LONGEST_NAME, hosts=[LONGEST_NAME])
        app = Function(LONGEST_NAME, emits, settings=settings, services=services, clock=clock)

        @app.handler
        def fill(event: Event, state: Any) -> dict[str, str]:
            state["x"] = b"\xff" * (inline_bytes * 3 // 4 - 64)
            return {"some": "data"}

        return app

    return build


def the_longest_event(**more: str) -> Event:
    """Every attribute that is carried on, as long as what Skylark and Knative make of it."""
    return Event.new(
        "t",
        "/apis/v1/namespaces/" + "s" * 63 + "/pingsources/" + "p" * 63,
        id="0" * 36,
        subject="a" * 63,
        partitionkey="k" * 63,
        correlationid="c" * 36,
        expirytime="2026-06-12T08:21:44.123Z",
        traceparent=f"00-{'4' * 32}-{'b' * 16}-01",
        **more,
    )


@pytest.mark.parametrize("inline_bytes", [1000, 4096, 6100])
def test_the_headers_of_the_longest_event_stay_within_8_kib(
    worst: Callable[[int], Function], inline_bytes: int
) -> None:
    response = deliver(worst(inline_bytes), the_longest_event())
    assert response.status_code == 200
    carried = response.headers.get("ce-skylarkstate", "")
    assert len(carried) == pytest.approx(inline_bytes, abs=128)
    assert size_bytes(response) < 8192 - 512  # for what is added on the way


@pytest.mark.parametrize("subject", ["s" * 2000, "ü" * 300, '"' * 700])
def test_state_goes_beside_the_event_where_its_attributes_leave_no_room(
    worst: Callable[[int], Function], subject: str
) -> None:
    response = deliver(
        worst(6000), the_longest_event(), **{"ce-subject": to_http(subject_of(subject))[0]["ce-subject"]}
    )
    assert response.status_code == 200
    assert "ce-skylarkstate" not in response.headers
    assert response.headers["ce-skylarkkey"]
    assert size_bytes(response) < 8192 - 512


def subject_of(text: str) -> Event:
    return Event.new("t", "/s", id="1", subject=text)


def test_the_longest_event_passes_a_server_that_takes_8_kib_and_comes_back(
    worst: Callable[[int], Function], serve: Serve
) -> None:
    response = deliver(worst(6100), the_longest_event())
    emitted = from_http(list(response.headers.items()), response.data)
    port = serve(worst(10))
    headers, body = to_http(emitted)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/", body, {**headers, **KNATIVE})
    assert connection.getresponse().status == 200
    connection.close()
