"""A real lab with the live page, which the page's tests share; and a browser to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.dashboard.browsing import Open, answering
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("the browser tests need Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # The sandbox needs a user of its own, which a container's root is not; the page is ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, page: Page) -> Iterator[Open]:
    """`open_page(width=390, dark=True, still=False)`: the page once it shows nodes; its console must stay silent.

    `answers` are given in place of the server's, by path below /api/.
    """
    contexts, said = [], []

    def show(
        width: int = 1280,
        height: int = 860,
        dark: bool = False,
        still: bool = True,
        answers: Mapping[str, str] | None = None,
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_S * 1000)
        shown = context.new_page()
        shown.on("console", lambda message: said.append(f"{message.type}: {message.text} {message.location}"))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        for path, body in (answers or {}).items():
            kind = "text/event-stream" if path.startswith("events") else "application/json"
            shown.route(f"**/api/{path}", answering(body, kind))
        shown.goto(page.url)
        shown.wait_for_selector("#live.on" if not answers else "#live")
        shown.wait_for_selector("[data-node]")
        return shown

    yield show
    for context in contexts:
        context.close()
    assert said == []
