"""All experiments, in the order in which they run and are shown."""

from __future__ import annotations

from typing import Any, Final

from libskylark.bench.report.broker import BROKER
from libskylark.bench.report.fusion import FUSION
from libskylark.bench.report.links import LINKS
from libskylark.bench.report.moving import FAULTS, HANDOVER
from libskylark.bench.report.overhead import OVERHEAD
from libskylark.bench.report.section import Experiment, Section
from libskylark.bench.report.services import ELECTION, START
from libskylark.bench.report.throughput import THROUGHPUT
from libskylark.bench.report.workflow import LINE, WORKFLOW
from libskylark.bench.results import Results

EXPERIMENTS: Final[tuple[Experiment[Any], ...]] = (
    WORKFLOW,
    LINE,
    THROUGHPUT,
    FUSION,
    OVERHEAD,
    ELECTION,
    HANDOVER,
    FAULTS,
    BROKER,
    LINKS,
    START,
)


def sections(results: Results) -> list[Section]:
    """One of each experiment, without tables where it has no results. DocumentError names file and field of faults."""
    return [experiment.section(results.read(experiment.name, experiment.model)) for experiment in EXPERIMENTS]
