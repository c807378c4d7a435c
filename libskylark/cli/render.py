"""`skylark render`: the Triggers that follow from constellation.yaml."""

from __future__ import annotations

from pathlib import Path

import click

from libskylark.cli.options import json_option, print_json, project_option
from libskylark.constellation import read_constellation
from libskylark.project import CONSTELLATION
from libskylark.render import MARK, render_triggers, stale_files


@click.command()
@project_option
@click.option("--constellation", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Another constellation.yaml.  [default: the project's deployment/constellation.yaml]")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Where the files go.  [default: the project's triggers/]")  # fmt: skip
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 2 where files are stale.")
@json_option
@click.pass_context
def render(
    context: click.Context,
    project: Path,
    constellation: Path | None,
    out: Path | None,
    only_check: bool,
    as_json: bool,
) -> None:
    """Generate the Triggers of every function and node from constellation.yaml.

    One Trigger per function and node (by `type` and `skylarknode`), one per node's elect for the tick, and one
    per type of event that gives an address to events that name no node. The same input gives the same files.
    """
    described = read_constellation(constellation or project / CONSTELLATION)
    directory = out or project / "triggers"
    stale = stale_files(described, directory)
    if not only_check:
        directory.mkdir(parents=True, exist_ok=True)
        files = render_triggers(described)
        for path in directory.glob("*.yaml"):
            if path.name not in files and path.read_text(encoding="utf-8").startswith(MARK):
                path.unlink()  # a function that the constellation no longer has
        for path in stale:
            path.write_text(files[path.name], encoding="utf-8")
    if as_json:
        print_json({"directory": str(directory), "stale" if only_check else "written": [p.name for p in stale]})
    else:
        done = "is stale" if only_check else "written"
        for path in stale:
            click.echo(f"{path}: {done}")
        if not stale:
            click.echo(f"{directory}: up to date")
    context.exit(2 if only_check and stale else 0)
