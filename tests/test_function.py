"""A function's HTTP contract, with the real ledger in Redis behind it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from libskylark import BadInput, Event, Function
from libskylark.codec import encode
from libskylark.errors import ElectionError, FunctionError, MemoryConflict, SettingError
from libskylark.event import from_http, to_http
from libskylark.memory import Committed, Conflict, Effects
from libskylark.state import encode_inline
from libskylark.store import Store
from libskylark.testing import FakeClock, FakeLedger, FakeServices
from libskylark.timing import read_timings

from .conftest import RedisNode

Make = Callable[..., Function]


@pytest.fixture
def make(redis_node: RedisNode, clock: FakeClock) -> Make:
    """`make(handler)`: an application that runs it on the node `here`."""

    def build(handler: Any = None, name: str = "count", emits: str | None = "test.done", **options: Any) -> Function:
        defaults = {"settings": redis_node.settings(), "services": FakeServices(), "clock": clock}
        app = Function(name, emits, **{**defaults, **options})
        if handler is not None:
            app.handler(handler)
        return app

    return build


def count(event: Event, memory: Any) -> dict[str, int]:
    memory["seen"] = memory.get("seen", 0) + 1
    return {"seen": memory["seen"]}


def an_event(number: int = 1, data: Any = None, **attributes: str) -> Event:
    return Event.new("test.happened", "/s", data, id=f"event-{number}", **attributes)


def post(app: Function, event: Event, structured: bool = False) -> Any:
    headers, body = to_http(event, structured)
    return app.test_client().post("/", headers=headers, data=body)


def problem_of(response: Any) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.data)
    assert problem["status"] == response.status_code
    assert "Traceback" not in response.text
    assert 'File "' not in response.text
    return problem


@pytest.mark.parametrize("structured", [False, True])
def test_an_event_is_answered_with_the_emitted_event(make: Make, structured: bool) -> None:
    response = post(make(count), an_event(), structured)
    assert response.status_code == 200
    reply = from_http(list(response.headers.items()), response.data)
    assert (reply.type, reply.json(), reply.attributes["causationid"]) == ("test.done", {"seen": 1}, "event-1")


def test_nothing_emitted_is_202_without_a_body(make: Make) -> None:
    response = post(make(lambda event: None), an_event())
    assert (response.status_code, response.data) == (202, b"")


@pytest.mark.parametrize("data", [None, {"n": 1}])
def test_an_answer_tells_its_reads_of_memory_and_state(make: Make, data: Any) -> None:
    def handler(event: Event, state: Any, memory: Any) -> Any:
        memory["seen"] = state["n"]
        return data

    inline = encode_inline({"n": encode(5)})
    response = post(make(handler), an_event(skylarkstate=inline))
    read, commit = read_timings(response.headers["Server-Timing"])
    assert (read.what, read.place, read.node) == ("state", "inline", "here")
    assert commit.what == "commit"


def test_a_failure_and_a_repetition_tell_of_no_reads(make: Make) -> None:
    app = make(count)
    post(app, an_event())
    assert "Server-Timing" not in post(app, an_event()).headers
    assert "Server-Timing" not in post(make(lambda event: 1 / 0), an_event(2)).headers


def test_the_same_event_twice_runs_the_handler_once_and_gets_the_same_answer(make: Make) -> None:
    app = make(count)
    first, second = post(app, an_event()), post(app, an_event())
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.data == second.data == b'{"seen":1}'
    assert first.headers["ce-id"] == second.headers["ce-id"]
    assert post(app, an_event(2)).data == b'{"seen":2}'


def test_another_process_of_the_function_knows_the_same_events(make: Make) -> None:
    assert post(make(count), an_event()).data == post(make(count), an_event()).data


def test_a_message_that_is_no_event_is_400_with_every_fault(make: Make) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "t", "ce-bad-name": "x"}
    problem = problem_of(make(count).test_client().post("/", headers=headers))
    assert problem["status"] == 400
    assert {"id", "source", "bad-name"} <= set(problem["faults"])
    assert problem["detail"].startswith("not a CloudEvent")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"[]", b"null"])
def test_a_torn_structured_event_is_400(make: Make, body: bytes) -> None:
    response = make(count).test_client().post("/", data=body, content_type="application/cloudevents+json")
    assert problem_of(response)["status"] == 400


def test_data_that_a_handler_refuses_is_400_and_commits_nothing(make: Make) -> None:
    def handler(event: Event, memory: Any) -> None:
        memory["seen"] = 1
        raise BadInput("the order has no price")

    app = make(handler)
    assert problem_of(post(app, an_event()))["detail"] == "the order has no price"
    assert post(make(count), an_event()).data == b'{"seen":1}'


@pytest.mark.parametrize("attributes", [{"skylarkstate": "torn!"}, {"skylarkkey": "no key"}])
def test_torn_state_in_the_event_is_400(make: Make, attributes: dict[str, str]) -> None:
    response = post(make(lambda event, state: dict(state)), an_event(**attributes))
    assert problem_of(response)["status"] == 400


def test_torn_memory_is_no_fault_of_the_event(make: Make, store: Store) -> None:
    store.run(lambda client: client.hset("memory:count:count", "seen", b"SKY torn"))
    problem = problem_of(post(make(count), an_event()))
    assert problem["status"] == 503
    assert "memory count:count: field 'seen'" in problem["detail"]


def test_data_that_is_no_json_is_400(make: Make) -> None:
    response = post(make(lambda event: event.json()), an_event(data=b"not json"))
    assert "data is no JSON" in problem_of(response)["detail"]


def test_a_handlers_exception_is_500_without_a_traceback_which_the_log_has(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(event: Event, memory: Any) -> None:
        memory["seen"] = 1
        raise ZeroDivisionError("by zero")

    with caplog.at_level(logging.ERROR, "skylark.function"):
        problem = problem_of(post(make(handler), an_event()))
    assert problem["status"] == 500
    assert problem["detail"] == "the handler raised ZeroDivisionError: by zero"
    assert caplog.records[0].exc_info is not None
    assert "event from /s" in caplog.text
    assert post(make(count), an_event()).data == b'{"seen":1}'


def test_an_http_error_of_flask_raised_by_a_handler_is_an_exception_like_others(make: Make) -> None:
    from flask import abort

    assert problem_of(post(make(lambda event: abort(404)), an_event()))["status"] == 500


def test_a_value_that_cannot_be_kept_is_500(make: Make) -> None:
    def handler(event: Event, memory: Any) -> None:
        memory["bad"] = object()

    assert problem_of(post(make(handler), an_event()))["status"] == 500


def test_a_function_without_a_handler_says_so(make: Make) -> None:
    assert "has no handler; decorate one with @app.handler" in problem_of(post(make(), an_event()))["detail"]


class AlwaysLate(FakeLedger):
    """Someone else has always written the memory meanwhile."""

    def commit(self, effects: Effects) -> Committed | Conflict:
        return Conflict(9)


def test_a_memory_that_is_always_written_meanwhile_is_409(make: Make) -> None:
    response = post(make(count, ledger=AlwaysLate()), an_event())
    assert problem_of(response)["status"] == 409
    assert "memory count:count is at version 9, this run read version 0" in response.text


def test_an_unreachable_redis_is_503_with_its_address_and_retry_after(make: Make, unused_port: int) -> None:
    from libskylark.config import NodeSettings

    app = make(count, settings=NodeSettings(node="here", redis_port=unused_port, store_timeout_s=0.2))
    for response in (post(app, an_event()), app.test_client().get("/ready")):
        assert problem_of(response)["status"] == 503
        assert f"Redis at 127.0.0.1:{unused_port} is unavailable" in problem_of(response)["detail"]
        assert response.headers["Retry-After"] == "1"
    assert app.test_client().get("/health").status_code == 200


def test_state_that_is_gone_is_503(make: Make) -> None:
    response = post(make(lambda event, state: state["image"]), an_event(skylarkkey="chain:here:task"))
    assert problem_of(response)["status"] == 503
    assert "state chain:here:task is nowhere to be read: here: has none (expired" in response.text
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("error", "status"), [(ElectionError("silent"), 503), (MemoryConflict("m", 1, 2), 409)])
def test_what_may_pass_is_told_apart_from_what_stays_wrong(make: Make, error: Exception, status: int) -> None:
    def handler(event: Event) -> None:
        raise error

    assert problem_of(post(make(handler), an_event()))["status"] == status


def test_health_and_ready_tell_that_the_function_runs(make: Make) -> None:
    client = make(count).test_client()
    assert client.get("/health").json == {"status": "alive", "function": "count"}
    assert client.get("/ready").json == {"status": "ready"}


def test_metrics_count_events_by_outcome_and_reads_by_place(make: Make) -> None:
    def handler(event: Event, state: Any) -> None:
        if event.data:
            raise BadInput("no data, please")
        dict(state)

    app = make(handler)
    client = app.test_client()
    client.post("/", data=b"no event")
    for event in (an_event(1), an_event(1), an_event(2, b"x"), an_event(3, skylarkstate="AAAAAA")):
        post(app, event)
    response = client.get("/metrics")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    for outcome, times in {"handled": 2, "duplicate": 1, "refused": 1, "invalid": 1}.items():
        assert f'skylark_events_total{{function="count",node="here",outcome="{outcome}"}} {times}.0' in response.text
    assert 'skylark_state_reads_total{function="count",node="here",place="inline"} 1.0' in response.text
    assert 'skylark_handler_seconds_count{function="count",node="here"} 4.0' in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 405), ("PUT", "/", 405), ("POST", "/nowhere", 404)]
)
def test_other_requests_are_problems_too(make: Make, method: str, path: str, status: int) -> None:
    response = make(count).test_client().open(path, method=method)
    assert problem_of(response)["status"] == status
    if status == 405:
        assert "POST" in response.headers["Allow"]


def test_an_event_that_is_too_large_is_413(make: Make) -> None:
    app = make(count)
    app.config["MAX_CONTENT_LENGTH"] = 1000
    assert problem_of(post(app, an_event(data=b"x" * 1001)))["status"] == 413


def test_a_handler_may_ask_for_known_parameters_only(make: Make) -> None:
    for handler in (lambda event, foo: None, lambda *args: None, lambda **more: None):
        with pytest.raises(FunctionError, match="it may ask for event, state, memory, context"):
            make().handler(handler)


def test_a_second_handler_is_refused(make: Make) -> None:
    with pytest.raises(FunctionError, match="has a handler already: count"):
        make(count).handler(lambda event: None)


def test_the_decorated_handler_stays_the_plain_function(make: Make) -> None:
    assert make().handler(count) is count


def test_a_function_reads_its_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "pi5u2")
    assert Function("count").settings.node == "pi5u2"
    monkeypatch.setenv("SKYLARK_REDIS_PORT", "many")
    with pytest.raises(SettingError, match="SKYLARK_REDIS_PORT: found 'many'"):
        Function("count")
