from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import responses
from click.testing import CliRunner, Result
from requests import PreparedRequest

from libskylark.cli.main import cli
from libskylark.errors import InvalidEvent, LabError, SendError
from libskylark.eventing import journal
from libskylark.eventing.journal import Accepted, Duplicate, Outcome, Record
from libskylark.store import Store
from tests.cli.conftest import RecordLab

BROKER = "http://broker.example/default/default"
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "correlationid": "chain-1"}

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def event_file(write: Write) -> str:
    return str(write("event.json", json.dumps(EVENT)))


def send(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["send", *arguments])


@responses.activate
def test_an_event_is_sent_to_any_broker(event_file: str) -> None:
    responses.post(BROKER, status=202)
    result = send(event_file, "--broker", BROKER)
    assert result.exit_code == 0
    assert result.stdout == f"accepted 1 by {BROKER}\nchain chain-1\n"
    assert responses.calls[0].request.headers["ce-id"] == "1"


@responses.activate
def test_what_was_sent_is_told_as_json(event_file: str) -> None:
    responses.post(BROKER, status=202)
    result = send(event_file, "--broker", BROKER, "--json")
    assert json.loads(result.stdout) == {"broker": BROKER, "event": "1", "chain": "chain-1"}


@responses.activate
def test_a_refusal_has_the_brokers_words(event_file: str) -> None:
    responses.post(BROKER, status=404, json={"detail": "no broker here"})
    result = send(event_file, "--broker", BROKER)
    assert result.exit_code == 1
    assert isinstance(result.exception, SendError)
    assert "no broker here" in str(result.exception)


def test_a_file_that_means_no_event_is_bad_input(write: Write) -> None:
    result = send(str(write("order.json", '{"id": 5}')), "--broker", BROKER)
    assert isinstance(result.exception, InvalidEvent)


def test_waiting_does_not_go_with_a_foreign_broker(event_file: str) -> None:
    result = send(event_file, "--broker", BROKER, "--wait", "5s")
    assert result.exit_code == 2
    assert "--wait needs the journals of a lab" in result.stderr


def test_a_faulty_duration_is_a_usage_error(event_file: str) -> None:
    result = send(event_file, "--wait", "soon")
    assert result.exit_code == 2
    assert "found 'soon', expected a duration such as 500ms" in result.stderr


def test_without_a_lab_there_is_nobody_to_send_to(event_file: str, tmp_path: Path) -> None:
    result = send(event_file, "--project", str(tmp_path))
    assert isinstance(result.exception, LabError)
    assert "start one there with `skylark up`" in str(result.exception)


def test_a_missing_file_is_a_usage_error() -> None:
    result = send("/no/such/file")
    assert result.exit_code == 2


@responses.activate
def test_a_sender_that_waits_is_told_every_step(
    record_lab: RecordLab, store: Store, event_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYLARK_BROKER_PORT", "8099")
    at = "2026-11-24T08:00:00.000Z"
    left: list[list[Record]] = [
        [
            Accepted("1", "/s", "t", "chain-1", None, ("default/a",), at),
            Outcome("1", "chain-1", "t", "default/a", "delivered", 202, 3, None, 1_300.0, at),
        ],
        [Duplicate("1", "/s", "t", "chain-1", "default/default", at)],
    ]

    def take(request: PreparedRequest) -> tuple[int, dict[str, str], str]:
        for record in left.pop(0):
            fields: dict[Any, Any] = {"record": journal.encode(record)}
            store.run(lambda client, fields=fields: client.xadd(journal.KEY, fields))  # type: ignore[misc]
        return 202, {}, ""

    responses.add_callback(responses.POST, "http://127.0.0.1:8099/default/default", take)
    project = record_lab()
    told = [send(event_file, "--wait", "10s", "--project", project).stdout.splitlines()[2:] for _ in range(2)]
    assert told == [
        ["  here     took t for a", "  here     delivered after 3 attempts by a (202 in 1.3 s)"],
        ["  here     took t for a duplicate, and did nothing more"],
    ]
