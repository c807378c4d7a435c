"""Handovers of a node: its anchored memories go where they belong, driven by the tick and by deadlines.

Runs as a thread of elect. A memory belongs on the satellite above the ground area. While that is this node, the
next one gets a copy shortly before the epoch ends; at the tick the rest follows and the ownership is switched.
Where the path to the next node ends with the epoch, the switch comes before the tick (schedule.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from libskylark.clock import Clock, Ticks
from libskylark.config import NodeSettings
from libskylark.election import ElectionTable
from libskylark.errors import NoRoute, SkylarkError
from libskylark.handover import Handover, Moved, hand_over
from libskylark.jobs import MoveRecord, encode, encode_move
from libskylark.memory import MemoryName, Owner
from libskylark.metrics import new_registry
from libskylark.ownership import Ownership, owned_memories
from libskylark.policy import Candidate
from libskylark.services.completed import Completed
from libskylark.services.metrics import ElectMetrics
from libskylark.services.schedule import Plan, fits, plan
from libskylark.store import Stores

log = logging.getLogger("skylark.handovers")

_AT_ONCE: Final = 4  # memories that are moved side by side
_RETRY_S: Final = (0.25, 1.0)  # the first pause after a failure, and the longest
_LOOK_S: Final = 1.0  # how soon a memory that came meanwhile is seen, or an eighth of an epoch where that is shorter

Tables = Callable[[int], ElectionTable]
"""What elect knows of an epoch; raises ElectionError."""


class Handovers:
    """Moves this node's anchored memories to whom they belong; `start` and `stop` its thread."""

    def __init__(
        self,
        settings: NodeSettings,
        stores: Stores,
        ownership: Ownership,
        tables: Tables,
        clock: Clock,
        metrics: ElectMetrics | None = None,
    ) -> None:
        self._here = settings.node
        self._metrics = metrics or ElectMetrics(new_registry(), settings.node)
        self._stores = stores
        self._ownership = ownership
        self._tables = tables
        self._clock = clock
        self._ticks = Ticks(settings.tick_s)
        self._begun: dict[tuple[MemoryName, str], _Begun] = {}
        self._running: dict[MemoryName, Future[float]] = {}
        self._due_s: dict[MemoryName, float] = {}  # when a memory is to be looked at again
        self._failures: dict[MemoryName, tuple[int, str]] = {}  # how often in a row, and why the last time
        self._renewed: dict[MemoryName, int] = {}  # the epoch in which the register was last told that it stays
        self._wake = threading.Event()
        self._poked = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="handovers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a step that is under way may end first."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def poke(self) -> None:
        """Looks at all memories now: a tick has come."""
        self._poked = True
        self._wake.set()

    def _run(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="handover") as pool:
            while not self._stopped:
                wait_s = _RETRY_S[0]
                try:
                    wait_s = self._begin(pool)
                except SkylarkError as error:
                    log.warning("handovers wait: %s", error)
                except Exception:  # a fault of ours must not be the end of all handovers
                    log.exception("handovers failed")
                self._wake.wait(wait_s)
                self._wake.clear()

    def _begin(self, pool: ThreadPoolExecutor) -> float:
        """Begins what is due; the seconds until there may be more."""
        owners = owned_memories(self._stores.local)
        now_s = self._clock.now_s()
        if self._poked:
            self._poked, self._due_s = False, {}
        for name, future in [*self._running.items()]:
            if future.done():
                self._due_s[name] = now_s + future.result()
                del self._running[name]
        for name in owners:
            if name not in self._running and self._due_s.get(name, 0.0) <= now_s:
                future = self._running[name] = pool.submit(self.advance, name, owners[name])
                future.add_done_callback(lambda _: self._wake.set())
        self._due_s = {name: due_s for name, due_s in self._due_s.items() if name in owners}
        waiting_s = [due_s - now_s for name, due_s in self._due_s.items() if name not in self._running]
        return max(0.0, min([*waiting_s, self._until_tick_s(now_s), _LOOK_S, self._ticks.tick_s / 8]))

    def advance(self, name: MemoryName, owner: Owner) -> float:
        """Does what is due for one memory; the seconds until it should be looked at again. Raises nothing."""
        try:
            wait_s = self._advance(name, owner)
        except SkylarkError as error:
            return self._failed(name, str(error))
        except Exception as error:  # a fault of ours: the other memories still have to move
            log.exception("memory %s: the handover failed within elect", name)
            return self._failed(name, repr(error))
        self._failures.pop(name, None)
        return wait_s

    def _failed(self, name: MemoryName, reason: str) -> float:
        """The pause before the next try; what is said once is not said again and again."""
        failures, said = self._failures.get(name, (0, ""))
        if reason != said:
            log.warning("memory %s stays where it is for now: %s", name, reason)
        self._failures[name] = (failures + 1, reason)
        self._metrics.count_handover("failed")
        shortest_s, longest_s = _RETRY_S
        return min(longest_s, shortest_s * (failures + 1))

    def _advance(self, name: MemoryName, owner: Owner) -> float:
        epoch, now_s = self._ticks.epoch_at(self._clock.now_s()), self._clock.now_s()
        if owner.phase == "moved":
            self._of(name, owner.node).handover.register(self._ownership, owner.epoch)
            self._metrics.count_handover("registered")
            self._begun.pop((name, owner.node), None)
        elif owner.phase == "leaving":
            table = self._tables(epoch)
            if owner.node in table.view.topology.nodes:
                self._switch(name, table.candidate(owner.node), owner.epoch + 1)
            elif owner.node in {node.name for node in table.view.absent}:
                # It may have taken the memory over before it went: what is begun can only be ended with it.
                raise NoRoute(f"it is on its way to {owner.node}, which is not ready")
            else:
                log.warning("memory %s was to go to %s, which is no node any more: it stays", name, owner.node)
                self._ownership.keep(name, owner.node)
        elif owner.phase == "owned":
            return self._look_ahead(name, owner, epoch)
        return self._until_tick_s(now_s)

    def _look_ahead(self, name: MemoryName, owner: Owner, epoch: int) -> float:
        table, following = self._tables(epoch), self._tables(epoch + 1)
        now_s = self._clock.now_s()
        planned = self._plan(name, owner, now_s, table, following)
        if planned is None:
            self._renew(name, owner, epoch)
            return self._until_tick_s(now_s)
        if now_s < planned.copy_at_s:
            return planned.copy_at_s - now_s
        begun = self._of(name, planned.candidate.node)
        if not begun.copy_ms:  # further copies only bring it up to date
            self._metrics.count_handover("copied")
        begun.copy()
        now_s = self._clock.now_s()
        if not fits(planned.candidate, begun.handover.size_bytes(), now_s):
            raise NoRoute(f"it cannot reach {planned.candidate.node} before contact is lost")
        if now_s < planned.switch_at_s:
            return planned.switch_at_s - now_s
        self._switch(name, planned.candidate, planned.epoch)
        return self._until_tick_s(now_s)

    def _plan(
        self, name: MemoryName, owner: Owner, now_s: float, table: ElectionTable, following: ElectionTable
    ) -> Plan | None:
        target = table.view.access if table.view.access != table.here else following.view.access
        if target == table.here:
            return None
        size_bytes = self._of(name, target).handover.size_bytes()
        return plan(name.function, size_bytes, owner.epoch, now_s, table, following, self._ticks)

    def _renew(self, name: MemoryName, owner: Owner, epoch: int) -> None:
        """Tells the register, once an epoch, of a memory that stays: a register that was lost is whole again soon."""
        if self._renewed.get(name) != epoch:
            self._renewed[name] = epoch
            with suppress(SkylarkError):  # another epoch will do
                self._ownership.renew(name, owner)

    def _switch(self, name: MemoryName, candidate: Candidate, epoch: int) -> None:
        begun = self._of(name, candidate.node)
        started_s = time.perf_counter()
        records: list[MoveRecord] = []

        def told(moved: Moved) -> tuple[str, str]:
            copied_bytes = begun.copied_bytes + moved.copied_bytes
            measured_ms = begun.copy_ms + (time.perf_counter() - started_s) * 1000
            done = Completed(name, self._here, candidate, moved, copied_bytes, measured_ms, self._clock.now_s())
            records.append(done.record())
            return encode(done.event()), encode_move(records[-1])

        moved = hand_over(begun.handover, epoch, told)
        self._begun.pop((name, candidate.node), None)
        for record in records[-1:]:
            self._metrics.note_move(record)
        self._metrics.count_handover("switched")
        log.info("memory %s is on %s from epoch %d on", name, candidate.node, moved.epoch)
        begun.handover.register(self._ownership, moved.epoch)
        self._metrics.count_handover("registered")

    def _of(self, name: MemoryName, target: str) -> _Begun:
        if (name, target) not in self._begun:
            handover = Handover(name, self._here, target, self._stores.local, self._stores.of(target))
            self._begun[name, target] = _Begun(handover)
        return self._begun[name, target]

    def _until_tick_s(self, now_s: float) -> float:
        return self._ticks.ends_s(self._ticks.epoch_at(now_s)) - now_s


class _Begun:
    """A handover that is under way, with what its copies took so far."""

    def __init__(self, handover: Handover) -> None:
        self.handover = handover
        self.copied_bytes = 0
        self.copy_ms = 0.0

    def copy(self) -> None:
        started_s = time.perf_counter()
        self.copied_bytes += self.handover.copy()
        self.copy_ms += (time.perf_counter() - started_s) * 1000
