"""Charts as SVG: drawn by matplotlib, the same bytes for the same figures, readable without telling colours apart.

Colours are those of M. Okabe and K. Ito (Color Universal Design); each line also has a marker of its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from libskylark.bench.report.section import Chart, Panel, Series
from libskylark.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXTRA: Final = "pip install 'skylark-functions[bench]'"

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_INK, _CARD = "#010203", "#fdfcfb"  # stand for the colours of text and background until the drawing is done
_LIMIT_DASHES: Final = ("--", ":")
_LIGHT: Final = {"ink": "#1f2328", "card": "#ffffff"}
_DARK: Final = {"ink": "#e6e8eb", "card": "#1b1f24"}
_SIZE_INCHES: Final = (4.6, 3.6)  # of one panel
_BAR_INCHES: Final = 0.34
_LEAST_INCHES: Final = 2.8
_LEGEND_COLUMNS: Final = 6
_FEW_DECADES: Final = 300
_LABEL_FONT: Final = "DejaVu Sans"  # comes with matplotlib, so that every machine measures text alike
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": _LABEL_FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.facecolor": _CARD,
    "figure.facecolor": _CARD,
    "savefig.facecolor": _CARD,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart that was drawn; its colours of text and background are still to be chosen."""

    name: str
    _svg: str

    @property
    def card(self) -> str:
        """SVG on a white card."""
        return self._painted(_LIGHT)

    @property
    def adaptive(self) -> str:
        """SVG in colours that follow what the reader prefers, light or dark."""
        light, dark = ("".join(f"--{name}:{colour};" for name, colour in theme.items()) for theme in (_LIGHT, _DARK))
        style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
        svg = self._painted({name: f"var(--{name})" for name in _LIGHT})
        end = svg.index(">", svg.index("<svg")) + 1
        return svg[:end] + style + svg[end:]

    def _painted(self, theme: Mapping[str, str]) -> str:
        return self._svg.replace(_INK, theme["ink"]).replace(_CARD, theme["card"])


def draw(chart: Chart) -> Drawing:
    """Raises ConfigError where matplotlib is not installed."""
    with _style(chart.name):
        figure = _figure(chart)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(chart.name, text.getvalue().replace(f"'{_LABEL_FONT}'", f"'{_LABEL_FONT}', system-ui"))


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """As the charts have it, whatever the user's own settings of matplotlib are."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise ConfigError(f"found no matplotlib, which draws the charts: {EXTRA}") from None
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        mpl.rcParams["svg.hashsalt"] = salt
        yield


def _figure(chart: Chart) -> Figure:
    from matplotlib.figure import Figure

    width, height = _SIZE_INCHES
    most_bars = max(len(panel.bars) for panel in chart.panels)
    if most_bars:
        height = max(_LEAST_INCHES, 1.2 + _BAR_INCHES * most_bars)
    alone = len(chart.panels) == 1
    figure = Figure(figsize=(width * (1.4 if alone else len(chart.panels)), height), layout="constrained")
    for place, panel in enumerate(chart.panels, 1):
        axes = figure.add_subplot(1, len(chart.panels), place)
        if panel.bars:
            _draw_bars(axes, panel)
        else:
            _draw_lines(axes, panel)
        axes.set_title(panel.title, loc="left")
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
    _name_lines(figure)
    return figure


def _name_lines(figure: Figure) -> None:
    """One legend below all panels where one of them has all lines of the others; else one in each."""
    named = [axes.get_legend_handles_labels() for axes in figure.axes]
    most_handles, most_labels = max(named, key=lambda panel: len(panel[1]))
    if len(figure.axes) > 1 and all(labels and set(labels) <= set(most_labels) for _, labels in named):
        if len(most_labels) > 1:
            figure.legend(most_handles, most_labels, loc="outside lower center", ncols=_LEGEND_COLUMNS)
        return
    for axes, (_, labels) in zip(figure.axes, named, strict=True):
        if len(labels) > 1:
            axes.legend()


def _draw_lines(axes: Axes, panel: Panel) -> None:
    data = [series for series in panel.series if series.style == "data"]
    limits = [series for series in panel.series if series.style == "limit"]
    for series, colour, marker in zip(data, _COLOURS, _MARKERS, strict=False):
        if not series.xs:
            continue  # keeps its colour for the panel beside
        axes.plot(series.xs, series.ys, color=colour, marker=marker, label=series.label)
        _draw_intervals(axes, series, colour)
    for limit, dashes in zip((limit for limit in limits if limit.xs), _LIMIT_DASHES, strict=False):
        axes.plot(limit.xs, limit.ys, color=_INK, linestyle=dashes, linewidth=1.2, label=limit.label)
    if panel.log_x:
        axes.set_xscale("log")
        _tick_at(axes, sorted({x for series in data for x in series.xs}))
    if panel.log_y:
        axes.set_yscale("log")
        _tick_log(axes)
    elif all(y >= 0 for series in panel.series for y in series.ys):
        axes.set_ylim(0, (axes.dataLim.y1 or 1.0) * 1.05)
    axes.yaxis.set_major_formatter(lambda y, place: _plain(y))


def _draw_intervals(axes: Axes, series: Series, colour: str) -> None:
    points = zip(series.xs, series.intervals, strict=False)
    for x, interval in points:
        if interval is not None:
            axes.plot([x, x], interval, color=colour, linewidth=1.2, marker="_", markersize=6)


def _tick_log(axes: Axes) -> None:
    """Ticks at 1, 2 and 5 within few powers of ten, at these alone within many."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high / low < _FEW_DECADES else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _tick_at(axes: Axes, xs: Sequence[float]) -> None:
    """A tick at each measured x, which powers of ten alone would not name."""
    axes.set_xticks(xs, [_plain(x) for x in xs])
    axes.set_xticks([], minor=True)


def _draw_bars(axes: Axes, panel: Panel) -> None:
    for series, colour in zip(panel.series, _COLOURS, strict=False):
        axes.barh(series.xs, series.ys, height=0.6, color=colour)
        for y, interval in zip(series.xs, series.intervals, strict=False):
            if interval is not None:
                axes.plot(interval, [y, y], color=_INK, linewidth=1.2, marker="|", markersize=7)
    axes.set_yticks(range(len(panel.bars)), list(panel.bars))
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(lambda x, place: _plain(x))


def _plain(value: float) -> str:
    """`10,000` and `0.5`, not powers of ten."""
    return f"{value:,.10g}"
