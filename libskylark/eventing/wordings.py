"""What a subscriber said with its refusal, in one bounded line for reasons, logs and dead letters."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Final

import orjson

from libskylark.binding import is_json

_LINE_BYTES: Final = 1024
_DOCUMENT_BYTES: Final = 64 * 1024  # a longer one is not parsed for its one sentence
_TITLE: Final = re.compile(r"<title>([^<]*)", re.IGNORECASE)


def one_line(text: str) -> str:
    """Text with every character escaped that is not printable, cut to 1 KiB of UTF-8."""
    line = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    encoded = line.encode("utf-8", "replace")
    if len(encoded) <= _LINE_BYTES:
        return line
    return encoded[: _LINE_BYTES - len("…".encode())].decode("utf-8", "ignore") + "…"


def told_by(headers: Mapping[str, str], body: bytes) -> str:
    """`: ` and what an answer's body says, or nothing.

    Of a problem (RFC 9457), or other JSON with a `detail` or `title`, it is that; of a page its title; of other text
    the first line.
    """
    content_type = headers.get("content-type", "")
    said = _of_document(body) if content_type and is_json(content_type) else ""
    text = said or _of_text(body)
    if not said and "html" in content_type:
        title = _TITLE.search(text)
        text = title[1] if title else ""
    line = text.strip()[:_LINE_BYTES].partition("\n")[0].strip()
    return f": {one_line(line)}" if line else ""


def _of_document(body: bytes) -> str:
    try:
        document = orjson.loads(body) if len(body) <= _DOCUMENT_BYTES else None
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(document, dict):
        return ""
    return next((said for name in ("detail", "title") if isinstance(said := document.get(name), str)), "")


def _of_text(body: bytes) -> str:
    """The beginning of a body, if it is text at all."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body[:_LINE_BYTES])  # the last character may be cut
    except UnicodeDecodeError:
        return ""
