"""`skylark doctor`: what it finds, what it makes of it, and what it says to do."""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from libskylark.cli.main import cli
from libskylark.lab.checkup import Verdict
from libskylark.lab.dashboard import PORT
from libskylark.lab.record import LabRecord
from libskylark.lab.redis_server import SERVER_VARIABLE
from tests.arrangements import function_py
from tests.conftest import Write, free_port
from tests.e2e.harness import some_network

SETTINGS = ("SKYLARK_ELECT_PORT", "NODE_INFO_PORT", "SKYLARK_BROKER_PORT", "SKYLARK_REDIS_PORT")


@pytest.fixture(autouse=True)
def free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab that may run on this machine holds none of what is looked at here."""
    for name in SETTINGS:
        monkeypatch.setenv(name, str(free_port("127.0.0.1")))


def examine(project: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """(exit code, findings by name)."""
    result = CliRunner().invoke(cli, ["doctor", "--project", str(project), "--json", *arguments])
    report = json.loads(result.stdout)
    assert report["ok"] == (result.exit_code == 0)
    return result.exit_code, {finding["name"]: finding for finding in report["findings"]}


def test_a_machine_that_runs_these_tests_is_well(tmp_path: Path) -> None:
    code, findings = examine(tmp_path)
    assert {name for name, finding in findings.items() if finding["verdict"] == "bad"} == set()
    assert code == 0
    assert re.match(r"\d+\.\d+\.\d+ at /", findings["Redis server"]["found"])
    assert findings["project"]["verdict"] == "notice"
    assert findings["ports"]["expected"] == "4 free ports"


def test_each_line_says_what_was_found_and_what_is_not_right_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER_VARIABLE, "/nowhere/redis-server")
    result = CliRunner().invoke(cli, ["doctor", "--project", str(tmp_path)])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("bad    Redis server"))
    assert lines[row + 1].strip() == "expected Valkey or Redis 7.0 or newer"
    assert f"next: setting {SERVER_VARIABLE}: found '/nowhere/redis-server'" in lines[row + 2]
    assert any(line.startswith("good   Python") for line in lines)


def test_a_port_that_is_taken_is_named_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("SKYLARK_BROKER_PORT", str(port))
        code, findings = examine(tmp_path)
        assert code == 1
        assert findings["ports"]["verdict"] == "bad"
        assert f"127.0.0.1:{port} (broker) by process {psutil.Process().pid}" in findings["ports"]["found"]
        assert "--network" in findings["ports"]["next_step"]
        # The same ports at other addresses are free.
        assert examine(tmp_path, "--network", some_network())[0] == 0


def test_a_page_whose_port_is_taken_goes_elsewhere(tmp_path: Path) -> None:
    network = some_network()
    assert examine(tmp_path, "--network", network)[1]["live page"]["verdict"] == "good"
    with closing(socket.create_server((f"{network}.0.1", PORT))):
        code, findings = examine(tmp_path, "--network", network)
    page = findings["live page"]
    assert (code, page["verdict"], page["expected"]) == (0, "notice", f"port {PORT} of {network}.0.1 is free")
    assert page["found"] == f"{network}.0.1:{PORT} is taken by process {os.getpid()} ({psutil.Process().name()})"
    assert page["next_step"] == f"nothing: it will be at port {PORT + 1}, or where --dashboard-port says"
    assert findings["ports"]["verdict"] == "good"


def test_the_ports_are_those_of_the_project(write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", function_py())
    nodes = ", ".join(f"{{name: sat{number}, type: Sat, ip: 10.0.3.{number}}}" for number in (1, 2))
    write(
        "deployment/constellation.yaml",
        f"nodes: [{nodes}]\ndestination: sat1\nfunctions: {{count: {{nodes: [sat1]}}}}\n",
    )
    _, findings = examine(tmp_path, "--network", some_network())
    assert findings["project"]["found"] == "1 function on 2 nodes"
    assert findings["ports"]["expected"] == "9 free ports"
    assert findings["loopback"]["found"].startswith("2 addresses")


def test_a_faulty_project_is_a_notice_that_leads_to_check(write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", "app = (")
    code, findings = examine(tmp_path)
    assert (code, findings["project"]["verdict"]) == (0, "notice")
    assert findings["project"]["next_step"] == "run `skylark check`"


def test_ports_of_the_lab_that_runs_here_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server, LabRecord(tmp_path):
        monkeypatch.setenv("SKYLARK_BROKER_PORT", str(server.getsockname()[1]))
        code, findings = examine(tmp_path)
    assert code == 0
    assert f"process {psutil.Process().pid}" in findings["ports"]["found"]


def test_a_lab_at_other_addresses_holds_none_of_the_ports_that_are_asked_about(tmp_path: Path) -> None:
    network = some_network()
    with closing(socket.create_server((f"{network}.0.1", 0))) as server, LabRecord(tmp_path) as record:
        port = server.getsockname()[1]
        content = json.loads(record.path.read_text())
        content["processes"] = [{"url": f"http://{network}.0.1:{port}"}]
        record.path.write_text(json.dumps(content))
        code, findings = examine(tmp_path)
        at_its_own = examine(tmp_path, "--network", network)[1]
    assert (code, findings["ports"]["found"], findings["lab"]["verdict"]) == (0, "all free", "notice")
    assert f"process {os.getpid()}" in findings["lab"]["found"]
    assert at_its_own["ports"]["found"].startswith("held by the lab")
    assert "lab" not in at_its_own


def test_a_node_that_has_no_loopback_address_is_told(write: Write, tmp_path: Path) -> None:
    write("functions/count/function.py", function_py())
    write("deployment/constellation.yaml", "nodes: [{name: sat1, type: Sat, ip: 'fd00::1'}]\n")
    code, findings = examine(tmp_path)
    assert code == 1
    assert "found no loopback address" in findings["loopback"]["found"]


@pytest.mark.parametrize(
    ("limits", "verdict", "step"),
    [
        ((1024, 1024), "good", ""),
        ((256, 65536), "bad", "run `ulimit -n 4096` in this shell"),
        ((256, 256), "bad", "raise the hard limit (limits.conf)"),
    ],
)
def test_the_limit_of_open_files_has_to_do_for_a_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: tuple[int, int], verdict: Verdict, step: str
) -> None:
    monkeypatch.setattr("libskylark.lab.checkup.resource.getrlimit", lambda _: limits)
    _, findings = examine(tmp_path)
    assert (findings["open files"]["verdict"], findings["open files"]["next_step"]) == (verdict, step)


@pytest.mark.parametrize(("version", "verdict"), [("v=6.2.14", "bad"), ("v=7.0.0", "good"), ("v=10.0.0", "good")])
def test_an_old_redis_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, verdict: Verdict
) -> None:
    server = tmp_path / "redis-server"
    server.write_text(f"#!/bin/sh\necho 'Redis server {version} sha=0'\n")
    server.chmod(0o755)
    monkeypatch.setenv(SERVER_VARIABLE, str(server))
    assert examine(tmp_path)[1]["Redis server"]["verdict"] == verdict


def test_a_clock_before_the_installation_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("libskylark.lab.checkup.time.time", lambda: 0.0)
    code, findings = examine(tmp_path)
    assert (code, findings["clock"]["verdict"]) == (1, "bad")
    assert findings["clock"]["found"] == "1970-01-01 00:00:00 UTC"
