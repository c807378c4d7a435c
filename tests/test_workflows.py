"""The CI definitions: valid by GitHub's schema, pinned, with few rights, and without the name of any host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT

FOLDER = ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def check(schema: str, *paths: Path) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_there_is_a_workflow_for_each_step() -> None:
    assert [path.stem for path in WORKFLOWS] == ["build", "lint", "release", "test"]


def test_definitions_keep_to_githubs_schemas() -> None:
    assert check("vendor.github-workflows", *WORKFLOWS) == "ok -- validation done\n"
    assert check("vendor.dependabot", FOLDER / "dependabot.yml") == "ok -- validation done\n"


def test_the_schema_finds_a_fault(tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.yml"
    faulty.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-at:", 1))
    assert "Schema validation errors were encountered" in check("vendor.github-workflows", faulty)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestEveryWorkflow:
    def test_it_may_read_and_no_more_unless_a_job_says_so(self, path: Path) -> None:
        workflow = read(path)
        assert workflow["permissions"] == {"contents": "read"}
        more = {name for name, job in workflow["jobs"].items() if "permissions" in job}
        assert more == ({"release"} if path.stem == "release" else set())

    def test_every_job_ends(self, path: Path) -> None:
        for name, job in read(path)["jobs"].items():
            assert "uses" in job or job["timeout-minutes"] <= 60, name

    def test_actions_are_pinned_by_commit_with_their_version_beside(self, path: Path) -> None:
        for line in path.read_text().splitlines():
            if (used := re.search(r"uses: (\S+)(.*)", line)) and not used[1].startswith("./"):
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", used[1]), line
                assert re.fullmatch(r"   # v\d+\.\d+\.\d+", used[2]), line

    def test_workflows_that_it_calls_are_there_and_can_be_called(self, path: Path) -> None:
        for job in read(path)["jobs"].values():
            if "uses" in job:
                called = read(ROOT / job["uses"])
                assert "workflow_call" in called["on"]
                inputs = (called["on"]["workflow_call"] or {}).get("inputs", {})
                assert set(job.get("with", {})) <= set(inputs)
                assert {name for name, given in inputs.items() if given.get("required")} <= set(job.get("with", {}))

    def test_jobs_wait_for_jobs_that_there_are(self, path: Path) -> None:
        jobs = read(path)["jobs"]
        for job in jobs.values():
            needs = job.get("needs", [])
            assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)

    def test_scripts_take_what_others_may_write_from_the_environment(self, path: Path) -> None:
        """An expression within a script would be run as a part of it."""
        for job in read(path)["jobs"].values():
            assert not [step for step in job.get("steps", []) if "${{" in step.get("run", "")]

    def test_no_registry_is_named(self, path: Path) -> None:
        text = path.read_text()
        assert "docker://" not in text
        assert re.findall(r"\b(?:[a-z0-9-]+\.)+(?:com|dev|io|net|org)\b", text) == []

    def test_files_that_it_names_are_there(self, path: Path) -> None:
        text = path.read_text()
        named = re.findall(r"(?<![\w./-])(?:deployment|\.ci|brokers|triggers)(?:/[\w.-]+)*", text)
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_what_is_linted_here_is_linted_in_tox() -> None:
    """One list of checks, in two places: tox is what a developer runs."""
    tox = (ROOT / "tox.ini").read_text()
    commands = [step["run"] for step in read(FOLDER / "workflows/lint.yml")["jobs"]["lint"]["steps"] if "run" in step]
    assert commands[1:]
    assert [command for command in commands[1:] if command not in tox] == []
