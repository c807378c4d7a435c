"""Writes docs/reference/ from the code: commands, settings, constellation.yaml, events, metrics.

`make docs` runs it; tests/docs/test_reference.py fails while what is there differs from what the code says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from docs.generator.commands import commands_page
from docs.generator.constellation import constellation_page
from docs.generator.events import events_page
from docs.generator.metrics import metrics_page
from docs.generator.settings import settings_page

_MADE: Final = "<!-- Made by `make docs` from the code; edit the code, not this file. -->\n\n"

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "commands.md": commands_page,
    "constellation.md": constellation_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
}


def page(name: str) -> str:
    """The whole text of a page of the reference."""
    return _MADE + PAGES[name]()
