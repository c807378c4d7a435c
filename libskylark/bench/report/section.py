"""What the report shows of an experiment: tables, goals and charts, and how they come from its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from libskylark.bench.results import Setting

Interval = tuple[float, float]


class Figures(BaseModel):
    """What an experiment wrote; fields that the report has no use for are left out."""

    model_config = ConfigDict(frozen=True)

    setting: Setting | None = None


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
    """An experiment with its results; without them, `tables` and what follows are empty."""

    name: str
    title: str
    question: str
    tables: Sequence[Table] = ()
    goals: Sequence[Goal] = ()
    charts: Sequence[Chart] = ()
    setting: Setting | None = None

    @property
    def command(self) -> str:
        return f"skylark bench {self.name}"


def _nothing(figures: Any) -> Sequence[Any]:
    return ()


@dataclass(frozen=True, slots=True)
class Experiment(Generic[F]):
    """How the results of `skylark bench NAME` are read (`model`) and shown."""

    name: str
    title: str
    question: str
    model: type[F]
    tables: Callable[[F], Sequence[Table]]
    charts: Callable[[F], Sequence[Chart]]
    goals: Callable[[F], Sequence[Goal]] = field(default=_nothing)

    def section(self, figures: F | None) -> Section:
        if figures is None:
            return Section(self.name, self.title, self.question)
        return Section(
            self.name,
            self.title,
            self.question,
            self.tables(figures),
            self.goals(figures),
            self.charts(figures),
            figures.setting,
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


def covering(coverage: float) -> str:
    """Added to a caption: what intervals in brackets are worth, by the least coverage of any of them."""
    return f", in brackets intervals of at least {percent(coverage)}" if coverage else ""


def percent(share: float) -> str:
    """`0.987` as `98.7 %`."""
    return f"{share * 100:.3g} %"
