from __future__ import annotations

from pathlib import Path

import pytest

from libskylark.constellation import Constellation, ConstellationSpec, NodeSpec, read_constellation
from libskylark.errors import ConfigError
from libskylark.event import TICK_TYPE
from libskylark.eventing.filters import compile_filters
from libskylark.eventing.loading import load_objects
from libskylark.eventing.objects import Trigger
from libskylark.render import (
    MARK,
    RENDERED,
    Folder,
    nodes_folder,
    render_nodes,
    render_triggers,
    triggers_folder,
    with_nodes,
)
from libskylark.yamlfile import read_documents

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


def folders(constellation: Constellation, root: Path) -> list[Folder]:
    return [triggers_folder(constellation, root / "triggers"), nodes_folder(constellation, root / RENDERED)]


def test_the_committed_files_are_what_the_constellation_gives(constellation: Constellation) -> None:
    assert [path for folder in folders(constellation, ROOT) for path in folder.stale()] == []


def test_no_committed_file_claims_to_be_generated_without_being_so(constellation: Constellation) -> None:
    for folder in folders(constellation, ROOT):
        marked = {path.name for path in folder.directory.glob("*.yaml") if path.read_text().startswith(MARK)}
        assert marked == set(folder.files)


def test_the_same_constellation_gives_the_same_text(tmp_path: Path) -> None:
    first, second = ([f.files for f in folders(read_constellation(DESCRIPTION), tmp_path)] for _ in range(2))
    assert [list(files.items()) for files in first] == [list(files.items()) for files in second]


def test_stale_files_are_those_that_are_missing_or_differ(constellation: Constellation, tmp_path: Path) -> None:
    folder = triggers_folder(constellation, tmp_path)
    folder.write()
    assert folder.stale() == []
    (tmp_path / "alarm.yaml").unlink()
    (tmp_path / "elect.yaml").write_text(folder.files["elect.yaml"] + "# changed by hand\n")
    assert {path.name for path in folder.stale()} == {"alarm.yaml", "elect.yaml"}


def test_kustomize_gets_what_was_written_by_hand_too(constellation: Constellation, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("kind: Trigger\n")
    (tmp_path / "old.yaml").write_text(f"{MARK}kind: Trigger\n")
    (tmp_path / "tick").mkdir()
    (tmp_path / "tick/kustomization.yaml").write_text("resources: []\n")
    folder = triggers_folder(constellation, tmp_path)
    folder.write()
    (document,) = read_documents(tmp_path / "kustomization.yaml")
    expected = sorted([*render_triggers(constellation), "mine.yaml", "tick"])
    assert document.content["resources"] == expected
    assert not (tmp_path / "old.yaml").exists()


def test_a_node_that_is_alone_needs_no_name_no_address_and_no_budget(tmp_path: Path) -> None:
    spec = {"nodes": [{"name": "a", "type": "Cloud", "ip": "10.0.0.1"}], "functions": {"f": {"nodes": ["a"]}}}
    files = render_nodes(Constellation(ConstellationSpec.model_validate(spec)))
    assert set(files) == {"f.yaml", "elect.yaml", "constellation.yaml"}
    assert "nodeSelector" not in files["f.yaml"]
    assert "EndpointSlice" not in files["elect.yaml"]
    assert "selector:" in files["elect.yaml"]


@pytest.mark.parametrize("node", ["1a", "a" * 60])
def test_a_name_that_kubernetes_refuses_is_told(node: str) -> None:
    spec = {"nodes": [{"name": node, "type": "Cloud", "ip": "10.0.0.1"}], "functions": {"f": {"nodes": [node]}}}
    with pytest.raises(ConfigError, match="at most 63 lower-case letters"):
        render_nodes(Constellation(ConstellationSpec.model_validate(spec)))


def test_other_nodes_take_what_names_absent_ones_along(constellation: Constellation) -> None:
    kept = [node for node in constellation.spec.nodes if node.name in ("pi5u1", "pi5u2", "pi5u3")]
    moved = kept[1].model_copy(update={"ip": "10.9.9.9"})
    spec = with_nodes(constellation.spec, [kept[0], moved, kept[2]])
    changed = Constellation(spec)
    assert changed.nodes["pi5u2"].ip == "10.9.9.9"
    assert changed.spec.links == [["pi5u2", "pi5u3"]]
    assert changed.spec.rotation is not None
    assert changed.spec.rotation.satellites == ["pi5u2", "pi5u3"]
    assert changed.hosts("detect") == ["pi5u2", "pi5u3"]
    assert "client" not in changed.functions  # it ran on Edge nodes, and there is none


def test_without_the_ground_node_nothing_rotates(constellation: Constellation) -> None:
    spec = with_nodes(constellation.spec, [NodeSpec(name="other", type="Cloud", ip="10.0.0.1")])
    assert (spec.rotation, spec.destination, spec.links) == (None, None, [])
    assert Constellation(spec).hosts("alarm") == ["other"]


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
