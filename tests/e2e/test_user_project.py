"""The README's ten-line function in a folder of its own, run by `skylark up`, and stopped without a trace."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from libskylark.event import Event
from tests.e2e.harness import REPOSITORY, Command, RunningProject, descendants, some_network


@pytest.fixture
def count_project(tmp_path: Path) -> Path:
    """What the README tells a newcomer to write."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    function = re.search(r"```python\n(from libskylark import Function.*?)```", text, re.S)
    trigger = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert function is not None
    assert trigger is not None
    for name, content in {"functions/count/function.py": function[1], "triggers/count.yaml": trigger[1]}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def skylark(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "libskylark.cli", *arguments]
    return subprocess.run(command, check=False, cwd=project, capture_output=True, text=True, timeout=60)


def run_directory(running: RunningProject) -> Path:
    return Path(running.lab.record["constellation"]).parent


def assert_no_trace(project: Path, processes: list[psutil.Process], directory: Path) -> None:
    """Of a lab that has ended: neither these processes nor its folder, nor that it runs."""
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert not directory.exists()
    assert skylark(project, "status").returncode == 1


def test_a_function_from_the_readme_counts_and_leaves_no_trace(count_project: Path) -> None:
    command = Command("up", "--network", some_network(), directory=count_project)
    try:
        command.wait_for(lambda line: line.startswith("ready after"))
        running = RunningProject(count_project, command)
        directory = run_directory(running)
        (count_project / "order.json").write_text('{"book": 1}', encoding="utf-8")
        for seen in (1, 2):
            sent = skylark(
                count_project, "send", "order.json", "--type", "com.example.order", "--wait", "20s", "--json"
            )
            assert sent.returncode == 0, sent.stderr
            steps = json.loads(sent.stdout)["steps"]
            assert [s["outcome"] for s in steps if s["kind"] == "outcome"] == ["replied"], seen
        journey = running.client().send_and_wait(Event.new("com.example.order", "/me", {"book": 2}), 20)
        assert journey.dead_lettered == []
        told = skylark(count_project, "status", "--json")
        assert all(process["alive"] for process in json.loads(told.stdout)["nodes"][0]["processes"])
        processes = descendants(command.process.pid)
        assert len(processes) >= 6  # the fork server, Redis, and four services
        assert directory.is_dir()
    finally:
        code = command.end()
    assert code == 0, "\n".join(command.lines)
    assert_no_trace(count_project, processes, directory)


def test_a_second_lab_of_one_project_is_refused_and_sigterm_ends_the_first_without_a_trace(count_project: Path) -> None:
    command = Command("up", "--network", some_network(), directory=count_project)
    try:
        command.wait_for(lambda line: line.startswith("ready after"))
        second = skylark(count_project, "up")
        assert second.returncode == 1
        assert "runs already" in second.stderr
        directory = run_directory(RunningProject(count_project, command))
        processes = descendants(command.process.pid)
        assert len(processes) >= 6
        assert directory.is_dir()
    finally:
        code = command.end(signal.SIGTERM)
    assert code == 0, "\n".join(command.lines)
    assert_no_trace(count_project, processes, directory)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("triggers/count.yaml", "a: [", "triggers/count.yaml:1: not YAML"),
        ("functions/count/function.py", "app = (", "functions/count/function.py:1: not Python"),
        ("deployment/constellation.yaml", "nodes: [{name: a, type: Sat, ip: x}]", "constellation.yaml:1: nodes[0].ip"),
    ],
)
def test_a_faulty_project_is_not_started(count_project: Path, file: str, content: str, said: str) -> None:
    (count_project / file).parent.mkdir(exist_ok=True)
    (count_project / file).write_text(content, encoding="utf-8")
    for command in ("check", "up"):
        ended = skylark(count_project, command)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
