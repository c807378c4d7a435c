"""What `skylark demo` says while frames are on their way; how one comes out is tested end to end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from libskylark.cli import demo as demo_command
from libskylark.cli.main import cli
from libskylark.errors import LabError
from libskylark.event import TICK_TYPE
from libskylark.eventing.journal import Accepted, Outcome, OutcomeName, Record
from libskylark.eventing.journey import Step
from libskylark.lab.tally import ALARM_TYPE, FRAME_TYPE, HOTSPOTS_TYPE, Tally
from tests.conftest import ROOT

TIME = "2026-11-24T08:00:00.000Z"


def accepted(event: str, event_type: str, chain: str) -> Accepted:
    return Accepted(event, "/camera", event_type, chain, None, (), TIME)


def ended(event: str, event_type: str, chain: str, trigger: str, outcome: OutcomeName) -> Outcome:
    return Outcome(event, chain, event_type, f"default/{trigger}", outcome, 200, 1, None, 1.0, TIME)


RECORDS: list[Record] = [
    accepted("tick-1", TICK_TYPE, "clock-1"),
    accepted("frame-1", FRAME_TYPE, "chain-1"),
    accepted("frame-2", FRAME_TYPE, "chain-2"),
    accepted("frame-2", FRAME_TYPE, "chain-2"),  # handed over to another node: the same frame
    ended("hot-1", HOTSPOTS_TYPE, "chain-1", "pi5u1-watch", "delivered"),  # not the alarm's own Trigger
    ended("hot-1", HOTSPOTS_TYPE, "chain-1", "pi5u1-alarm", "forwarded"),
    ended("hot-1", HOTSPOTS_TYPE, "chain-1", "pi5u2-alarm", "replied"),
    accepted("alarm-1", ALARM_TYPE, "chain-1"),
    ended("tick-2", TICK_TYPE, "clock-2", "pi5u3-camera", "dead-lettered"),
]


def test_progress_counts_frames_that_were_sent_decided_and_refused() -> None:
    tally, told = Tally(), []
    for record in RECORDS:
        tally.add(Step("pi5u1", record))
        told.append(demo_command.progress(tally, 12))
    assert list(dict.fromkeys(told)) == [
        "0 of 12 frames sent, 0 decided",
        "1 of 12 frames sent, 0 decided",
        "2 of 12 frames sent, 0 decided",
        "2 of 12 frames sent, 1 decided",
        "2 of 12 frames sent, 1 decided, 1 refused",
    ]


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, True), (False, False)])
def test_the_status_line_of_a_terminal_follows_the_frames(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, shown: bool
) -> None:
    class ShortDemo:
        def __init__(
            self, project: object, options: object, say: Callable[[str], None], on_step: Callable[[Step, Tally], None]
        ) -> None:
            self._say, self._on_step = say, on_step

        def run(self) -> None:
            self._say("9 nodes are ready after 3.0 s")
            tally = Tally()
            for record in RECORDS[:3]:
                tally.add(step := Step("pi5u1", record))
                self._on_step(step, tally)
            raise LabError("that is all")

    monkeypatch.setattr(demo_command, "Demo", ShortDemo)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color"} if is_terminal else {}
    result = CliRunner(env=environment).invoke(cli, ["demo", "--frames", "3", "--project", str(ROOT)])
    assert isinstance(result.exception, LabError)
    assert "9 nodes are ready after 3.0 s" in result.stdout
    assert ("2 of 3 frames sent, 0 decided" in result.stdout) is shown
