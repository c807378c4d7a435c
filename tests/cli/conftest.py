"""The command as users call it; a lab as commands see it: its record, constellation and real stores, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libskylark.cli.main import main
from libskylark.lab.plan import LabOptions, Plan
from libskylark.lab.record import LabRecord
from libskylark.lab.redis_server import find_redis_server
from libskylark.project import read_project
from tests.arrangements import function_py
from tests.conftest import RedisNode

RecordLab = Callable[..., str]
Run = Callable[..., tuple[int, str, str]]

_CONSTELLATION = """\
tick: 60s
nodes:
  - {{name: here, type: Cloud, ip: 10.0.0.1}}
  - {{name: there, type: Edge, ip: {there}}}
link_types:
  Cloud-to-Edge: {{latency_ms: 10, bandwidth_mbps: 40}}
links:
  - [here, there]
destination: here
functions:
  count: {{nodes: [here]}}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("check", "--json")`: exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["skylark", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def record_lab(
    tmp_path: Path, redis_node: RedisNode, other_node: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RecordLab]:
    """`record_lab()`: the folder of a project whose lab has the nodes `here` and `there`.

    With `there_is_gone`, nobody answers at the address of `there`.
    """
    monkeypatch.setenv("SKYLARK_REDIS_PORT", str(redis_node.port))
    with ExitStack() as stack:

        def start(there_is_gone: bool = False) -> str:
            files = {
                "functions/count/function.py": function_py(),
                "deployment/constellation.yaml": _CONSTELLATION.format(
                    there="10.0.0.3" if there_is_gone else "10.0.0.2"
                ),
            }
            for name, text in files.items():
                path = tmp_path / name
                path.parent.mkdir(parents=True)
                path.write_text(text)
            record = stack.enter_context(LabRecord(tmp_path))
            record.write(Plan(read_project(tmp_path), LabOptions(tmp_path, find_redis_server())), [])
            return str(tmp_path)

        yield start
