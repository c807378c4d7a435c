"""A real lab that the end-to-end tests share: a copy of this project, on loopback addresses of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.harness import TOKEN, Command, RunningProject, copy_project, some_network


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test runs knows the brokers' token, as a user's shell would."""
    monkeypatch.setenv("SKYLARK_BROKER_TOKEN", TOKEN)


@pytest.fixture(scope="package")
def fire_watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProject]:
    """This repository's project, up, with a tick of one second."""
    project = copy_project(tmp_path_factory.mktemp("fire-watch"))
    command = Command("up", "--tick", "1s", "--network", some_network(), directory=project)
    try:
        command.wait_for(lambda line: line.startswith("ready after"))
        yield RunningProject(project, command)
    finally:
        command.end()
