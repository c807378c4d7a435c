"""The report as one HTML page that needs nothing but itself, and its charts as files beside the results."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from libskylark.bench.report.charts import EXTRA, Drawing, draw
from libskylark.bench.report.section import Section
from libskylark.bench.results import Results
from libskylark.errors import ConfigError

_HOME: Final = Path(__file__).parent


def write(sections: Sequence[Section], results: Results, out: Path) -> int:
    """The page to `out`, and each chart beside the results as NAME.svg; how many charts.

    Raises ConfigError where the extra `bench` is not installed.
    """
    drawings = {chart.name: draw(chart) for section in sections for chart in section.charts}
    page = render(sections, drawings, os.path.relpath(results.directory, out.parent))
    for drawing in drawings.values():
        (results.directory / f"{drawing.name}.svg").write_text(drawing.card, encoding="utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return len(drawings)


def render(sections: Sequence[Section], drawings: Mapping[str, Drawing], folder: str) -> str:
    """The page, which links to the results in `folder`; equal sections give equal pages."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise ConfigError(f"found no jinja2, which makes the page: {EXTRA}") from None
    environment = Environment(
        loader=FileSystemLoader(_HOME), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pictures = {name: _data_address(drawing.adaptive) for name, drawing in drawings.items()}
    return environment.get_template("page.html").render(sections=sections, folder=folder, pictures=pictures)


def _data_address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
