"""Events from outside travel the chain of a running constellation; bad ones are refused in words, and it goes on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from libskylark.cli.main import cli
from libskylark.event import Event, to_http
from libskylark.eventing.journal import Outcome
from libskylark.eventing.journey import JournalTail, Journey
from libskylark.lab.record import node_stores
from tests.e2e.harness import TOKEN, RunningProject

FRAME = "dev.skylark.frame.captured"


@pytest.fixture(scope="module")
def picture(fire_watch: RunningProject) -> bytes:
    camera = fire_watch.lab.constellation.locate("camera", "pi5u2")
    answer = requests.get(f"http://{camera.host}:{camera.port}/frame", params={"frame": 5}, timeout=10)
    assert answer.status_code == 200
    return answer.content


def post(url: str, headers: dict[str, str], body: bytes | str) -> requests.Response:
    return requests.post(url, headers={**headers, "Authorization": f"Bearer {TOKEN}"}, data=body, timeout=10)


def functions_passed(journey: Journey) -> set[str]:
    outcomes = [step.record for step in journey.steps if hasattr(step.record, "trigger")]
    return {o.trigger.rsplit("-", 1)[1] for o in outcomes if o.outcome in ("delivered", "replied")}


def wait_for_chain(fire_watch: RunningProject, event: Event, node: str | None = None) -> Journey:
    return fire_watch.client(node).send_and_wait(event, 30)


def test_a_picture_sent_without_an_address_reaches_the_alarm(fire_watch: RunningProject, picture: bytes) -> None:
    event = Event.new(FRAME, "/me", picture, datacontenttype="image/tiff", subject="by-hand")
    journey = wait_for_chain(fire_watch, event, node="pi4u7")
    assert {"preprocess", "detect", "alarm"} <= functions_passed(journey)
    assert journey.dead_lettered == []


def test_a_picture_goes_through_on_the_node_that_it_names(fire_watch: RunningProject, picture: bytes) -> None:
    event = Event.new(FRAME, "/me", picture, datacontenttype="image/tiff", skylarknode="pi4u8")
    journey = wait_for_chain(fire_watch, event)
    nodes = [step.node for step in journey.steps if getattr(step.record, "trigger", "") == "default/pi4u8-preprocess"]
    assert nodes[-1] == "pi4u8"
    assert "alarm" in functions_passed(journey)


def test_a_structured_event_makes_the_camera_capture_a_frame(fire_watch: RunningProject) -> None:
    event = Event.new("dev.skylark.frame.requested", "/me", {"frame": 4})
    headers, body = to_http(event, structured=True)
    assert headers["content-type"] == "application/cloudevents+json"
    answer = post(fire_watch.broker(), headers, body)
    assert answer.status_code == 202
    # The same event once more, and now wait: brokers pass a repetition on, functions know it.
    journey = wait_for_chain(fire_watch, event)
    assert "alarm" in functions_passed(journey)


@pytest.mark.parametrize("body", [b"", b"II*\x00 cut short"], ids=["empty", "truncated"])
def test_a_broken_picture_is_dead_lettered_with_the_reason(fire_watch: RunningProject, body: bytes) -> None:
    event = Event.new(FRAME, "/me", body, datacontenttype="image/tiff")
    journey = wait_for_chain(fire_watch, event)
    (dead,) = journey.dead_lettered
    assert dead.status == 400
    assert dead.trigger.endswith("-preprocess")
    assert "Traceback" not in dead.reason


def test_a_truncated_tiff_is_dead_lettered_and_the_chain_goes_on(fire_watch: RunningProject, picture: bytes) -> None:
    cut = Event.new(FRAME, "/me", picture[: len(picture) // 2], datacontenttype="image/tiff")
    assert wait_for_chain(fire_watch, cut).dead_lettered[0].status == 400
    whole = Event.new(FRAME, "/me", picture, datacontenttype="image/tiff")
    assert "alarm" in functions_passed(wait_for_chain(fire_watch, whole))


def skylark(fire_watch: RunningProject, *arguments: str) -> str:
    runner = CliRunner(env={"COLUMNS": None})  # each line whole, however wide the screen is
    result = runner.invoke(cli, [*arguments, "--project", str(fire_watch.project)])
    assert result.exit_code == 0, result.output
    return result.stdout


def letter_of(fire_watch: RunningProject, event: Event) -> dict[str, Any]:
    told = json.loads(skylark(fire_watch, "dead-letters", "list", "--count", "1000", "--json"))
    (letter,) = (letter for letter in told["letters"] if letter["event"] == event.id)
    return dict(letter)


def test_a_broken_picture_is_traced_and_its_dead_letter_replayed(fire_watch: RunningProject) -> None:
    event = Event.new(FRAME, "/me", b"II*\x00 cut short", datacontenttype="image/tiff")
    wait_for_chain(fire_watch, event)
    letter = letter_of(fire_watch, event)
    assert (letter["status"], letter["size_bytes"]) == (400, len(event.data))
    traced = skylark(fire_watch, "trace", event.id).splitlines()
    assert traced[1].endswith(", ended")
    assert ": answered 400: " in traced[-1]
    assert f" {letter['trigger'].partition('/')[2]} " in traced[-1]

    with JournalTail(node_stores(fire_watch.lab.constellation)) as tail:
        skylark(fire_watch, "dead-letters", "replay", letter["id"])
        records = (step.record for step in tail.steps(time.monotonic() + 30))
        again = next(r for r in records if isinstance(r, Outcome) and r.event == event.id)

    assert (again.outcome, again.trigger, again.chain) == ("dead-lettered", letter["trigger"], event.chain)
    assert letter_of(fire_watch, event)["id"] != letter["id"]
    traced = skylark(fire_watch, "trace", event.id).splitlines()
    assert "replayed" in traced[-2]
    assert ": answered 400: " in traced[-1]


def test_a_sender_without_the_token_is_refused_and_told_how_to_show_it(fire_watch: RunningProject) -> None:
    headers, body = to_http(Event.new(FRAME, "/me", b""))
    answer = requests.post(fire_watch.broker(), headers=headers, data=body, timeout=10)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="skylark"'


def test_an_event_without_type_is_refused_by_the_broker(fire_watch: RunningProject) -> None:
    headers = {"ce-specversion": "1.0", "ce-source": "/me", "ce-id": "1"}
    answer = post(fire_watch.broker(), headers, b"x")
    assert answer.status_code == 400
    problem: dict[str, Any] = answer.json()
    assert problem["faults"] == {"type": "is required"}


def test_a_client_function_sends_and_waits(fire_watch: RunningProject) -> None:
    client = fire_watch.lab.constellation.locate("client", "pi4u7")
    headers, body = to_http(Event.new("dev.skylark.frame.requested", "/me", {"frame": 1}))
    answer = post(f"http://{client.host}:{client.port}/send?wait=30s", headers, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["steps"] > 8
    assert answer.json()["dead_lettered"] == []


def test_every_elect_tells_who_is_next(fire_watch: RunningProject) -> None:
    constellation = fire_watch.lab.constellation
    for node in constellation.nodes:
        elect = constellation.locate("elect", node)
        answer = requests.get(
            f"http://{constellation.nodes[node].ip}:{elect.port}/successor", params={"function": "alarm"}, timeout=10
        )
        assert answer.status_code == 200
        assert answer.json()["hosts"] == ["pi5u1"]
    assert json.loads(json.dumps(answer.json())) == answer.json()
