"""The collector: threads that follow the stores of all nodes, once for all viewers, and bring a View what they read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from libskylark.clock import Clock, Ticks
from libskylark.constellation import Constellation
from libskylark.dashboard.findings import Findings
from libskylark.dashboard.places import look
from libskylark.dashboard.view import View
from libskylark.errors import CodecError, LabError, StoreUnavailable
from libskylark.event import Event
from libskylark.eventing.journal import FIRST, KEY, Accepted, as_text, read_journal
from libskylark.eventing.journey import Step
from libskylark.jobs import read_moves_after
from libskylark.lab.link_server import LabLinks
from libskylark.store import Store

log = logging.getLogger("skylark.dashboard")

_BLOCK_S: Final = 5.0  # how long one look at a journal waits for news
_PACE_S: Final = 0.2  # between two looks at a busy journal: what came meanwhile is read in one go
_SILENCE_S: Final = 1.0  # before a store that does not answer is asked again
_BEGIN_RECORDS: Final = 400  # of each journal that are read at the start
_LOOK_S: Final = 1.0
_HANDOVER_LOOK_S: Final = 0.25  # while a memory is about to change hands
_HANDOVER_LEAD_S: Final = 2.2  # before a tick: copies begin two seconds ahead, where the epoch is that long
_MOVES_READ: Final = 500  # at once; a store keeps the last 2000


class Collector:
    """Only reads the nodes' Redis, past the links: streams, hashes, names of keys. `start` begins, `close` ends it."""

    def __init__(
        self,
        constellation: Constellation,
        ticks: Ticks,
        stores: Mapping[str, Store],
        view: View,
        findings: Findings,
        clock: Clock,
        links: LabLinks | None = None,
    ) -> None:
        self._constellation = constellation
        self._ticks = ticks
        self._stores = stores
        self._view = view
        self._findings = findings
        self._clock = clock
        self._links = links
        self._last_moves: dict[str, str] = {}
        self._leaving = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the threads; in the process that serves, since threads do not survive a fork."""
        jobs: dict[str, Callable[[], None]] = {"looks": self._look_around, "ticks": self._follow_ticks}
        for node, store in self._stores.items():
            jobs[f"journal-{node}"] = partial(self._follow, node, store)
        for name, job in jobs.items():
            thread = threading.Thread(target=self._guarded, args=(name, job), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Ends the threads; those that wait for news of a store end when it has some, or after five seconds."""
        self._leaving.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, name: str, job: Callable[[], None]) -> None:
        while not self._leaving.is_set():
            try:
                job()
            except Exception:  # a fault of ours must not be the end of all news
                log.exception("%s failed", name)
                self._leaving.wait(_SILENCE_S)

    def _follow(self, node: str, store: Store) -> None:
        """Body of a journal's thread."""
        position = ""
        while not self._leaving.is_set():
            try:
                position = position or store.run(_beginning)
                records = store.wait(_reader(position), _BLOCK_S)
            except StoreUnavailable:
                self._leaving.wait(_SILENCE_S)
                continue
            for position, record in records:  # noqa: B007  # the last position is where the next look starts
                step = Step(node, record)
                cause = self._view.take(step)
                if cause is not None and isinstance(record, Accepted):
                    self._find(step, record, cause)
            if records:
                self._leaving.wait(_PACE_S)

    def _find(self, step: Step, record: Accepted, cause: Event) -> None:
        try:
            answer = self._findings.look_up(step.node, record, cause)
        except StoreUnavailable as error:
            log.info("event %s cannot be looked up: %s", record.event, error)
            return
        if answer is not None:
            self._view.take_answer(step, answer)

    def _look_around(self) -> None:
        """Body of the looks: at all nodes once a second, more often at those between which memory goes at the time."""
        due_s = self._clock.now_s()
        while not self._leaving.is_set():
            now_s = self._clock.now_s()
            epoch = self._ticks.epoch_at(now_s)
            if now_s >= due_s:
                due_s = now_s + _LOOK_S
                for node in self._stores:
                    self._look_at(node)
                self._look_at_links()
            elif self._is_near_a_tick(now_s, epoch):
                for node in dict.fromkeys(self._constellation.access(epoch + ahead) for ahead in (-1, 0, 1)):
                    self._look_at(node)
            self._view.tell_changes()
            self._leaving.wait(_HANDOVER_LOOK_S)

    def _is_near_a_tick(self, now_s: float, epoch: int) -> bool:
        into_s = now_s - self._ticks.starts_s(epoch)
        return into_s < 2 * _HANDOVER_LOOK_S or self._ticks.tick_s - into_s < _HANDOVER_LEAD_S

    def _look_at(self, node: str) -> None:
        store = self._stores[node]
        try:
            held = look(store)
            self._view.take_look(node, held)
            if held.last_move != self._last_moves.get(node, FIRST):
                moves = read_moves_after(store, self._last_moves.get(node, FIRST), _MOVES_READ)
                self._last_moves[node] = moves[-1][0] if moves else held.last_move
                self._view.take_moves([record for _, record in moves])
        except (StoreUnavailable, CodecError) as error:
            self._view.take_look(node, None, str(error))

    def _look_at_links(self) -> None:
        if self._links is None:
            return
        try:
            links, pairs = self._links.links(), self._links.status()
        except LabError as error:
            log.info("the links cannot be looked at: %s", error)
            return
        self._view.take_links(links, pairs)

    def _follow_ticks(self) -> None:
        """Body of the ticks' thread."""
        known = self._ticks.epoch_at(self._clock.now_s())
        while not self._leaving.is_set():
            now_s = self._clock.now_s()
            epoch = self._ticks.epoch_at(now_s)
            if epoch != known:
                known = epoch
                self._view.enter(epoch)
            self._leaving.wait(max(0.001, self._ticks.ends_s(epoch) - now_s))


def _beginning(client: Any) -> str:
    """The position of the journal's record with which the page begins."""
    last = client.xrevrange(KEY, count=_BEGIN_RECORDS)
    return as_text(last[-1][0]) if len(last) == _BEGIN_RECORDS else FIRST


def _reader(position: str) -> Callable[[Any], Any]:
    return lambda client: read_journal(client, position, int(_BLOCK_S * 1000))
