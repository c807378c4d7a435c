from __future__ import annotations

import json
from pathlib import Path

import pytest

from libskylark.errors import LabError
from libskylark.lab.process import ProcessEvent, ProcessSpec, log_tail

SPEC = ProcessSpec(
    "n1-f", "n1", "function", "127.64.0.1", 9000, Path("/f"), Path("/l"), {"A": "b"}, app="function:app", threads=2
)


def test_a_spec_survives_json() -> None:
    assert ProcessSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_an_event_survives_its_line() -> None:
    event = ProcessEvent("exited", "n1-f", 7, -9, "why\nso", 1.5)
    line = event.to_line()
    assert line.count(b"\n") == 1
    assert ProcessEvent.from_line(line) == event


def test_the_url_follows_role_and_address() -> None:
    assert SPEC.url == "http://127.64.0.1:9000"
    redis = ProcessSpec("n1-redis", "n1", "redis", "::1", 36379, Path("/"), Path("/l"), argv=("server",))
    assert redis.url == "redis://[::1]:36379"


@pytest.mark.parametrize("fields", [{}, {"argv": ("a",), "app": "b:c"}])
def test_a_spec_is_either_a_program_or_an_application(fields: dict[str, object]) -> None:
    with pytest.raises(LabError, match="n1-x: expected either argv or app"):
        ProcessSpec("n1-x", "n1", "redis", "127.64.0.1", 1, Path("/"), Path("/l"), **fields)  # type: ignore[arg-type]


def test_the_tail_is_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {n}\n" for n in range(5000)))
    assert log_tail(log, lines=2) == "    | line 4998\n    | line 4999"
    assert log_tail(tmp_path / "missing.log") == ""
