"""Takes changed objects over into a running broker, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from libskylark.errors import ConfigError, DocumentError, Fault
from libskylark.eventing.watching import Stand, Watch, emptied
from libskylark.eventing.wiring import Wiring, differences, immutable_faults

log = logging.getLogger("skylark.broker")


class Reloader:
    """`load` reads the files, in a thread of its own, and raises ConfigError; `exchange` puts a wiring into force."""

    def __init__(
        self, wiring: Wiring, watch: Watch, load: Callable[[], Wiring], exchange: Callable[[Wiring], None]
    ) -> None:
        self._wiring = wiring
        self._watch = watch
        self._load = load
        self._exchange = exchange

    async def run(self) -> None:
        """Until it is cancelled; faulty files are told once, and change nothing."""
        in_force = self._watch.stand
        while True:
            stand = await self._watch.changed()
            try:
                wiring = await asyncio.to_thread(self._checked, in_force, stand)
                if await self._watch.look() != stand:
                    continue  # changed while it was read: what was read may be half of the one and half of the other
                self._take(wiring)
                in_force = stand
            except ConfigError as error:
                log.error("changed files are faulty; the objects in force stay:\n%s", error)
            except Exception:
                log.exception("changed files could not be taken over; the objects in force stay")

    def _checked(self, in_force: Stand, stand: Stand) -> Wiring:
        faults = [
            Fault(path, 0, "", "has become empty, as if half written; to remove its objects, delete the file")
            for path in emptied(in_force, stand)
        ]
        if faults:
            raise DocumentError(faults)
        wiring = self._load()
        faults = [*immutable_faults(self._wiring.objects, wiring.objects)]
        if faults:
            raise DocumentError(faults)
        return wiring

    def _take(self, wiring: Wiring) -> None:
        told = differences(self._wiring, wiring)
        self._exchange(wiring)
        self._wiring = wiring
        log.info("objects reloaded: %s", told or "none is different")
        for notice in wiring.objects.notices:
            log.info("notice: %s", notice)
