"""Health: probes the nodes that elect may hand out, and tells those that fail from those that answer.

A probe is a PING of the node's Redis, since that is what a push needs. A node that failed is suspect until a probe
succeeds. The suspects are kept in the local Redis too, where functions read them together with their memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice

from libskylark.clock import Clock
from libskylark.config import NodeSettings
from libskylark.errors import StoreUnavailable
from libskylark.memory import SUSPECTS
from libskylark.store import RedisClient, Store

log = logging.getLogger("skylark.health")

_AT_ONCE = 32  # nodes that are probed in one round
# For one try of a probe; a store has several. The first needs two round trips (an emulated link takes connection and
# answer in one), which over seven links and 150 ms to the cloud are 0.7 s.
_TIMEOUT_S = 1.0
_LONGEST_ROUND_S = 3.5  # about: all tries of a probe
_ROUNDS_KEPT = 3  # for so many the suspects outlive an elect that died


class Health:
    """Who of the nodes does not answer, looked at in rounds; a context manager that runs them in a thread.

    `hosts` gives the address of every node that can be handed out. Of more than 32, those are probed that were
    offered last.
    """

    def __init__(self, settings: NodeSettings, clock: Clock, hosts: Callable[[], Mapping[str, str]]) -> None:
        self._settings = settings
        self._clock = clock
        self._hosts = hosts
        self._local = self._store(settings.host)
        self._stores: dict[str, Store] = {}
        self._offered: dict[str, None] = {}  # the latest last
        self._suspects: Mapping[str, float] = {}
        self._leaving = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def suspects(self) -> Mapping[str, float]:
        """The nodes that failed their last probe, and since when (Unix seconds); replaced whole after a round."""
        return self._suspects

    def offer(self, nodes: Iterable[str]) -> None:
        """Tells which nodes were handed out: they are the first to be probed."""
        for node in nodes:
            self._offered.pop(node, None)
            self._offered[node] = None

    def start(self) -> None:
        """Starts the rounds, once; in the process that serves, since threads do not survive a fork."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="health", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Ends the rounds; one that is under way is waited for."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        for store in (self._local, *self._stores.values()):
            store.close()

    def __enter__(self) -> Health:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def round(self) -> None:
        """Probes every target at once, then tells the local Redis who is suspect."""
        targets = self._targets()
        answered: dict[str, bool] = {}
        probes = [
            threading.Thread(target=self._probe, args=(node, host, answered), name=f"probe-{node}", daemon=True)
            for node, host in targets.items()
        ]
        for probe in probes:
            probe.start()
        for probe in probes:
            probe.join()
        # A suspect that is no target any more is forgotten: nobody hands it out.
        failed = [node for node in targets if not answered[node]]
        since_s, before = self._clock.now_s(), self._suspects
        self._suspects = {node: before.get(node, since_s) for node in failed}
        self._log_changes(before)
        self._publish()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._leaving.wait(pause_s):
            started_s = self._clock.now_s()
            try:
                self.round()
            except Exception:  # a fault of ours must not leave the suspects as they are for ever
                log.exception("a round of probes failed")
            pause_s = max(0.0, started_s + self._settings.probe_period_s - self._clock.now_s())

    def _targets(self) -> dict[str, str]:
        hosts = self._hosts()
        offered = list(self._offered)[::-1]
        for node in offered[_AT_ONCE:]:
            self._offered.pop(node, None)
        wanted = dict.fromkeys(node for node in chain(offered, hosts) if node in hosts and node != self._settings.node)
        return {node: hosts[node] for node in islice(wanted, _AT_ONCE)}

    def _probe(self, node: str, host: str, answered: dict[str, bool]) -> None:
        store = self._stores.get(host) or self._stores.setdefault(host, self._store(host))
        try:
            store.ping()
            answered[node] = True
        except StoreUnavailable:
            answered[node] = False

    def _store(self, host: str) -> Store:
        settings = self._settings
        return Store(host, settings.redis_port, settings.password, min(_TIMEOUT_S, settings.store_timeout_s))

    def _log_changes(self, before: Mapping[str, float]) -> None:
        for node in self._suspects.keys() - before.keys():
            log.warning("node %s failed its health probe: it gets neither state nor events", node)
        for node in before.keys() - self._suspects.keys():
            log.info("node %s is no longer suspect", node)

    def _publish(self) -> None:
        suspects = self._suspects
        lasts_ms = int(_ROUNDS_KEPT * max(self._settings.probe_period_s, _LONGEST_ROUND_S) * 1000)

        def write(client: RedisClient) -> None:
            with client.pipeline() as pipeline:
                pipeline.delete(SUSPECTS)
                if suspects:
                    pipeline.hset(SUSPECTS, mapping={node: f"{since_s:.3f}" for node, since_s in suspects.items()})
                    pipeline.pexpire(SUSPECTS, lasts_ms)
                pipeline.execute()

        try:
            self._local.run(write)
        except StoreUnavailable as error:
            log.warning("suspects are not told to this node's functions: %s", error)
