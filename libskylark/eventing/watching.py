"""When the files of objects have changed, and stand still again: told by their inode, size and time, once a second.

inotify would miss files that are reached through a symlink, and whole folders on network and shared file systems.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from libskylark.eventing.loading import object_files

_POLL_S: Final = 1.0

Sleep = Callable[[float], Awaitable[None]]
Stand = Mapping[str, tuple[int, ...]]
"""What stat says of every file, by its path."""


def stand_of(paths: Iterable[Path]) -> Stand:
    """How the files of `paths` stand now; what cannot be read is as if it were not there."""
    stand: dict[str, tuple[int, ...]] = {}
    for path in paths:
        for file in object_files(path):
            try:
                status = os.stat(file)  # of what a symlink leads to
            except OSError:
                continue
            stand[str(file)] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return stand


def emptied(former: Stand, now: Stand) -> list[str]:
    """Files that have become empty, as those are that somebody has only begun to write."""
    return [path for path, facts in now.items() if facts[2] == 0 and path in former and former[path][2] > 0]


class Watch:
    """Looks at files again and again."""

    def __init__(self, paths: Iterable[Path], sleep: Sleep = asyncio.sleep) -> None:
        self._paths = [*paths]
        self._sleep = sleep
        self.stand = stand_of(self._paths)

    async def changed(self) -> Stand:
        """The next stand that is another than the last one given, and that two looks in a row have found.

        So a file is not read while it is written, nor between the two renames of an editor.
        """
        last = self.stand
        while True:
            await self._sleep(_POLL_S)
            now = await self.look()
            if now == last and now != self.stand:
                self.stand = now
                return now
            last = now

    async def look(self) -> Stand:
        return await asyncio.to_thread(stand_of, self._paths)
