"""docs/reference says what the code says: settings, attributes of events, metrics, commands; all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs.generator import PAGES, page
from docs.generator.events import attributes
from docs.generator.metrics import metrics
from docs.generator.places import REFERENCE
from docs.generator.settings import MODELS, named_settings
from libskylark import Event, Function, event
from libskylark.cli.main import COMMANDS
from libskylark.testing import invoke
from tests.conftest import ROOT

_VARIABLE = re.compile(r"\b(?:SKYLARK_[A-Z_]+[A-Z]|NODE_INFO_PORT|NODE_NAME|LOCAL_NODE_HOST|K_SINK)\b")
#: Between processes of Skylark: nobody sets them by hand.
_INTERNAL = {"SKYLARK_LINKS", "SKYLARK_DASHBOARD"}


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_gives(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == page(name), "run `make docs` (python -m docs.generator)"


def test_no_other_page_is_in_the_reference() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.__name__)
def test_every_setting_of_a_model_says_what_it_means(model: type) -> None:
    fields = model.model_fields  # type: ignore[attr-defined]
    assert [name for name, field in fields.items() if not (field.description and field.validation_alias)] == []


def test_every_field_of_the_constellation_says_what_it_means() -> None:
    lines = (REFERENCE / "constellation.md").read_text(encoding="utf-8").splitlines()
    fields = [line for line in lines if line.startswith("| `")]
    assert any("`functions.NAME.consumes`" in line for line in fields)
    assert [line for line in fields if line.endswith("|  |")] == []


def test_every_variable_that_the_code_names_is_in_the_reference() -> None:
    sources = [path for folder in ("libskylark", "functions") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in _VARIABLE.findall(path.read_text(encoding="utf-8"))}
    told = set(_VARIABLE.findall((REFERENCE / "settings.md").read_text(encoding="utf-8")))
    assert named - told - _INTERNAL == set()
    assert told <= named


def test_settings_that_pages_name_are_in_the_reference() -> None:
    told = set(_VARIABLE.findall((REFERENCE / "settings.md").read_text(encoding="utf-8")))
    pages = [path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if REFERENCE not in path.parents]
    named = {name for path in pages for name in _VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert "SKYLARK_REDIS_FSYNC" in named
    assert named - told == set()


def test_a_setting_has_one_place() -> None:
    of_models = {str(field.validation_alias) for model in MODELS.values() for field in model.model_fields.values()}
    assert of_models & set(named_settings()) == set()


def test_every_attribute_that_a_function_or_broker_writes_is_in_the_reference() -> None:
    constants = {value for name, value in vars(event).items() if name.isupper() and isinstance(value, str)}
    attributes_of_code = {value for value in constants if re.fullmatch(r"[a-z0-9]+", value)}
    assert {"skylarknode", "partitionkey", "expirytime"} <= attributes_of_code
    assert attributes_of_code <= set(attributes())


def test_metrics_that_a_function_exposes_are_in_the_reference_with_their_labels() -> None:
    app = Function("count", emits="com.example.counted")
    app.handler(lambda state: state["order"])
    assert invoke(app, Event.new("com.example.order", "/test"), state={"order": 1}).status == 200
    families = {family.name: family for family in text_string_to_metric_families(app.metrics.text().decode())}
    assert "skylark_events" in families
    known = metrics()
    own = {name: family for name, family in families.items() if not name.startswith("process_")}
    for name, family in own.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(known[name][2]), name


def test_every_command_is_in_the_reference() -> None:
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"\n## skylark {name}\n" not in text] == []


def test_the_reference_is_written_by_the_makefile() -> None:
    recipe = re.search(r"^docs: install\n\t(.*)$", Path(ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert recipe is not None
    assert recipe[1].endswith("python -m docs.generator")
