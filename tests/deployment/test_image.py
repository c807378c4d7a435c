"""The image's recipe: read, not built, since there is no container engine where these tests run."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser
from ruamel.yaml import YAML

from libskylark.serving import ServingSettings
from tests.conftest import ROOT

RECIPE = ROOT / "deployment/Containerfile"
REQUIREMENTS = ROOT / "deployment/requirements.txt"

Step = dict[str, Any]


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    parser = DockerfileParser(fileobj=BytesIO(RECIPE.read_bytes()))
    return [step for step in parser.structure if step["instruction"] != "COMMENT"]


@pytest.fixture(scope="module")
def stages(steps: list[Step]) -> dict[str, list[Step]]:
    """The steps of each stage by its name; what stands before the first under ""."""
    found: dict[str, list[Step]] = {"": []}
    for step in steps:
        if step["instruction"] == "FROM":
            found[step["value"].split(" AS ")[1]] = []
        found[list(found)[-1]].append(step)
    return found


def values(steps: list[Step], instruction: str) -> list[str]:
    return [step["value"] for step in steps if step["instruction"] == instruction]


def test_the_linter_has_nothing_to_say() -> None:
    hadolint, config = Path(sys.executable).parent / "hadolint", ROOT / "deployment/hadolint.yaml"
    command = [str(hadolint), "--config", str(config), str(RECIPE)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (told.stdout, told.returncode) == ("", 0)


def test_the_base_image_is_an_argument_without_a_default(stages: dict[str, list[Step]]) -> None:
    assert values(stages[""], "ARG") == ["PYTHON"]
    bases = {name: values(steps, "FROM")[0].split(" AS ")[0] for name, steps in stages.items() if name}
    assert bases == {"builder": "${PYTHON}", "inventory": "builder", "bill": "scratch", "runtime": "${PYTHON}"}


def test_the_image_has_no_compiler_and_its_process_no_rights(stages: dict[str, list[Step]]) -> None:
    runtime = stages["runtime"]
    assert list(stages)[-1] == "runtime", "the last stage is what is built where none is named"
    assert not any("gcc" in command or "pip" in command for command in values(runtime, "RUN"))
    assert values(runtime, "USER") == ["65532:65532"]
    order = [step["instruction"] for step in runtime]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name in ("RUN", "COPY"))
    assert json.loads(values(runtime, "ENTRYPOINT")[0]) == ["python", "-m", "libskylark.serving"]
    assert values(runtime, "CMD") == []


def test_the_image_says_where_its_functions_are(stages: dict[str, list[Step]]) -> None:
    settings = {field.validation_alias for field in ServingSettings.model_fields.values()}
    environment = " ".join(values(stages["runtime"], "ENV"))
    named = set(re.findall(r"SKYLARK_\w+(?==)", environment))
    assert named == {"SKYLARK_FUNCTIONS"} <= settings
    target = re.search(r"SKYLARK_FUNCTIONS=(\S+)", environment)
    assert target is not None
    assert f"--from=builder /build/functions {target[1]}" in values(stages["runtime"], "COPY")


def test_there_is_no_secret_and_nothing_unpinned(steps: list[Step]) -> None:
    arguments = [value.split("=")[0] for value in values(steps, "ARG") + values(steps, "ENV")]
    assert not [name for name in arguments if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]
    assert ":latest" not in RECIPE.read_text()
    assert not any(re.search(r"curl|wget|git clone", command) for command in values(steps, "RUN"))
    assert values(steps, "ADD") == []


def test_labels_are_those_of_oci(stages: dict[str, list[Step]]) -> None:
    labels = " ".join(values(stages["runtime"], "LABEL"))
    for name in ("title", "description", "licenses", "version", "revision", "source"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_what_the_recipe_copies_reaches_the_builder_and_nothing_else(steps: list[Step]) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source for value in values(steps, "COPY") if not value.startswith("--from") for source in value.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / path).exists() for path in copied)
    left_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for name in (".env", ".git", "__pycache__", "function.pyc"):
        assert any(fnmatch.fnmatch(name, rule) for rule in left_out), name


def test_every_package_of_the_image_is_pinned() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][^\s=]*", line) for line in lines)
    assert lines == sorted(lines)


def test_what_skylark_needs_is_among_the_pinned_packages_in_a_version_that_it_takes() -> None:
    """The file is a whole environment: pip has to find each of Skylark's own requirements in it."""
    from configparser import ConfigParser

    from packaging.requirements import Requirement

    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    pinned = dict(line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    extras = config["options.extras_require"]
    wanted = [config["options"]["install_requires"], extras["firewatch"], extras["kubernetes"]]
    for text in "\n".join(wanted).split("\n"):
        if text.strip():
            requirement = Requirement(text)
            name = requirement.name.lower().replace("_", "-")
            assert name in pinned, f"deployment/requirements.txt lacks {name}"
            assert requirement.specifier.contains(pinned[name]), f"{text}: found {pinned[name]}"


# skaffold.yaml


@pytest.fixture(scope="module")
def skaffold() -> Any:
    return YAML(typ="safe").load(ROOT / "deployment/skaffold.yaml")


def test_skaffold_builds_the_image_that_the_manifests_name(skaffold: Any) -> None:
    common = YAML(typ="safe").load(ROOT / "deployment/common/kustomization.yaml")
    names = {image["name"]: image["newName"] for image in common["images"]}
    (artifact,) = skaffold["build"]["artifacts"]
    assert artifact["image"] == names["skylark"]
    assert ROOT / artifact["context"] / artifact["docker"]["dockerfile"] == RECIPE
    assert artifact["docker"]["target"] == "runtime"
    assert set(artifact["docker"]["buildArgs"]) == {"PYTHON"}


def test_skaffold_knows_every_overlay(skaffold: Any) -> None:
    parts = [skaffold, *skaffold["profiles"]]
    paths = {path for part in parts for path in part["manifests"]["kustomize"]["paths"]}
    assert paths == {f"deployment/overlays/{path.name}" for path in (ROOT / "deployment/overlays").iterdir()}
