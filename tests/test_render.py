from __future__ import annotations

from pathlib import Path

import pytest

from libskylark.constellation import Constellation, read_constellation
from libskylark.event import TICK_TYPE
from libskylark.eventing.filters import compile_filters
from libskylark.eventing.loading import load_objects
from libskylark.eventing.objects import Trigger
from libskylark.render import MARK, render_triggers, stale_files

ROOT = Path(__file__).parents[1]
DESCRIPTION = ROOT / "deployment/constellation.yaml"


@pytest.fixture(scope="module")
def constellation() -> Constellation:
    return read_constellation(DESCRIPTION)


@pytest.fixture
def triggers(constellation: Constellation, tmp_path: Path) -> dict[str, Trigger]:
    """The rendered Triggers by name, as the broker reads them."""
    for name, text in render_triggers(constellation).items():
        (tmp_path / name).write_text(text)
    return {loaded.object.name: loaded.object for loaded in load_objects([tmp_path]).triggers.values()}


def takers(triggers: dict[str, Trigger], **attributes: str) -> set[str]:
    """Names of the Triggers that an event with these attributes passes."""
    return {name for name, trigger in triggers.items() if compile_filters(trigger.spec)(attributes)}


def test_the_committed_triggers_are_what_the_constellation_gives(constellation: Constellation) -> None:
    assert stale_files(constellation, ROOT / "triggers") == []


def test_no_committed_file_claims_to_be_generated_without_being_so(constellation: Constellation) -> None:
    marked = {path.name for path in (ROOT / "triggers").glob("*.yaml") if path.read_text().startswith(MARK)}
    assert marked == set(render_triggers(constellation))


def test_the_same_constellation_gives_the_same_text() -> None:
    first, second = (list(render_triggers(read_constellation(DESCRIPTION)).items()) for _ in range(2))
    assert first == second


def test_stale_files_are_those_that_are_missing_or_differ(constellation: Constellation, tmp_path: Path) -> None:
    files = render_triggers(constellation)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert stale_files(constellation, tmp_path) == []
    (tmp_path / "alarm.yaml").unlink()
    (tmp_path / "elect.yaml").write_text(files["elect.yaml"] + "# changed by hand\n")
    assert {path.name for path in stale_files(constellation, tmp_path)} == {"alarm.yaml", "elect.yaml"}


def test_every_function_has_one_trigger_on_each_of_its_nodes(
    constellation: Constellation, triggers: dict[str, Trigger]
) -> None:
    for node in constellation.hosts("detect"):
        spec = triggers[f"{node}-detect"].spec
        assert spec.subscriber.ref is not None
        assert spec.subscriber.ref.name == f"{node}-detect"


def test_an_event_that_names_a_node_is_taken_there_and_nowhere_else(triggers: dict[str, Trigger]) -> None:
    found = takers(triggers, type="dev.skylark.frame.captured", skylarknode="pi5u3")
    assert found == {"pi5u3-preprocess"}


@pytest.mark.parametrize("address", [{}, {"skylarknode": "pi5u1"}, {"skylarknode": "mars"}])
def test_an_event_that_names_no_node_which_takes_it_goes_to_elect_for_an_address(
    triggers: dict[str, Trigger], address: dict[str, str]
) -> None:
    found = takers(triggers, type="dev.skylark.frame.captured", **address)
    assert found == {"unaddressed-frame-captured"}
    subscriber = triggers["unaddressed-frame-captured"].spec.subscriber
    assert subscriber.ref is not None
    assert (subscriber.ref.name, subscriber.uri) == ("elect", "/address")


def test_the_tick_goes_to_every_elect_and_every_camera(
    constellation: Constellation, triggers: dict[str, Trigger]
) -> None:
    elects = {f"{node}-elect" for node in constellation.nodes}
    cameras = {f"{node}-camera-ping" for node in constellation.hosts("camera")}
    assert takers(triggers, type=TICK_TYPE) == elects | cameras


def test_a_function_that_takes_no_events_gets_no_trigger(triggers: dict[str, Trigger]) -> None:
    assert not any("client" in name for name in triggers)
