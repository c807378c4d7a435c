"""Commands that wait for nodes whose Redis does not answer: what they say meanwhile, and how they end."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from click.testing import CliRunner
from rich.console import Console

from libskylark.cli.main import cli
from libskylark.cli.waiting import ask_all
from libskylark.errors import LabError
from libskylark.store import Store
from tests.cli.conftest import RecordLab
from tests.conftest import free_port

STEP = "; try again in a moment, and where it stays so, stop the lab and start it again"


@pytest.fixture
def mute() -> Iterator[Store]:
    """A store whose Redis takes connections, and never says anything."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(Store("127.0.0.1", server.getsockname()[1], timeout_s=0.3)) as store,
    ):
        yield store


def screen(is_terminal: bool) -> tuple[Console, io.StringIO]:
    said = io.StringIO()
    return Console(file=said, force_terminal=is_terminal, width=100), said


def test_a_node_that_answers_is_told_from_one_that_does_not(store: Store, mute: Store) -> None:
    answering, silent = ask_all({"here": store, "there": mute}, screen(is_terminal=False)[0])
    assert answering == {"here": store}
    assert list(silent) == ["there"]
    assert silent["there"].startswith(f"Redis at {mute.address} is unavailable: ")
    assert silent["there"].endswith(STEP)


def test_a_terminal_says_who_is_waited_for(store: Store, mute: Store) -> None:
    terminal, said = screen(is_terminal=True)
    ask_all({"here": store, "there": mute}, terminal, quiet_s=0.1)
    assert "waiting for the Redis of there" in said.getvalue()


def test_nothing_is_said_of_nodes_that_answer_or_where_no_terminal_is(store: Store, mute: Store) -> None:
    terminal, said = screen(is_terminal=True)
    ask_all({"here": store}, terminal)
    assert said.getvalue() == ""
    file, said = screen(is_terminal=False)
    ask_all({"there": mute}, file, quiet_s=0.0)
    assert said.getvalue() == ""


@pytest.mark.parametrize("command", [["status"], ["moves"], ["trace", "1"]])
def test_where_no_node_answers_a_command_ends_in_one_sentence(
    record_lab: RecordLab, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    project, port = record_lab(), free_port("127.0.0.1", "127.0.0.2")
    monkeypatch.setenv("SKYLARK_REDIS_PORT", str(port))
    result = CliRunner().invoke(cli, [*command, "--project", project, "--json"])
    assert isinstance(result.exception, LabError)
    told = str(result.exception)
    assert told.startswith(f"no node's Redis answers: Redis at 127.0.0.1:{port} is unavailable: ")
    assert told.endswith(
        f"{STEP}; SKYLARK_REDIS_PORT and SKYLARK_REDIS_PASSWORD must be here what they are for the lab"
    )
    assert f" refused{STEP};" in told
    assert "\n" not in told
    if command == ["status"]:  # what can be told without the nodes is told
        assert all(node["fault"].endswith(STEP) for node in json.loads(result.stdout)["nodes"])


def test_where_the_node_that_was_asked_for_does_not_answer_that_is_the_error(record_lab: RecordLab) -> None:
    project = record_lab(there_is_gone=True)
    result = CliRunner().invoke(cli, ["moves", "--node", "there", "--project", project])
    assert str(result.exception).startswith("the node's Redis does not answer: Redis at 127.0.0.3:")
