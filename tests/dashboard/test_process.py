"""The live page as a process of the lab: when there is one, what it is told, and what a command says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.cli import demo as demo_command
from libskylark.cli.main import cli
from libskylark.errors import LabError, SettingError
from libskylark.lab.dashboard import PORT, THREADS, VARIABLE, DashboardConfig
from libskylark.lab.plan import LabOptions, Plan
from libskylark.lab.redis_server import find_redis_server
from libskylark.project import read_project
from tests.dashboard.conftest import ROOT
from tests.e2e.harness import copy_project


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


@pytest.mark.parametrize(
    ("arguments", "has_page"),
    [([], True), (["--json"], False), (["--json", "--dashboard"], True), (["--no-dashboard"], False)],
)
def test_the_demo_has_a_page_unless_it_writes_json(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], has_page: bool
) -> None:
    asked: list[bool] = []

    def refuse(project: object, options: Any, *rest: object) -> None:
        asked.append(options.dashboard)
        raise LabError("not now")

    monkeypatch.setattr(demo_command, "Demo", refuse)
    result = CliRunner().invoke(cli, ["demo", *arguments, "--project", str(ROOT)])
    assert isinstance(result.exception, LabError)
    assert asked == [has_page]


def test_every_file_of_the_page_is_in_the_package_and_none_comes_from_elsewhere() -> None:
    files = sorted((ROOT / "libskylark" / "dashboard" / "static").iterdir())
    assert {path.suffix for path in files} == {".html", ".css", ".js", ".svg"}
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "://" not in text, path.name
        assert "innerHTML" not in text, path.name
        used = [other.name for other in files if path.name in other.read_text(encoding="utf-8")]
        assert used or path.name == "index.html", f"nothing uses {path.name}"
