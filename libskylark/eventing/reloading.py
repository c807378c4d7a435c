"""Takes changed objects over into a running broker, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from libskylark.errors import ConfigError, DocumentError, Fault
from libskylark.eventing.loading import Objects
from libskylark.eventing.watching import Stand, Watch, deserted, emptied
from libskylark.eventing.wiring import Wiring, differences, immutable_faults

log = logging.getLogger("skylark.broker")

# To read all files of a thousand Triggers takes some two seconds of a core; to wire what was read, hardly anything.
_REREAD_LOOKS: Final = 30
_REWIRE_LOOKS: Final = 1


class Reloader:
    """Follows the files for as long as the broker runs.

    `read` reads them and `wire` resolves what was read, both in a thread of their own, and raise ConfigError;
    `exchange` puts a wiring into force.
    """

    def __init__(
        self,
        wiring: Wiring,
        watch: Watch,
        read: Callable[[], Objects],
        wire: Callable[[Objects], Wiring],
        exchange: Callable[[Wiring], None],
    ) -> None:
        self._wiring = wiring
        self._watch = watch
        self._read = read
        self._wire = wire
        self._exchange = exchange
        self._in_force = watch.stand
        self._unwired: Objects | None = None  # of the last stand, where it could be read and not be wired
        self._told: tuple[Stand, str] | None = None  # what has failed last

    async def run(self) -> None:
        """Until it is cancelled; faulty files are told once, and change nothing.

        What has failed is tried again although no file changes: its cause may be elsewhere, such as a name that
        cannot be looked up, or too many open files.
        """
        while True:
            stand = await self._watch.changed(self._patience_looks())
            try:
                wiring = await asyncio.to_thread(self._load, stand)
                # What changed while it was read may be half of the one and half of the other.
                if await self._watch.look() == stand:
                    self._take(wiring)
                    self._in_force = stand
                    self._told = self._unwired = None
            except Exception as error:
                if await self._watch.look() == stand:
                    self._tell(stand, error)

    def _patience_looks(self) -> int | None:
        if self._told is None:
            return None
        return _REREAD_LOOKS if self._unwired is None else _REWIRE_LOOKS

    def _load(self, stand: Stand) -> Wiring:
        objects = self._unwired
        if objects is None or self._told is None or self._told[0] != stand:
            self._unwired = None
            self._check_files(stand)
            objects = self._read()
            if faults := [*immutable_faults(self._wiring.objects, objects)]:
                raise DocumentError(faults)
            self._unwired = objects
        return self._wire(objects)

    def _check_files(self, stand: Stand) -> None:
        faults = [
            Fault(path, 0, "", "has become empty, as if half written; to remove its objects, delete the file")
            for path in emptied(self._in_force, stand)
        ]
        faults += [
            Fault(
                path,
                0,
                "",
                "has no object files any more, as if unmounted or half checked out; to remove the last of its objects, "
                "leave a file with nothing but a comment",
            )
            for path in deserted(self._watch.paths, self._in_force, stand)
        ]
        if faults:
            raise DocumentError(faults)

    def _tell(self, stand: Stand, error: Exception) -> None:
        if self._told == (stand, str(error)):
            return
        self._told = stand, str(error)
        if isinstance(error, ConfigError):
            log.error("changed files are faulty; the objects in force stay:\n%s", error)
        else:
            log.error("changed files could not be taken over; the objects in force stay", exc_info=error)

    def _take(self, wiring: Wiring) -> None:
        told = differences(self._wiring, wiring)
        self._exchange(wiring)
        self._wiring = wiring
        log.info("objects reloaded: %s", told or "none is different")
        for notice in wiring.objects.notices:
            log.info("notice: %s", notice)
