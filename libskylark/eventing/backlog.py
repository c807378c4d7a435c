"""What waits to be written to the stream, in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from libskylark.eventing.writes import Write

_BATCH_WRITES: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024


class Backlog:
    """Writes that no batch has stored yet, and how many bytes they add to Redis."""

    def __init__(self) -> None:
        self._writes: deque[Write] = deque()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._writes)

    def __iter__(self) -> Iterator[Write]:
        return iter(self._writes)

    def append(self, write: Write) -> None:
        self._writes.append(write)
        self.size_bytes += write.size_bytes

    def put_first(self, writes: Iterable[Write]) -> None:
        """Before all others, in the order in which they are given."""
        writes = list(writes)
        self._writes.extendleft(reversed(writes))
        self.size_bytes += sum(write.size_bytes for write in writes)

    def take(self) -> list[Write]:
        """The next batch; empty where nothing waits."""
        batch, size_bytes = list[Write](), 0
        while self._writes and len(batch) < _BATCH_WRITES and size_bytes < _BATCH_BYTES:
            batch.append(self._writes.popleft())
            size_bytes += batch[-1].size_bytes
        self.size_bytes -= size_bytes
        return batch

    def fail_passing(self, error: Exception) -> None:
        """Fails those that need not last, and goes without them."""
        for write in self._writes:
            write.fail_passing(error)
        self._writes = deque(write for write in self._writes if write.lasting)
        self.size_bytes = sum(write.size_bytes for write in self._writes)

    def clear(self) -> None:
        self._writes.clear()
        self.size_bytes = 0
