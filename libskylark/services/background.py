"""What elect does beside answering: probes of other nodes, the mover's queue, handovers of anchored memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Final

from libskylark.clock import Clock
from libskylark.config import NodeSettings
from libskylark.errors import StoreUnavailable
from libskylark.mover import Mover
from libskylark.nodeservices import NodeServices
from libskylark.ownership import Ownership
from libskylark.sender import Sender, own_broker_url
from libskylark.services.elections import Elect
from libskylark.services.handovers import Handovers
from libskylark.services.lease import Lease
from libskylark.services.metrics import ElectMetrics
from libskylark.store import Stores

log = logging.getLogger("skylark.elect")

_LOOK_S: Final = 1.0  # how soon a process takes over from one that has gone


class Background:
    """The node's background work as threads of this process.

    Of several processes of one node, each probes for its own answers; one at a time moves and hands over, the holder
    of a lease. Threads do not survive a fork: start it in the process that serves.
    """

    def __init__(
        self, settings: NodeSettings, services: NodeServices, elect: Elect, clock: Clock, metrics: ElectMetrics
    ) -> None:
        stores = Stores(settings, services.host_of)
        sender = Sender(own_broker_url(settings), settings.token)
        ownership = Ownership(settings.node, stores, services.home)
        self._elect = elect
        self._lease = Lease(stores.local, "background")
        self._mover = Mover(stores, clock, sender.post, metrics.note_move)
        self._handovers = Handovers(settings, stores, ownership, elect.of_epoch, clock, metrics)
        self._leading = False
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def leading(self) -> bool:
        """Whether this process moves and hands over for its node."""
        return self._leading

    def queued(self) -> Mapping[str, int]:
        """Jobs of the mover by target node."""
        return self._mover.pending()

    def start(self) -> None:
        self._elect.health.start()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends all of it; what is under way may end first."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        self._elect.health.stop()

    def tick(self) -> None:
        """A new epoch has begun: memories may have to move."""
        self._handovers.poke()

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._lead(self._holds())
            self._leaving.wait(_LOOK_S)
        self._lead(False)

    def _holds(self) -> bool:
        try:
            return self._lease.held()
        except StoreUnavailable:  # without Redis, nobody can do anything: who leads goes on when it is back
            return self._leading
        except Exception:  # a fault of ours must not be the end of all moves
            log.exception("the lease of the background work failed")
            return self._leading

    def _lead(self, leading: bool) -> None:
        if leading and not self._leading:
            self._mover.start()
            self._handovers.start()
        elif self._leading and not leading:
            self._handovers.stop()
            self._mover.stop()
        self._leading = leading
