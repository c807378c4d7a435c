"""`skylark bench workflow` and `skylark bench throughput`: a chain of four stages under all policies, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from libskylark.bench import throughput as throughputs
from libskylark.bench.results import Setting, keep
from libskylark.bench.workflow import measure as workflows
from libskylark.bench.workflow.chain import KINDS, WAYS, Kind, Way
from libskylark.cli.options import (
    Command,
    console,
    json_option,
    network_option,
    print_json,
    project_option,
    results_option,
)
from libskylark.constellation import Constellation, read_constellation
from libskylark.project import read_project

Number = TypeVar("Number", bound=float)
Options = TypeVar("Options")
Measure = Callable[[Constellation, Options, workflows.Progress], tuple[dict[str, Any], list[dict[str, Any]]]]
Show = Callable[[Console, dict[str, Any]], None]


class Numbers(click.ParamType[tuple[Number, ...]]):
    """Positive numbers of one type, joined by commas."""

    name = "numbers"

    def __init__(self, of: Callable[[str], Number]) -> None:
        self._of = of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Number, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers: tuple[Number, ...] = tuple(map(self._of, value.split(",")))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number < float("inf") for number in numbers):
            self.fail(f"found {value!r}, expected numbers above 0 such as 1,5", param, ctx)
        return numbers


class Ways(click.ParamType[tuple[Way, ...]]):
    """Some of the policies and baselines, joined by commas."""

    name = "policies"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Way, ...]:
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in value.split(",")]
        found = tuple(way for way in WAYS if way in words)
        if unknown := [word for word in words if word not in WAYS]:
            self.fail(f"found {', '.join(unknown)}, expected some of {', '.join(WAYS)}", param, ctx)
        return found


@dataclass(frozen=True)
class Experiment:
    """What both experiments can be told; the names are those of the options below."""

    quick: bool
    ways: Sequence[Way]
    seed: int
    epoch: int
    kind: Kind
    network: str
    project: Path
    results: Path | None
    as_json: bool

    @property
    def conditions(self) -> dict[str, Any]:
        """What the options of either measurement take by the same names."""
        return {name: getattr(self, name) for name in ("ways", "seed", "epoch", "kind", "network")}

    def run(
        self, name: str, measure: Measure[Options], options: Options, show: Show, constellation: Path | None = None
    ) -> None:
        """Measures, keeps and shows the figures, of the project's constellation or that of another file.

        Raises DocumentError for a faulty file, LabError where the lab does not start or state gets stuck.
        """
        screen, setting = console(quiet=self.as_json), Setting.now(self.seed)
        nodes = read_constellation(constellation) if constellation else read_project(self.project).constellation
        figures, raw = measure(nodes, options, screen.print)
        keep(self.results, name, figures, setting, raw=raw)
        if self.as_json:
            print_json(figures)
        else:
            show(screen, figures)


def _experiment_options(command: Command) -> Command:
    """What both experiments can be told."""
    for option in (
        json_option,
        results_option,
        project_option,
        network_option,
        click.option("--content", "kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True,
                     help="noise cannot be compressed, levels can, by half."),
        click.option("--epoch", type=click.IntRange(min=0), default=workflows.EPOCH, show_default=True, metavar="N",
                     help="The constellation of this epoch, which does not end meanwhile."),
        click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, metavar="N",
                     help="Another order, and other contents."),
        click.option("--policies", "ways", type=Ways(), default=",".join(WAYS), show_default=True, metavar="NAME,...",
                     help="Which to measure."),
        click.option("--quick", is_flag=True, help="Fewer of them: to see that everything works."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.option("--sizes", "sizes_mb", type=Numbers(float), default=None, metavar="MB,...",
              help="Sizes of the state.  [default: 1,5,10,20,50; quick: 1,5]")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N",
              help="Runs of each policy at each size.")  # fmt: skip
@click.option("--constellation", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
              metavar="FILE", help="Other nodes and links than the project's; the results are then kept under "
              "workflow- and the name of the file's folder.")  # fmt: skip
@_experiment_options
def workflow(sizes_mb: Sequence[float] | None, rounds: int, constellation: Path | None, **told: Any) -> None:
    """How long a chain of four stages takes, each reading the state of the one before, under all policies.

    Starts the constellation with emulated links: pinned to nodes as the original was, and with every stage on every
    node. Beside our policies stands the original of 2024 as we re-created it. The limit is what the links need.
    """
    experiment = Experiment(**told)
    sizes_mb = sizes_mb or (workflows.QUICK_SIZES_MB if experiment.quick else workflows.SIZES_MB)
    options = workflows.Options(sizes_mb, rounds, **experiment.conditions)
    name = f"workflow-{constellation.absolute().parent.name}" if constellation else "workflow"
    experiment.run(name, workflows.measure, options, _show_workflow, constellation)


def _show_workflow(screen: Console, figures: dict[str, Any]) -> None:
    interval = _interval_title(figures["rows"])
    table = Table(
        *("MB", "policy", "ms", interval, "limit", "read", "write", "local", "at once", "hops", "MB sent", "missed"),
        box=None,
    )
    for pinned in (True, False):
        for row in (row for row in figures["rows"] if row["pinned"] is pinned):
            cells = [f"{row['size_mb']:g}", row["policy"] if pinned else f"{row['policy']}, unpinned"]
            table.add_row(*cells, *(_times(row) if row["failed"] < row["runs"] else ["none ended"]))
    screen.print(table)
    screen.print("Medians in ms. limit: what the links alone need. local: reads served by the reader's own node, after")
    screen.print("waiting for the push if needed; at once: without. hops: links from the state to its reader. missed:")
    screen.print("hand-overs over the objective, expected and measured.")


def _interval_title(rows: Iterable[dict[str, Any]]) -> str:
    """By the least that an interval of the column covers."""
    return f"interval, {min((row['coverage'] for row in rows if 'coverage' in row), default=0):.0%}"


def _times(row: dict[str, Any]) -> list[str]:
    low, high = row["ci_ms"]
    return [
        f"{row['time_ms']:,.0f}",
        f"{low:,.0f}-{high:,.0f}",
        *(f"{row[name]:,.0f}" for name in ("limit_ms", "read_ms", "write_ms")),
        *(f"{row[name]:.0%}" for name in ("local_availability", "local_at_once")),
        f"{row['hops']:.2f}",
        f"{row['bytes'] / 1e6:,.1f}",
        f"{row['violations_predicted']}, {row['violations_measured']} of {row['hand_overs']}",
    ]


@click.command()
@click.option("--counts", type=Numbers(int), default=None, metavar="N,...",
              help="Chains at once.  [default: 5 to 50 by 5; quick: 5,20,50]")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, metavar="N",
              help="Runs of each policy with each number of chains.")  # fmt: skip
@_experiment_options
def throughput(counts: Sequence[int] | None, rounds: int, **told: Any) -> None:
    """How many chains with 2 MB of state end each second, where so many are started at once.

    The same chain as `skylark bench workflow`, pinned and not, under all policies.
    """
    experiment = Experiment(**told)
    counts = counts or (throughputs.QUICK_COUNTS if experiment.quick else throughputs.COUNTS)
    options = throughputs.Options(counts, rounds, **experiment.conditions)
    experiment.run("throughput", throughputs.measure, options, _show_throughput)


def _show_throughput(screen: Console, figures: dict[str, Any]) -> None:
    interval = _interval_title([*figures["rows"], *figures["unpinned_rows"]])
    table = Table(
        *("at once", "policy", "a second", interval, "p50 ms", "p95 ms", "local", "MB sent each", "failed"), box=None
    )
    for name, note in (("rows", ""), ("unpinned_rows", ", unpinned")):
        for row in figures[name]:
            table.add_row(str(row["workflows"]), row["policy"] + note, *_rates(row))
    screen.print(table)


def _rates(row: dict[str, Any]) -> list[str]:
    low, high = row["ci_per_s"]
    times = ("-" if row[name] is None else f"{row[name]:,.0f}" for name in ("p50_ms", "p95_ms"))
    rates = [f"{row['per_s']:.2f}", f"{low:.2f}-{high:.2f}"]
    return [*rates, *times, f"{row['local_availability']:.0%}", f"{row['bytes'] / 1e6:,.1f}", str(row["failed"])]
