"""What README and docs/ tell a reader to type works, page by page; what cannot be run here says why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

from libskylark.cli.main import cli
from libskylark.yamlfile import read_documents
from tests.conftest import ROOT
from tests.docs.snippets import CODE, DATA, SHELL, Session, Snippet, commands, pages, snippets

ALL = [snippet for page in pages() for snippet in snippets(page)]
TUTORIAL = "docs/tutorial.md"
#: A nine-node lab of the end-to-end tests runs README's (tests/e2e/test_readme.py).
ELSEWHERE = {"README.md"}


def to_run(page: str) -> list[Snippet]:
    return [snippet for snippet in snippets(page) if snippet.language in CODE and not snippet.reason]


def in_tutorials_project(page: str) -> bool:
    return any(snippet.marks.get("project of") == TUTORIAL for snippet in snippets(page))


ALONE = [p for p in pages() if to_run(p) and p not in ELSEWHERE | {TUTORIAL} and not in_tutorials_project(p)]
TOGETHER = [p for p in pages() if to_run(p) and in_tutorials_project(p)]


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One who has followed the tutorial, and has left its lab running."""
    session = Session(tmp_path_factory.mktemp("tutorial"))
    try:
        session.follow(TUTORIAL)
        yield session
    finally:
        session.close()


def test_the_tutorial_can_be_followed(tutorial: Session) -> None:
    assert (tutorial.directory / "functions/count/function.py").is_file()


@pytest.mark.parametrize("page", TOGETHER)
def test_a_page_can_be_followed_in_the_tutorials_project(tutorial: Session, page: str) -> None:
    assert tutorial.follow(page)


@pytest.mark.parametrize("page", ALONE)
def test_a_page_can_be_followed(tmp_path: Path, page: str) -> None:
    session = Session(tmp_path)
    try:
        assert session.follow(page)
    finally:
        session.close()


@pytest.mark.parametrize("snippet", ALL, ids=lambda snippet: snippet.place)
def test_every_snippet_has_a_language_and_is_run_or_says_why_not(snippet: Snippet) -> None:
    assert snippet.language in CODE | DATA or snippet.reason, f"{snippet.place}: give it a fence with a language"
    if "not run" in snippet.marks:
        assert len(snippet.reason.split()) >= 3, f"{snippet.place}: say why it is not run"


@pytest.mark.parametrize(
    "snippet", [s for s in ALL if s.language in {*SHELL, "indented"}], ids=lambda snippet: snippet.place
)
def test_shell_snippets_are_well_formed_and_name_commands_that_exist(snippet: Snippet) -> None:
    checked = subprocess.run(
        ["bash", "-n", "-c", snippet.text], capture_output=True, text=True, timeout=10, check=False
    )
    assert checked.returncode == 0, f"{snippet.place}: {checked.stderr}"
    for words in commands(snippet.text):
        name, command, rest = cli.resolve_command(click.Context(cli), words)
        assert command is not None
        while isinstance(command, click.Group) and rest:
            name, command, rest = command.resolve_command(click.Context(command), rest)
            assert command is not None
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]
        assert unknown == [], f"{snippet.place}: skylark {name}"


@pytest.mark.parametrize("snippet", [s for s in ALL if s.language == "yaml"], ids=lambda snippet: snippet.place)
def test_yaml_snippets_can_be_read(snippet: Snippet, tmp_path: Path) -> None:
    path = tmp_path / "snippet.yaml"
    path.write_text(snippet.text, encoding="utf-8")
    assert list(read_documents(path))


def targets(page: str) -> set[Path]:
    """The files that a page links to; tables are no part of CommonMark, so that they have to be asked for."""
    tokens = MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8"))
    links = {str(child.attrGet("href") or "").partition("#")[0] for token in tokens for child in token.children or []}
    return {(ROOT / page).parent.joinpath(link).resolve() for link in links if link and "://" not in link}


def test_links_between_pages_lead_somewhere() -> None:
    assert [f"{page}: {target}" for page in pages() for target in targets(page) if not target.exists()] == []


def test_every_page_is_found_from_the_overview() -> None:
    overview = "docs/README.md"
    assert {ROOT / page for page in pages()} - {ROOT / "README.md", ROOT / overview} <= targets(overview)
