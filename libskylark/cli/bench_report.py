"""`skylark bench report` and `skylark bench all`: the results of all experiments, kept and shown together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from libskylark.bench.results import RESULTS, Results
from libskylark.cli.options import console
from libskylark.errors import LabError, SkylarkError

#: Options of a quick run, of those experiments that have no --quick of their own.
QUICK: Final[dict[str, dict[str, Any]]] = {
    "handover": {"runs": 1},
    "faults": {"faults": 12},
    "broker": {"seconds": 1.0},
    "links": {"runs": 1},
    "start": {"runs": 1},
}


def _results_option(command: Any) -> Any:
    return click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        default=RESULTS,
        show_default=True,
        metavar="DIR",
        help="The folder of the results.",
    )(command)


def _out_option(command: Any) -> Any:
    return click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        metavar="FILE",
        help="The page.  [default: report.html beside the results]",
    )(command)


@click.command()
@_results_option
@_out_option
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE",
              help="Write goals and tables into this document too, between its marks.")  # fmt: skip
def report(results: Path, out: Path | None, markdown: Path | None) -> None:
    """One page of all experiments that have results, which needs no network; and their charts as SVG.

    Needs the extra `bench`: pip install 'skylark-functions[bench]'.
    """
    from libskylark.bench.report import markdown as documents
    from libskylark.bench.report import page
    from libskylark.bench.report.experiments import sections

    screen, kept = console(), Results(results)
    shown = sections(kept)
    if not any(section.tables for section in shown):
        raise LabError(f"found no results in {results}; `skylark bench all --results {results}` makes them")
    out = out or results / "report.html"
    charts = page.write(shown, kept, out)
    if markdown is not None:
        documents.update(markdown, shown)
    for section in shown:
        screen.print(f"{section.name:15}{_verdicts(section.goals) if section.tables else 'no results yet'}")
    screen.print(f"{out} and {charts} charts are written.")


def _verdicts(goals: Any) -> str:
    verdicts = [goal.verdict for goal in goals]
    told = [f"{verdicts.count(verdict)} {verdict}" for verdict in ("met", "not met", "not measured")]
    return "goals: " + ", ".join(words for words in told if not words.startswith("0 ")) if verdicts else "no goals"


@click.command("all")
@_results_option
@_out_option
@click.option("--quick", is_flag=True, help="Smaller and fewer runs: to see that everything works.")
@click.pass_context
def run_all(context: click.Context, results: Path, out: Path | None, quick: bool) -> None:
    """All experiments one after the other, and the report.

    An experiment that fails does not keep the others from running. Exits with 1 where one did.
    """
    from libskylark.bench.report.experiments import EXPERIMENTS

    screen, parent, failed = console(), context.parent, list[str]()
    assert parent is not None
    assert isinstance(parent.command, click.Group)
    for experiment in EXPERIMENTS:
        command = parent.command.get_command(parent, experiment.subcommand)
        assert command is not None
        screen.print(f"[bold]{experiment.name}[/bold]: {experiment.question}")
        options: dict[str, Any] = {**experiment.options, "results": results}
        if quick:
            has_quick = any(option.name == "quick" for option in command.params)
            options |= {"quick": True} if has_quick else QUICK.get(experiment.name, {})
        try:
            context.invoke(command, **options)
        except SkylarkError as error:
            screen.print(f"[red]{experiment.name}: {error}[/red]")
            failed.append(experiment.name)
        except click.exceptions.Exit as end:
            if end.exit_code:
                failed.append(experiment.name)
    context.invoke(report, results=results, out=out)
    if failed:
        raise LabError(f"failed: {', '.join(failed)}")
