"""What the tests of the page in a browser have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
QUIET = {"events*": "retry: 1000\n\n"}  # a stream that ends at once

Open = Callable[..., Any]


def answering(body: str, kind: str) -> Callable[[Any], None]:
    def answer(route: Any) -> None:
        route.fulfill(body=body, content_type=kind)

    return answer


def texts(shown: Any, selector: str) -> list[str]:
    found: list[str] = shown.locator(selector).all_inner_texts()
    return found
