"""Snippets of Markdown pages: how they are found, what the comments before them say, and how they are run.

A fenced block of shell or Python is run, page by page and from top to bottom. Comments before it may say otherwise:

    <!-- file: PATH -->               it is a file: written, not run
    <!-- background until: TEXT -->   a `skylark` command that stays, once it has printed TEXT, until the page ends
    <!-- again until: TEXT -->        run again until it prints TEXT
    <!-- exits with: CODE -->         that is how it ends
    <!-- prints: TEXT -->             it prints that, among others
    <!-- not run: REASON -->          only its syntax is looked at, and that commands and options of `skylark` exist
    <!-- not run below: REASON -->    so are all that follow, until <!-- run below -->
    <!-- new folder -->               what follows runs in an empty folder
    <!-- project of: PAGE -->         what follows runs in the project that PAGE has made, while its lab runs
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.conftest import ROOT
from tests.e2e.harness import TOKEN, Command, some_network

SHELL = {"sh", "bash"}
CODE = {*SHELL, "python"}
#: What a reader looks at, or what belongs into a file.
DATA = {"text", "json", "yaml", "toml", "mermaid", "dockerfile", ""}
TIMEOUT_S = 60.0
_PACE_S = 0.3
_COMMENT = re.compile(r"<!-- (?P<mark>[a-z ]+?)(?:: (?P<value>.*?))? -->", re.S)
_MARKS = {
    "file", "background until", "again until", "exits with", "prints", "not run", "not run below", "run below",
    "new folder", "project of",
}  # fmt: skip


@dataclass(frozen=True)
class Snippet:
    """A block of code at its place; `marks` are the comments before it."""

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is."""
        return self.marks.get("not run", "")


def pages() -> list[str]:
    """Every page that has snippets, by its path in the repository."""
    return sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def snippets(page: str) -> list[Snippet]:
    """The blocks of code of a page; one without a fence has the language `indented`."""
    found: list[Snippet] = []
    marks: dict[str, str] = {}
    lasting = ""
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            for match in _COMMENT.finditer(token.content):
                name, value = match["mark"], (match["value"] or "").strip()
                if name in ("not run below", "run below"):
                    lasting = value
                elif name in _MARKS:
                    marks[name] = value
        elif token.type in ("fence", "code_block"):
            language = token.info.split()[0] if token.info.strip() else ""
            language = language if token.type == "fence" else "indented"
            given = {"not run": lasting, **marks} if lasting else marks
            found.append(Snippet(page, line, language, token.content, given))
            marks = {}
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `skylark ...` in a shell snippet."""
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quotation over several lines
            continue
        if words and words[0].rpartition("/")[2] == "skylark":
            stop = next((number for number, word in enumerate(words) if word in ("|", "&&", ";", ">", "&")), len(words))
            yield words[1:stop]


class Session:
    """A reader who follows a page: a folder, a shell, and a lab in another terminal.

    Labs have loopback addresses of their own: what a snippet says of 127.0 is said of them. `lab` is one that runs.
    """

    def __init__(self, directory: Path, network: str | None = None, lab: Command | None = None) -> None:
        self.directory = directory
        self.network = network or some_network()
        self._first = directory
        self._given = lab
        self._commands: list[Command] = []
        self._folders = 0

    def follow(self, page: str) -> int:
        """Runs what is to be run of a page; how many snippets that were. Raises AssertionError with their place.

        Skips the test where a page wants curl and this machine has none, but for CI, which installs it.
        """
        if "CI" not in os.environ and shutil.which("curl") is None and any("curl" in s.text for s in snippets(page)):
            pytest.skip(f"{page} wants curl; on Debian: apt-get install curl")
        count = 0
        for snippet in snippets(page):
            if "new folder" in snippet.marks:
                self._enter_new_folder()
            if snippet.reason or snippet.language not in CODE | DATA:
                continue
            if "file" in snippet.marks:
                path = self.directory / snippet.marks["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(snippet.text, encoding="utf-8")
            elif "background until" in snippet.marks:
                self._start(snippet)
            elif snippet.language in CODE:
                self._run_until_right(snippet)
            else:
                continue
            count += 1
        return count

    def close(self) -> None:
        """Ends what runs in the background as Ctrl-C does."""
        codes = [command.end() for command in self._commands]
        assert codes == [0] * len(codes), [command.lines[-20:] for command in self._commands]

    def _enter_new_folder(self) -> None:
        self._folders += 1
        self._given = None
        self.directory = self._first / f"folder-{self._folders}"
        self.directory.mkdir()

    def _start(self, snippet: Snippet) -> None:
        if self._given is not None:
            return
        (words,) = commands(snippet.text)
        command = Command(*words, "--network", self.network, directory=self.directory)
        self._commands.append(command)
        command.wait_for(lambda line: snippet.marks["background until"] in line)

    def _run_until_right(self, snippet: Snippet) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        code, output = self._run(snippet)
        awaited = snippet.marks.get("again until", "")
        while awaited not in output and time.monotonic() < deadline_s:
            time.sleep(_PACE_S)  # what a reader waits for is told by nobody
            code, output = self._run(snippet)
        told = f"{snippet.place}: {snippet.text}\n-> {code}\n{output}"
        assert code == int(snippet.marks.get("exits with", "0")), told
        assert awaited in output, told
        assert snippet.marks.get("prints", "") in output, told

    def _run(self, snippet: Snippet) -> tuple[int, str]:
        text = snippet.text.replace("127.0.", f"{self.network}.")
        where = self._first / "where"
        command = [sys.executable, "-c", text]
        if snippet.language in SHELL:
            command = ["bash", "-euo", "pipefail", "-c", f"{text}\npwd > {shlex.quote(str(where))}"]
        ended = subprocess.run(
            command, cwd=self.directory, env=self._environment(), capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
        if snippet.language in SHELL and ended.returncode == 0:
            self.directory = Path(where.read_text(encoding="utf-8").strip())
        return ended.returncode, ended.stdout + ended.stderr

    def _environment(self) -> dict[str, str]:
        home = self._first / "home"
        home.mkdir(exist_ok=True)
        (home / ".curlrc").write_text(f'header = "Authorization: Bearer {TOKEN}"\n', encoding="utf-8")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "HOME": str(home), "COLUMNS": "200", "SKYLARK_BROKER_TOKEN": TOKEN}
        return {**os.environ, **own, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
