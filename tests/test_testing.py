from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libskylark import Context, Event, Function, Reply
from libskylark.config import NodeSettings
from libskylark.errors import FunctionError, StateMissing
from libskylark.key import StateKey
from libskylark.memory import MemoryName
from libskylark.policy import Candidate
from libskylark.testing import Answer, FakeClock, FakeLedger, FakeServices, FakeStates, invoke, load_function


@pytest.fixture
def app() -> Function:
    """Counts, sums up the state, and says where it runs; its Redis is nowhere."""
    app = Function("count", "test.done", settings=NodeSettings(redis_port=1))

    @app.handler
    def count(event: Event, state: Any, memory: Any, context: Context) -> dict[str, Any]:
        memory["seen"] = memory.get("seen", 0) + 1
        total = sum(state.values())
        state["total"] = total
        return {
            "seen": memory["seen"],
            "total": total,
            "node": context.node,
            "epoch": context.epoch,
            "above": context.is_above,
        }

    return app


def event(number: int = 1) -> Event:
    return Event.new("test.happened", "/s", id=f"event-{number}")


def reply(answer: Answer) -> Any:
    assert answer.event is not None, answer.body
    return answer.event.json()


def test_invoke_runs_a_handler_with_state_and_memory(app: Function) -> None:
    answer = invoke(app, event(), {"a": 1, "b": 2}, {"seen": 4}, node="n1", epoch=7, access="n2")
    assert answer.status == 200
    assert reply(answer) == {"seen": 5, "total": 3, "node": "n1", "epoch": 7, "above": False}
    assert answer.state == {"a": 1, "b": 2, "total": 3}
    assert answer.memory == {"seen": 5}


def test_memory_lasts_between_calls_that_share_a_ledger(app: Function) -> None:
    ledger = FakeLedger()
    assert [reply(invoke(app, event(n), ledger=ledger))["seen"] for n in (1, 2, 2, 3)] == [1, 2, 2, 3]
    assert ledger.counters == {"runs:count": 3}
    assert ledger.versions == {MemoryName("count", "count"): 3}


def test_the_application_is_as_before_after_an_invocation(app: Function) -> None:
    execution = app.execution
    invoke(app, event())
    assert app.execution is execution


def test_values_are_encoded_as_they_would_be_for_redis(app: Function) -> None:
    app = Function("keep", settings=NodeSettings(redis_port=1))

    @app.handler
    def keep(event: Event, memory: Any) -> None:
        memory["bad"] = {1, 2}

    assert invoke(app, event()).status == 500


def test_large_state_is_forwarded_to_a_candidate_and_shown(app: Function) -> None:
    app = Function("picture", "test.done", settings=NodeSettings(redis_port=1))

    @app.handler
    def picture(event: Event, state: Any) -> Reply:
        state["image"] = np.arange(10_000)
        return Reply({})

    for services in (FakeServices(candidates=[Candidate("next", "10.0.0.2", 1, 40, 1)], hosts=["next"]), None):
        answer = invoke(app, event(), services=services)
        assert answer.event is not None
        key = StateKey.parse(answer.event.attributes["skylarkkey"])
        assert key.node == ("next" if services else "here")
        np.testing.assert_array_equal(answer.state["image"], np.arange(10_000))


def test_a_handler_that_fails_leaves_the_memory_as_it_was() -> None:
    app = Function("fail", settings=NodeSettings(redis_port=1))

    @app.handler
    def fail(event: Event, memory: Any) -> None:
        memory["seen"] = 2
        raise RuntimeError("no")

    answer = invoke(app, event(), memory={"seen": 1})
    assert (answer.status, answer.event, answer.state, answer.memory) == (500, None, {}, {"seen": 1})
    assert b"RuntimeError: no" in answer.body


def test_the_clock_of_an_invocation_can_be_given(app: Function) -> None:
    answer = invoke(app, event(), clock=FakeClock(600.0))
    assert reply(answer)["epoch"] == 10
    assert answer.event is not None
    assert answer.event.attributes["time"] == "1970-01-01T00:10:00.000Z"


def test_fake_states_keep_bundles_for_all_nodes() -> None:
    states = FakeStates()
    states.push(StateKey("c", "n1", "t"), {"a": b"1", "b": b"2"}, 0)
    assert states.load(StateKey("c", "n1", "t"), None, None).frames == {"a": b"1", "b": b"2"}
    assert states.load(StateKey("c", "n1", "t"), None, ["b"]).frames == {"b": b"2"}
    with pytest.raises(StateMissing, match="given to no fake"):
        states.load(StateKey("c", "n2", "t"), None, None)


def write_function(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "function.py").write_text(text)
    return folder


def test_functions_of_several_folders_are_loaded_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    text = "from libskylark import Function\nfrom helper_of_this_test import emits\napp = Function({!r}, emits)\n"
    folders = [write_function(tmp_path / name, text.format(name)) for name in ("first", "second")]
    (folders[0] / "helper_of_this_test.py").write_text("emits = 'com.example.done'\n")
    apps = [load_function(folder) for folder in folders]
    assert [app.function for app in apps] == ["first", "second"]
    assert [app.execution.emits for app in apps] == ["com.example.done"] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [("app = 1\n", "has no app = Function(...), found 1"), (None, "expected the folder of a function")],
)
def test_a_folder_without_a_function_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    folder = tmp_path / "broken"
    if text is not None:
        write_function(folder, text)
    with pytest.raises(FunctionError, match=re.escape(said)) as caught:
        load_function(folder)
    assert str(folder) in str(caught.value)
