"""The broker's routes by themselves: who takes a request's body, and what is answered, without a server around it."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from libskylark.clock import SystemClock
from libskylark.errors import StoreUnavailable, StreamFull
from libskylark.eventing.entry import NewEntry
from libskylark.eventing.http_messages import Head, Refused, Response
from libskylark.eventing.ingress import Ingress
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import load_objects
from libskylark.eventing.metrics import BrokerMetrics
from libskylark.eventing.stream import Stream
from tests.eventing.conftest import trigger

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
TOKEN = "0123456789abcdef"


class FakeStream(Stream):
    """One whose end of storing the test decides."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 1, None, lambda entry: None, lambda: None)
        self.put_entries: list[NewEntry] = []
        self.storing: list[asyncio.Future[list[str]]] = []

    def put(self, new: NewEntry, tick: tuple[str, int] | None = None) -> asyncio.Future[list[str]]:
        self.put_entries.append(new)
        self.storing.append(asyncio.get_running_loop().create_future())
        return self.storing[-1]


class Asked:
    """An Ingress, and what it has answered; its Redis is away unless the stream is another one."""

    def __init__(
        self, objects: list[Any] | None = None, token: str | None = None, stream: Stream | None = None
    ) -> None:
        self.metrics = BrokerMetrics("here")
        self.stream = stream or Stream("127.0.0.1", 1, None, lambda entry: None, lambda: None)
        intake = Intake(load_objects(objects or []), SystemClock())
        self.ingress = Ingress(intake, self.stream, self.metrics, dict, token)
        self.answers: list[Response] = []

    def ask(
        self,
        target: str = "/default/default",
        headers: dict[str, str] | None = None,
        method: str = "POST",
        body: bytes = b"",
        repeated: dict[str, int] | None = None,
    ) -> Response | None:
        """The answer, where it is there at once."""
        head = Head(method, target.encode(), HEADERS if headers is None else headers, repeated or {})
        before = len(self.answers)
        try:
            self.ingress.admit(head)(body, self.answers.append)
        except Refused as refused:
            return refused.response
        return self.answers[-1] if len(self.answers) > before else None


def status(answer: Response | None) -> int:
    assert answer is not None
    return answer.status


def detail(answer: Response | None) -> str:
    assert answer is not None
    return str(json.loads(answer.body)["detail"])


def test_an_event_for_a_stream_that_is_away_is_refused_with_why() -> None:
    answer = Asked().ask(body=b"x" * 99)
    assert status(answer) == 503
    assert detail(answer) == str(StoreUnavailable("127.0.0.1:1", "not connected yet"))
    assert answer is not None
    assert ("Retry-After", "1") in answer.headers


@pytest.mark.parametrize(("ids", "outcome"), [(["1-0"], "accepted"), ([""], "duplicate")])
def test_an_event_is_answered_once_it_is_stored_and_counted(ids: list[str], outcome: str, tmp_path: Any) -> None:
    objects = tmp_path / "objects.yaml"
    objects.write_text(trigger("t", "http://127.0.0.1:9/"))

    async def ask() -> Asked:
        stream = FakeStream()
        asked = Asked([objects], stream=stream)
        assert asked.ask(body=b"data") is None
        assert stream.put_entries[0].content.event.data == b"data"
        stream.storing[0].set_result(ids)
        await asyncio.sleep(0)
        return asked

    asked = asyncio.run(ask())
    assert [(answer.status, answer.body) for answer in asked.answers] == [(202, b"")]
    counted = f'skylark_broker_events_total{{broker="default/default",node="here",outcome="{outcome}",type="t"}} 1.0'
    assert counted in asked.metrics.text(0, 0, {}).decode()


@pytest.mark.parametrize(
    ("error", "told"), [(StoreUnavailable("127.0.0.1:1", "gone"), 503), (StreamFull("no memory left"), 429)]
)
def test_an_event_that_could_not_be_stored_may_be_sent_again(error: Exception, told: int) -> None:
    async def ask() -> Asked:
        stream = FakeStream()
        asked = Asked(stream=stream)
        assert asked.ask() is None
        stream.storing[0].set_exception(error)
        await asyncio.sleep(0)
        return asked

    (answer,) = asyncio.run(ask()).answers
    assert (answer.status, detail(answer)) == (told, str(error))
    assert ("Retry-After", "1") in answer.headers


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong-wrong-wrong"}])
@pytest.mark.parametrize("target", ["/default/default", "/default/none", "/default/default/t", "/a/b/c/d"])
def test_a_broker_with_a_token_tells_strangers_nothing_else(given: dict[str, str], target: str) -> None:
    assert status(Asked(token=TOKEN).ask(target, {**HEADERS, **given})) == 401


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong-wrong-wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer \u00e4"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"bearer {TOKEN}"}, 503),
        ({"authorization": f"Bearer   {TOKEN} "}, 503),
    ],
)
def test_a_broker_with_a_token_takes_events_with_it_only(given: dict[str, str], told: int) -> None:
    answer = Asked(token=TOKEN).ask(headers={**HEADERS, **given})
    assert status(answer) == told
    assert answer is not None
    challenge = dict(answer.headers).get("WWW-Authenticate", "")
    assert challenge.startswith('Bearer realm="skylark"') == (told == 401)
    assert ('error="invalid_token"' in challenge) == (told == 401 and bool(given))
    assert TOKEN.encode() not in answer.body


@pytest.mark.parametrize(
    ("headers", "repeated", "told"),
    [
        ({"ce-type": "other"}, {"ce-type": 2}, 400),
        ({"x": "2"}, {"x": 2}, 503),
        ({"content-type": "application/cloudevents-batch+json"}, {}, 400),
        ({"ce-specversion": "0.3"}, {}, 400),
    ],
)
def test_what_is_no_event_is_told_so(headers: dict[str, str], repeated: dict[str, int], told: int) -> None:
    answer = Asked().ask(headers={**HEADERS, **headers}, repeated=repeated)
    assert status(answer) == told
    assert answer is not None
    if repeated and told == 400:
        assert json.loads(answer.body)["faults"] == {"type": "found 2 times"}


@pytest.mark.parametrize(
    ("method", "target", "told", "said"),
    [
        ("POST", "/default/none", 404, "no broker at /default/none; there is /default/default"),
        ("POST", "/default/default/t/x", 404, "no broker at /default/default/t/x; there is /default/default"),
        (
            "POST",
            "/default/default/a/b/c/d/e/f/g/h/i",
            404,
            "no broker at /default/default/a/b/c/d/e/f/g/h/i; there is",
        ),
        ("POST", "/default/default/none", 404, "Broker default/default has no Trigger default/none"),
        ("POST", "/", 404, "nothing at /; events go to /namespace/broker"),
        ("GET", "/other", 404, "nothing at /other; events go to /namespace/broker"),
        ("PUT", "/default/default", 405, "events are sent with POST"),
        ("HEAD", "/default/default", 405, "events are sent with POST"),
        ("POST", "/health", 405, "/health is read with GET"),
        ("OPTIONS", "/metrics", 405, "/metrics is read with GET"),
        ("OPTIONS", "/a/b/c/d", 404, "no broker at /a/b/c/d; there is /default/default"),
    ],
)
def test_other_targets_and_methods_are_refused_with_what_there_is(
    method: str, target: str, told: int, said: str
) -> None:
    answer = Asked().ask(target, method=method)
    assert status(answer) == told
    assert detail(answer).startswith(said)
    assert answer is not None
    allowed = "GET, HEAD" if target in ("/health", "/metrics") else "POST, OPTIONS"
    assert dict(answer.headers).get("Allow") == (allowed if told == 405 else None)


@pytest.mark.parametrize(
    "target",
    [
        "/default/default",
        "/default/default/",
        "/default/default?a=/b",
        "/%64efault/default",
        "http://elsewhere:1/default/default",
        "HTTP://elsewhere/default/default",
    ],
)
def test_a_target_is_known_by_its_path_alone(target: str) -> None:
    assert status(Asked().ask(target)) == 503  # it gets as far as the stream, which is away


@pytest.mark.parametrize("target", ["/default/default", "/default/default/t", "/any/other"])
def test_a_web_hook_may_ask_without_a_token(target: str) -> None:
    answer = Asked(token=TOKEN).ask(target, {}, "OPTIONS")
    assert answer is not None
    told = {"Allow": "POST, OPTIONS", "WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}
    assert (answer.status, dict(answer.headers)) == (200, told)


def test_health_and_metrics_are_told_without_a_token() -> None:
    asked = Asked(token=TOKEN)
    health = asked.ask("/health", {}, "GET")
    assert health is not None
    assert (health.status, json.loads(health.body)) == (200, {"status": "alive", "pid": os.getpid()})
    asked.ingress.count_refusal(404)
    metrics = asked.ask("/metrics", {}, "GET")
    assert metrics is not None
    assert b'skylark_broker_refused_requests_total{node="here",status="404"} 1.0' in metrics.body
    assert dict(metrics.headers)["Content-Type"].startswith("text/plain; version=0.0.4")


def test_readiness_is_asked_of_redis() -> None:
    async def ask() -> Response:
        asked, answered = Asked(), asyncio.Event()

        def reply(response: Response) -> None:
            asked.answers.append(response)
            answered.set()

        asked.ingress.admit(Head("GET", b"/ready", {}, {}))(b"", reply)
        await asyncio.wait_for(answered.wait(), 10)
        return asked.answers[0]

    answer = asyncio.run(ask())
    assert (answer.status, detail(answer)) == (503, "Redis at 127.0.0.1:1 does not answer")
    assert ("Retry-After", "1") in answer.headers
