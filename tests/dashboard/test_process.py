"""The live page as a process of the lab: when there is one, what it is told, and what a command says of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from click.testing import CliRunner

from libskylark.cli import demo as demo_command
from libskylark.cli.main import cli
from libskylark.errors import LabError, SettingError
from libskylark.lab.checkup import settle_page
from libskylark.lab.dashboard import PORT, THREADS, VARIABLE, DashboardConfig
from libskylark.lab.plan import LabOptions, Plan
from libskylark.lab.process import ProcessSpec
from libskylark.lab.redis_server import find_redis_server
from libskylark.project import read_project
from tests.arrangements import function_py
from tests.conftest import Write
from tests.dashboard.conftest import PATIENCE_S, ROOT
from tests.e2e.harness import Command, copy_project, some_network


def plan(tmp_path: Path, **options: Any) -> Plan:
    (tmp_path / "run").mkdir()
    return Plan(
        read_project(copy_project(tmp_path / "mine")), LabOptions(tmp_path / "run", find_redis_server(), **options)
    )


def test_a_lab_has_a_page_only_when_it_is_asked_for(tmp_path: Path) -> None:
    planned = plan(tmp_path)
    assert planned.dashboard() == []
    assert not any("dashboard" in module for module in planned.preload)


def test_the_page_is_told_what_to_watch_and_listens_on_loopback(tmp_path: Path) -> None:
    planned = plan(tmp_path, dashboard=True, links=True, network="127.9", tick_s=3.0)
    (spec,) = planned.dashboard()
    assert (spec.host, spec.port, spec.node, spec.threads) == ("127.9.0.1", PORT, "", THREADS)
    assert "libskylark.dashboard.app" in planned.preload
    config = DashboardConfig.read(spec.environment)
    assert (config.project, config.tick_s, config.hosts) == ("mine", 3.0, ("127.9.0.1", "localhost"))
    assert config.constellation == planned.constellation_path
    assert config.links_url == planned.links()[0].url
    assert {process.name for process in config.processes} == {
        known.name for known in planned.all_specs() if known.role != "dashboard"
    }


def test_without_links_there_are_none_to_ask(tmp_path: Path) -> None:
    (spec,) = plan(tmp_path, dashboard=True).dashboard()
    assert spec.host == "127.0.0.1"
    assert DashboardConfig.read(spec.environment).links_url == ""


def test_a_page_that_is_told_nothing_says_what_it_lacks() -> None:
    with pytest.raises(SettingError, match=VARIABLE):
        DashboardConfig.read({})


@pytest.fixture
def network() -> Iterator[str]:
    """One in which somebody else listens where the page would."""
    network = some_network()
    with closing(socket.create_server((f"{network}.0.1", PORT))):
        yield network


def settled(network: str, taken: list[int], chosen: int | None) -> int:
    """The port of a page beside processes of its lab that have the ports `taken`."""

    def spec(name: str, port: int) -> ProcessSpec:
        return ProcessSpec(name, "", "dashboard", f"{network}.0.1", port, Path(), Path(), app="app")

    return settle_page(spec("dashboard", PORT), [spec(f"n-{port}", port) for port in taken], chosen).port


def test_a_page_takes_the_next_port_that_neither_another_program_nor_its_lab_has(network: str) -> None:
    assert settled(network, [], None) == PORT + 1
    assert settled(network, [PORT + 1, PORT + 2], None) == PORT + 3
    assert settled(some_network(), [], None) == PORT
    assert settled(some_network(), [PORT], None) == PORT + 1


def test_a_port_that_was_chosen_is_had_or_refused(network: str) -> None:
    assert settled(network, [], PORT + 5) == PORT + 5
    step = "name another --dashboard-port, or none for the next free one"
    holder = f"process {os.getpid()} ({psutil.Process().name()})"
    with pytest.raises(LabError) as refused:
        settled(network, [], PORT)
    told = f"the live page cannot have {network}.0.1:{PORT}: address already in use by {holder}"
    assert str(refused.value) == f"{told}; {step}"
    with pytest.raises(LabError, match=f"n-{PORT + 5} of this lab listens there; {step}"):
        settled(network, [PORT + 5], PORT + 5)


def test_a_page_that_had_to_go_elsewhere_is_there_and_says_why(network: str, tmp_path: Path, write: Write) -> None:
    write("functions/count/function.py", function_py())
    command = Command("up", "--dashboard", "--network", network, directory=tmp_path)
    try:
        command.wait_for(lambda line: line.startswith("watch it at"))
        url = f"http://{network}.0.1:{PORT + 1}/"
        assert f"watch it at {url} (port {PORT} is taken)" in command.lines
        assert requests.get(f"{url}api/constellation", timeout=PATIENCE_S).json()["project"] == tmp_path.name
    finally:
        code = command.end()
    assert code == 0, "\n".join(command.lines)


@pytest.mark.parametrize("arguments", [["up"], ["demo", "--json"]])
def test_a_port_that_is_taken_ends_a_command_in_one_sentence(
    network: str, tmp_path: Path, arguments: list[str]
) -> None:
    project = copy_project(tmp_path / "mine")
    command = Command(*arguments, "--network", network, "--dashboard-port", str(PORT), directory=project)
    assert command.wait(PATIENCE_S) == 1
    (line,) = command.lines
    assert line.startswith(f"skylark: the live page cannot have {network}.0.1:{PORT}: ")
    assert line.endswith("; name another --dashboard-port, or none for the next free one")


def test_a_page_that_is_not_wanted_has_no_port() -> None:
    result = CliRunner().invoke(cli, ["up", "--no-dashboard", "--dashboard-port", "9000", "--project", str(ROOT)])
    assert result.exit_code == 2
    assert "found both --no-dashboard and --dashboard-port, expected one of them" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "has_page", "port"),
    [
        ([], True, None),
        (["--json"], False, None),
        (["--json", "--dashboard"], True, None),
        (["--json", "--dashboard-port", "9000"], True, 9000),
        (["--no-dashboard"], False, None),
    ],
)
def test_the_demo_has_a_page_unless_it_writes_json(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], has_page: bool, port: int | None
) -> None:
    asked: list[tuple[bool, int | None]] = []

    def refuse(project: object, options: Any, *rest: object) -> None:
        asked.append((options.dashboard, options.dashboard_port))
        raise LabError("not now")

    monkeypatch.setattr(demo_command, "Demo", refuse)
    result = CliRunner().invoke(cli, ["demo", *arguments, "--project", str(ROOT)])
    assert isinstance(result.exception, LabError)
    assert asked == [(has_page, port)]


def test_every_file_of_the_page_is_in_the_package_and_none_comes_from_elsewhere() -> None:
    files = sorted((ROOT / "libskylark" / "dashboard" / "static").iterdir())
    assert {path.suffix for path in files} == {".html", ".css", ".js", ".svg"}
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "://" not in text, path.name
        assert "innerHTML" not in text, path.name
        used = [other.name for other in files if path.name in other.read_text(encoding="utf-8")]
        assert used or path.name == "index.html", f"nothing uses {path.name}"
