"""A lease that one of a node's processes holds: as long as its connection to the node's Redis stands.

No time-out decides: a process that is killed loses its connection in that moment, and the next one that looks takes
the lease over. Two may believe to hold it for one period, so what it guards must do no harm when it is done twice.
"""

from __future__ import annotations

from typing import Any, Final

from libskylark.store import RedisClient, Store, script_source

_PREFIX: Final = "skylark:lease:"


class Lease:
    """The lease `name` of a node; only one thread may use an object of this class."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._key = f"{_PREFIX}{name}"

    def held(self) -> bool:
        """Whether this process holds it now; takes it where nobody does. Raises StoreUnavailable."""
        return self._store.on_own_connection(self._held)

    def _held(self, client: RedisClient) -> bool:
        # After a restart, Redis numbers its connections anew.
        server: Any = client.info("server")["run_id"]
        ours = f"{server}/{client.client_id()}"
        holder: Any = client.get(self._key)
        if holder is None:
            return bool(client.set(self._key, ours, nx=True))
        known = holder.decode()
        if known == ours:
            return True
        run, _, number = known.partition("/")
        if run == server and client.client_list(client_id=[number]):
            return False
        return bool(client.eval(script_source("lease"), 1, self._key, known, ours))
