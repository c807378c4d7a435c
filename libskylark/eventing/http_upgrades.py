"""Requests that ask for another protocol, and have a body: the parser takes them for the end of HTTP, we do not.

An upgrade may be ignored, and some clients ask for one with every request (Java's for h2c). To httptools, what follows
the head of such a request is no HTTP any more: a body would be taken for the next request. So a new parser is given a
head with nothing but the length, and reads on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    from libskylark.eventing.http_requests import RequestReader


def head_again(parser: httptools.HttpRequestParser, announced_bytes: int, is_chunked: bool) -> bytes:
    """What a new parser reads before the body of a request whose head the given one has just read; empty without."""
    if not (announced_bytes or is_chunked) or not parser.should_upgrade():
        return b""
    line = b"%b / HTTP/%b" % (parser.get_method(), parser.get_http_version().encode())
    kept = b"keep-alive" if parser.should_keep_alive() else b"close"
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % announced_bytes
    return b"%b\r\nConnection: %b\r\n%b\r\n\r\n" % (line, kept, framing)


class PastHead:
    """Calls a reader as a parser does, but for the first head, which the reader knows already."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._is_again = True
        self.on_body, self.on_message_complete = reader.on_body, reader.on_message_complete
        self.on_header = reader.on_header  # which ignores those that come within a body

    def on_message_begin(self) -> None:
        if not self._is_again:
            self._reader.on_message_begin()

    def on_url(self, piece: bytes) -> None:
        if not self._is_again:
            self._reader.on_url(piece)

    def on_headers_complete(self) -> None:
        if not self._is_again:
            self._reader.on_headers_complete()
        self._is_again = False
