"""A real lab with the live page, which the page's tests share; and a browser to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.harness import TOKEN, Command, RunningProject, copy_project, some_network

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Page:
    """The live page of a running lab."""

    url: str
    running: RunningProject

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE_S, **options)

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test runs knows the brokers' token, as a user's shell would."""
    monkeypatch.setenv("SKYLARK_BROKER_TOKEN", TOKEN)


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """This repository's project, up with the live page, with a tick of two seconds."""
    project = copy_project(tmp_path_factory.mktemp("watched"))
    network = some_network()
    command = Command("up", "--dashboard", "--tick", "2s", "--network", network, directory=project)
    try:
        command.wait_for(lambda line: line.startswith("send events to"))
        assert f"watch it at http://{network}.0.1:8060/" in command.lines
        yield Page(f"http://{network}.0.1:8060", RunningProject(project, command))
    finally:
        code = command.end()
    assert code == 0, "\n".join(command.lines)
    assert "restarted dashboard" not in command.lines
