"""When the files of objects have changed, and stand still again: told by what stat says of them, once a second.

inotify would miss files that are reached through a symlink, and whole folders on network and shared file systems.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from libskylark.eventing.objectfiles import object_files

_POLL_S: Final = 1.0

log = logging.getLogger("skylark.broker")

Sleep = Callable[[float], Awaitable[None]]


class Facts(NamedTuple):
    """What stat says of a file, or of what a symlink leads to.

    `changed_ns` also moves with a new mode or owner, and where a program has set the time of modification back.
    """

    device: int
    inode: int
    mode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


Stand = Mapping[str, Facts]
"""How files stand, by their path."""


def stand_of(paths: Iterable[Path]) -> Stand:
    """How the files of `paths` stand now; what cannot be looked at is as if it were not there."""
    stand: dict[str, Facts] = {}
    for path in paths:
        for file in object_files(path)[0]:
            try:
                status = os.stat(file)
            except OSError:
                continue
            stand[str(file)] = Facts(
                status.st_dev,
                status.st_ino,
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
    return stand


def emptied(former: Stand, now: Stand) -> list[str]:
    """Files that have become empty, as those are that somebody has only begun to write."""
    return [path for path, facts in now.items() if not facts.size_bytes and path in former and former[path].size_bytes]


def deserted(paths: Iterable[Path], former: Stand, now: Stand) -> list[str]:
    """Those of `paths` that had files and have none now, as when a volume is unmounted or a branch checked out."""
    return [str(path) for path in paths if _has_files(path, former) and not _has_files(path, now)]


def _has_files(path: Path, stand: Stand) -> bool:
    return any(Path(file).is_relative_to(path) for file in stand)


class Watch:
    """Looks at files again and again."""

    def __init__(self, paths: Iterable[Path], sleep: Sleep = asyncio.sleep) -> None:
        self.paths: Final = [*paths]
        self._sleep = sleep
        self.stand = stand_of(self.paths)

    async def changed(self, patience_looks: int | None = None) -> Stand:
        """The next stand that is another than the last one given, and that two looks in a row have found.

        So a file is not read while it is written, nor between the two renames of an editor. After `patience_looks`
        (by default, never) it is the last one again.
        """
        last: Stand | None = self.stand
        looks = 0
        while True:
            await self._sleep(_POLL_S)
            now = await self.look()
            looks += 1
            is_due = now != self.stand or (patience_looks is not None and looks >= patience_looks)
            if now is not None and now == last and is_due:
                self.stand = now
                return now
            last = now

    async def look(self) -> Stand | None:
        """How the files stand now; None, with a word in the log, where nobody can look at them for now."""
        try:
            return await asyncio.to_thread(stand_of, self.paths)
        except Exception:  # such as a thread that cannot be started
            log.exception("the files of objects cannot be watched; the objects in force stay")
            return None
