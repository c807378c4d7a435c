"""Bodies of requests as they come in, within the limits of one and of all of them together."""

from __future__ import annotations

from typing import Final

from libskylark.eventing.http_messages import RETRY_AFTER, Refused
from libskylark.eventing.settings import BrokerSettings

SMALL_BYTES: Final = 64 * 1024  # a body up to here has room whatever others hold; connections bound how many
_MANY_CHUNKS: Final = 16_384
_TINY_BYTES: Final = 8  # of a chunk in the mean; from so many of them on, nobody means well


class BodyRoom:
    """What the bodies that are read, or wait to be stored, hold together."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self.unasked_bytes = min(SMALL_BYTES, settings.max_body_bytes)  # of a body, that there is always room for
        self.held_bytes = 0

    def check(self, size_bytes: int, held_bytes: int) -> None:
        """Raises Refused for a body of this size where all together hold so much."""
        if size_bytes > self._settings.max_body_bytes:
            raise Refused(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        if held_bytes > self._settings.max_held_bytes and size_bytes > SMALL_BYTES:
            detail = f"bodies of {self._settings.max_held_bytes} bytes are being read, there is no room for one more"
            raise Refused(503, detail, headers=(RETRY_AFTER,))


class Body:
    """One body; what it holds is given back with `release`, once."""

    __slots__ = ("_chunks", "_content", "_room", "size_bytes")

    def __init__(self, room: BodyRoom, announced_bytes: int) -> None:
        """Raises Refused where `announced_bytes`, 0 for none, are too many."""
        if announced_bytes > room.unasked_bytes:
            room.check(announced_bytes, room.held_bytes + announced_bytes)
        self._room = room
        self._content: bytes | bytearray = b""
        self._chunks = 0
        self.size_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Raises Refused for more than there may be."""
        size_bytes = self.size_bytes = self.size_bytes + len(chunk)
        self._room.held_bytes += len(chunk)
        self._room.check(size_bytes, self._room.held_bytes)
        self._chunks += 1
        if self._chunks == 1:
            self._content = chunk
            return
        if self._chunks == 2:  # a list of chunks would take many times their size, where they are small
            self._content = bytearray(self._content)
        self._content += chunk
        if self._chunks >= _MANY_CHUNKS and size_bytes < self._chunks * _TINY_BYTES:
            raise Refused(400, f"found {self._chunks} chunks of {size_bytes} bytes together, expected larger ones")

    def take(self) -> bytes:
        """The whole of it, once; its bytes count as held until they are released."""
        content, self._content = bytes(self._content), b""
        return content

    def release(self) -> None:
        """Its bytes are held no more, here."""
        self._room.held_bytes -= self.size_bytes
        self.size_bytes = 0
        self._content = b""
