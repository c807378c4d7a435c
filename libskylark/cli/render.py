"""`skylark render`: the Triggers, Services and addresses that follow from constellation.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from libskylark.cli.options import json_option, print_json, project_option
from libskylark.constellation import Constellation, ConstellationSpec, NodeSpec, read_constellation
from libskylark.errors import ClusterError, DocumentError, Fault
from libskylark.project import CONSTELLATION
from libskylark.render import RENDERED, nodes_folder, triggers_folder, with_nodes
from libskylark.services.cluster import TYPE_LABEL, ClusterNode, ClusterNodes
from libskylark.topology import NODE_TYPES
from libskylark.yamlfile import replace_fields

_NOT_THERE: Final = (
    "is not there; call this in the project's folder, name the file with --constellation, "
    "or write one (docs/reference/constellation.md): a project on one node needs none"
)


@click.command()
@project_option
@click.option("--constellation", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Another constellation.yaml.  [default: the project's deployment/constellation.yaml]")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="One folder for all files.  [default: the project's triggers/, deployment/rendered/]")  # fmt: skip
@click.option("--from-cluster", is_flag=True,
              help="Take the nodes' names, types (label node-type) and addresses from the Kubernetes API.")  # fmt: skip
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 2 where files are stale.")
@json_option
@click.pass_context
def render(
    context: click.Context,
    project: Path,
    constellation: Path | None,
    out: Path | None,
    from_cluster: bool,
    only_check: bool,
    as_json: bool,
) -> None:
    """Generate what every function and node needs from constellation.yaml.

    One Trigger per function and node (by `type` and `skylarknode`), one per node's elect for the tick, and one
    per type of event that gives an address to events that name no node; for a cluster, the Knative Services, the
    elects' addresses and the nodes' disruption budgets, as bases for kustomize. The same input gives the same files.

    With --from-cluster the constellation's nodes become those of the cluster, and what names others is left out.
    Without --out that is written to the constellation's file as well.
    """
    path = constellation or project / CONSTELLATION
    if not path.exists():
        raise DocumentError([Fault(str(path), 0, "", _NOT_THERE)])
    described = read_constellation(path)
    if from_cluster:
        found = _nodes_of(ClusterNodes().list_nodes())
        changed = Constellation(with_nodes(described.spec, found))
        _tell_what_is_lost(described, changed)
        if not out and not only_check:
            replace_fields(path, _changed_fields(described.spec, changed.spec))
        described = changed
    triggers = triggers_folder(described, (out or project) / "triggers")
    nodes = nodes_folder(described, out or project / RENDERED, ["triggers"] if out else [])
    stale = [*triggers.stale(), *nodes.stale()] if only_check else [*triggers.write(), *nodes.write()]
    if as_json:
        print_json({"stale" if only_check else "written": [str(path) for path in stale]})
    else:
        done = "is stale" if only_check else "written"
        for path in stale:
            click.echo(f"{path}: {done}")
        if not stale:
            click.echo(f"{triggers.directory}, {nodes.directory}: up to date")
    context.exit(2 if only_check and stale else 0)


def _nodes_of(cluster: list[ClusterNode]) -> list[NodeSpec]:
    """The nodes that have a type and an address; raises ClusterError where there is none."""
    nodes = []
    for node in cluster:
        if node.node_type and node.host:
            nodes.append(NodeSpec(name=node.name, type=node.node_type, ip=node.host))
        else:
            lacking = "InternalIP" if node.node_type else f"label {TYPE_LABEL} ({', '.join(NODE_TYPES)})"
            click.echo(f"{node.name}: left out, it has no {lacking}", err=True)
    if not nodes:
        raise ClusterError(f"no node of the cluster has a type; say kubectl label node NAME {TYPE_LABEL}=Sat")
    return nodes


def _tell_what_is_lost(before: Constellation, after: Constellation) -> None:
    for name in before.functions.keys() - after.functions.keys():
        click.echo(f"function {name}: left out, none of its nodes is in the cluster", err=True)
    if before.spec.rotation and not after.spec.rotation:
        click.echo("rotation: left out, its ground node or all of its satellites are not in the cluster", err=True)
    linked = {name for link in after.spec.links for name in link}
    linked.update([*rotation.satellites, rotation.ground] if (rotation := after.spec.rotation) else [])
    for name in after.nodes.keys() - linked if len(after.nodes) > 1 else ():
        click.echo(f"{name}: has no link yet; add it to `links` in constellation.yaml", err=True)


def _changed_fields(before: ConstellationSpec, after: ConstellationSpec) -> dict[str, object]:
    """What differs, as the file writes it; None for what is no more."""
    old, new = (spec.model_dump(exclude_none=True) for spec in (before, after))
    return {name: new.get(name) for name in old | new if old.get(name) != new.get(name)}
