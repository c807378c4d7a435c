"""Logs: what a line holds, for programs and for people, and what it costs to be able to write one."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libskylark.config import from_environment
from libskylark.errors import SettingError
from libskylark.logs import LogSettings, about, configure_logs
from tests.conftest import ROOT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_who_and_what_it_is_about() -> None:
    stream = io.StringIO()
    configure_logs("detect", "pi5u2", LogSettings(), stream)
    log = logging.getLogger("skylark.test")
    with about(chain="c1", event_id="e1", epoch=7):
        log.warning("found %d fires", 2, extra={"area": "Grünau"})
    log.info("afterwards")
    log.debug("not told")
    told, after = lines_of(stream)
    time = told.pop("time")
    assert time.endswith("Z")
    assert "T" in time
    assert told == {
        "node": "pi5u2",
        "role": "detect",
        "chain": "c1",
        "event_id": "e1",
        "epoch": 7,
        "area": "Grünau",
        "level": "warning",
        "logger": "skylark.test",
        "message": "found 2 fires",
    }
    assert "Grünau" in stream.getvalue()
    assert after["message"] == "afterwards"
    assert "chain" not in after


def test_an_exception_is_one_line_with_its_traceback() -> None:
    stream = io.StringIO()
    configure_logs("detect", "pi5u2", LogSettings(), stream)
    try:
        raise ValueError("torn")
    except ValueError:
        logging.getLogger("skylark.test").exception("it failed")
    (line,) = lines_of(stream)
    assert line["exception"].endswith("ValueError: torn")


def test_what_json_does_not_know_is_written_as_text() -> None:
    stream = io.StringIO()
    configure_logs("detect", "pi5u2", LogSettings(), stream)
    logging.getLogger("skylark.test").info("read", extra={"path": Path("a/b")})
    assert lines_of(stream)[0]["path"] == "a/b"


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_people_in_a_terminal_get_text(monkeypatch: pytest.MonkeyPatch, no_color: str, colored: bool) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    configure_logs("detect", "pi5u2", LogSettings(level="debug"), stream)
    with about(chain="c1"):
        logging.getLogger("skylark.test").debug("looking")
    (line,) = stream.getvalue().splitlines()
    assert ("\x1b[" in line) is colored
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert "looking" in plain
    assert "chain=c1" in plain
    assert not plain.startswith("{")


@pytest.mark.parametrize(("name", "value"), [("SKYLARK_LOG_LEVEL", "loud"), ("SKYLARK_LOG_FORMAT", "xml")])
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"setting {name}: found '{value}'"):
        from_environment(LogSettings, {name: value})


def test_configured_twice_lines_are_written_once() -> None:
    stream = io.StringIO()
    for _ in range(2):
        configure_logs("detect", "pi5u2", LogSettings(format="json"), stream)
    logging.getLogger("skylark.test").info("once")
    assert len(lines_of(stream)) == 1


def test_where_nobody_reads_colours_nothing_is_imported_for_them() -> None:
    script = (
        "import sys; from libskylark.logs import *\n"
        "configure_logs('detect', 'here', LogSettings())\n"
        "import logging; logging.getLogger('x').error('told')\n"
        "print(sorted({'rich', 'colorama', 'better_exceptions', 'structlog'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['structlog']\n"
    assert json.loads(done.stderr)["message"] == "told"


def test_a_broker_leaves_the_logs_alone_where_its_process_has_configured_them(tmp_path: Path) -> None:
    script = (
        "import logging, sys; from libskylark.logs import *\n"
        "if sys.argv[1:]: configure_logs('started', 'here', LogSettings())\n"
        "from libskylark.eventing.app import app\n"
        "logging.getLogger('x').error('told')"
    )
    for arguments, role in (["by the lab"], "started"), ([], "broker"):
        environment = {"PATH": os.environ["PATH"], "NODE_NAME": "here", "SKYLARK_OBJECTS": str(tmp_path)}
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert [json.loads(line)["role"] for line in done.stderr.splitlines()] == [role]
