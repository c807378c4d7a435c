"""README can be followed from top to bottom: its snippets run against a real lab of this project, and of their own."""

from __future__ import annotations

from tests.docs.snippets import Session
from tests.e2e.harness import RunningProject


def test_the_readme_can_be_followed(fire_watch: RunningProject) -> None:
    network = fire_watch.lab.host(None).rpartition(".0.")[0]
    session = Session(fire_watch.project, network, fire_watch.command)
    try:
        assert session.follow("README.md") >= 7
    finally:
        session.close()
