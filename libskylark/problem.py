"""Problem details (RFC 9457): the one shape in which every HTTP service here says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

CONTENT_TYPE: Final = "application/problem+json"


def problem(status: int, detail: str, faults: Mapping[str, str] | None = None) -> bytes:
    """The JSON body of a problem: `status`, its standard title, one sentence, and faults by name."""
    body: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if faults:
        body["faults"] = dict(faults)
    return json.dumps(body).encode()
