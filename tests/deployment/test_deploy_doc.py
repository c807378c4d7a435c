"""docs/deploy.md says what there is: its files, its settings, its overlays and its Services."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from libskylark.config import NodeSettings
from libskylark.constellation import read_constellation
from libskylark.services.cluster import ClusterSettings
from libskylark.serving import ServingSettings
from tests.conftest import ROOT

TEXT = (ROOT / "docs/deploy.md").read_text()
MODELS: list[type[BaseModel]] = [NodeSettings, ClusterSettings, ServingSettings]


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"(?<![\w./])(?:deployment|brokers|triggers|libskylark|\.github)/[\w./-]*\w", TEXT))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_settings_that_it_names_can_be_set() -> None:
    known = {field.validation_alias for model in MODELS for field in model.model_fields.values()}
    named = set(re.findall(r"`(SKYLARK_[A-Z_]+)", TEXT))
    assert named
    assert named <= known


def test_it_has_every_overlay() -> None:
    for path in (ROOT / "deployment/overlays").iterdir():
        assert f"| `{path.name}` |" in TEXT


@pytest.mark.parametrize("node_type", ["Cloud", "Edge", "Sat"])
def test_nodes_are_labelled_as_the_constellation_has_them(node_type: str) -> None:
    nodes = [
        n.name for n in read_constellation(ROOT / "deployment/constellation.yaml").nodes.values() if n.type == node_type
    ]
    assert f"kubectl label node {' '.join(nodes)} node-type={node_type}" in TEXT


def test_every_alias_of_the_old_cluster_has_a_command_of_today() -> None:
    table = TEXT.partition("## The old aliases")[2].partition("\n## ")[0]
    reading = "kgp kgn kgs kgk kl klf kd kdp kds kdd rcli1 rclip1 ssu1 ssp1"
    applying = "kare kaapi kani kacl kade kapre kaal kades kaals kapres kasis kabus kawd kawds"
    deleting = "kdwh kdre kdapi kdni kdcl kdde kdpre kdal kdalles kddes kdpres kdals kdsis kdbus kdwds kdwd"
    aliases = f"{reading} {applying} {deleting}"
    assert [alias for alias in aliases.split() if f"`{alias}`" not in table] == []
