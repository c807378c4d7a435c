"""What the report shows of an experiment: tables, goals and charts, and how they come from its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from libskylark.bench.results import Setting
from libskylark.bench.statistics import coverage_of

Interval = tuple[float, float]


class Figures(BaseModel):
    """What an experiment wrote; fields that the report has no use for are left out."""

    model_config = ConfigDict(frozen=True)

    setting: Setting | None = None
    scheduling: str | None = None
    """Where earlier runs of the workflow and the throughput have what is now in the setting."""

    @property
    def told_setting(self) -> Setting | None:
        """The setting, with the scheduling wherever that was kept."""
        if self.setting is None or self.setting.scheduling is not None:
            return self.setting
        return self.setting.model_copy(update={"scheduling": self.scheduling})


class Rows(BaseModel):
    """A part of Figures."""

    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; `caption` says what the rows have in common, and in which unit the figures are."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Goal:
    """What was asked for, what was measured, and whether that is enough; None where the run did not measure it."""

    text: str
    figure: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return "not measured" if self.met is None else "met" if self.met else "not met"


def unmeasured(text: str) -> Goal:
    return Goal(text, "", None)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel, or one colour of its bars. `intervals` are as many as `ys`, or none.

    `style` "limit" is for what nothing can pass or should not be passed: a dashed line without a colour of its own.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    intervals: Sequence[Interval | None] = ()
    style: Literal["data", "limit"] = "data"


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over numbers or, with `bars`, horizontal bars beside these labels (`xs` are then places among them)."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    bars: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels side by side, kept as NAME.svg; `alt` says in words what is to be seen."""

    name: str
    alt: str
    panels: Sequence[Panel]


F = TypeVar("F", bound=Figures)


@dataclass(frozen=True, slots=True)
class Section:
    """An experiment with its results; without them, `tables` and what follows are empty.

    `command` is how it is run, `setting.command` how these results were made.
    """

    name: str
    title: str
    question: str
    command: str
    tables: Sequence[Table] = ()
    goals: Sequence[Goal] = ()
    charts: Sequence[Chart] = ()
    setting: Setting | None = None


def _nothing(figures: Any) -> Sequence[Any]:
    return ()


@dataclass(frozen=True, slots=True)
class Experiment(Generic[F]):
    """How the results of `skylark bench NAME` are read (`model`) and shown.

    Where the results have another name than their command, that is `bench`, with the `options` that it needs.
    """

    name: str
    title: str
    question: str
    model: type[F]
    tables: Callable[[F], Sequence[Table]]
    charts: Callable[[F], Sequence[Chart]]
    goals: Callable[[F], Sequence[Goal]] = field(default=_nothing)
    bench: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subcommand(self) -> str:
        """What follows `skylark bench`, without options."""
        return self.bench or self.name

    def section(self, figures: F | None) -> Section:
        options = "".join(f" --{name} {value}" for name, value in self.options.items())
        section = Section(self.name, self.title, self.question, f"skylark bench {self.subcommand}{options}")
        if figures is None:
            return section
        return replace(
            section,
            tables=self.tables(figures),
            goals=self.goals(figures),
            charts=self.charts(figures),
            setting=figures.told_setting,
        )


_DASH: Final = "-"


def number(value: float | None) -> str:
    """Three figures or all before the point: `1,234`, `12.3`, `0.123`; a dash for None."""
    if value is None:
        return _DASH
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def with_interval(value: float, interval: Interval | None) -> str:
    """`1,234 (1,200 to 1,300)`; the value alone where there is no interval, or one of a single run."""
    if interval is None or interval[0] == interval[1]:
        return number(value)
    return f"{number(value)} ({number(interval[0])} to {number(interval[1])})"


#: Added to a caption, where ranges are in brackets.
OF_ROUNDS: Final = ", in brackets the range of the rounds"


def with_ranges(figures: Rows, spread: Rows | None, names: Sequence[str]) -> list[str]:
    """Figures of these names with their ranges, which are by the same names; alone where those were not kept."""
    return [with_interval(getattr(figures, name), getattr(spread, name) if spread else None) for name in names]


def covering(coverage: float) -> str:
    """Added to a caption: what intervals in brackets are worth, by the least coverage of any of them."""
    return f", in brackets intervals of at least {percent(coverage)}" if coverage else ""


def medians_of(runs: int | str, least: int) -> str:
    """A caption: of how many runs, and what intervals in brackets are worth by the least number of runs."""
    return f"medians of {runs} runs{covering(coverage_of(least))}"


def percent(share: float) -> str:
    """`0.987` as `98.7 %`."""
    return f"{share * 100:.3g} %"
