"""The mover: one per node, it does what the node's functions have put on its queue (jobs.py), until it is done.

Queue and bundles are in the node's Redis, and every job may be done twice: a mover that is killed loses nothing, the
next one begins at the queue's first entry.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Thread, current_thread
from threading import Event as Signal
from typing import Any, Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from libskylark.clock import Clock
from libskylark.errors import BrokerUnavailable, CodecError, ElectionError, StoreUnavailable
from libskylark.event import Event
from libskylark.jobs import JOBS, Emit, Job, MoveRecord, Push, decode, record_move
from libskylark.store import RedisClient, Stores
from libskylark.transfer import Pointless, Transfers

log = logging.getLogger("skylark.mover")

_BLOCK_S: Final = 0.5  # how long a read of the queue waits for entries, and so how long stop() may take
_BATCH: Final = 100
# Jobs for one target under way: while one push waits for its answer, the next one keeps the link busy. Events go to the
# node's own broker one by one, in their order.
_AT_ONCE: Final = 2
_PAUSES_S: Final = wait_exponential(multiplier=0.05, max=2.0)
_PASSING: Final = (StoreUnavailable, ElectionError, BrokerUnavailable)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the queue; its id begins with the time, in ms by Redis' clock, at which it was added."""

    id: str
    job: Job

    @property
    def queued_ms(self) -> int:
        return int(self.id.split("-")[0])

    @property
    def target(self) -> str:
        """The node whose failing holds the job up; a name that no node has stands for the node's own broker."""
        return "" if isinstance(self.job, Emit) else self.job.to if isinstance(self.job, Push) else self.job.at


@dataclass
class _Target:
    """What waits to be done for one target, in order, and the threads that do it; `busy` is how many of them."""

    waiting: deque[_Entry] = field(default_factory=deque)
    threads: list[Thread] = field(default_factory=list)
    busy: int = 0


class Mover:
    """Reads the queue in one thread, and works in others for each target, so that a dead target delays no other.

    `post_event` hands an event to the node's own broker; it raises BrokerUnavailable where that should be tried
    again, SendError where it never can be. `on_move` hears of every push that has ended. A target's threads end
    when they had nothing to do for `idle_s`.
    """

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        post_event: Callable[[Event], None],
        on_move: Callable[[MoveRecord], None] = lambda _: None,
        idle_s: float = 30.0,
    ) -> None:
        self._store = stores.local
        self._transfers = Transfers(stores, clock, post_event)
        self._on_move = on_move
        self._idle_s = idle_s
        self._stopped = Signal()
        self._changed = Condition()
        self._targets: dict[str, _Target] = {}
        self._pending: set[str] = set()
        self._last = "0"
        self._reader: Thread | None = None
        self._retrying = Retrying(
            retry=retry_if_exception_type(_PASSING),
            wait=_PAUSES_S,
            stop=stop_when_event_set(self._stopped),
            sleep=sleep_using_event(self._stopped),
            before_sleep=_log_retry,
            reraise=True,
        )

    def start(self) -> None:
        """Begins with the queue's first entry; does nothing where the mover runs already."""
        if self._reader is None:
            self._stopped.clear()
            self._last = "0"
            self._reader = Thread(target=self._read_queue, name="mover", daemon=True)
            self._reader.start()

    def stop(self) -> None:
        """Ends all threads after what they are just sending; what is undone stays on the queue."""
        if self._reader is None:
            return
        self._stopped.set()
        self._reader.join()
        with self._changed:
            self._changed.notify_all()
            threads = [thread for target in self._targets.values() for thread in target.threads]
        for thread in threads:
            thread.join()
        self._targets.clear()
        self._pending.clear()
        self._reader = None

    def pending(self) -> dict[str, int]:
        """How many jobs wait or are being done, by target node; "" stands for the node's own broker."""
        with self._changed:
            counts = {name: len(target.waiting) + target.busy for name, target in self._targets.items()}
            return {name: count for name, count in counts.items() if count}

    def _read_queue(self) -> None:
        while not self._stopped.is_set():
            with suppress(StoreUnavailable):  # raised where stop() ends the tries
                self._retrying(self._read_batch)

    def _read_batch(self) -> None:
        def read(client: RedisClient) -> Any:
            return client.xread({JOBS: self._last}, count=_BATCH, block=int(_BLOCK_S * 1000))

        try:
            for _, entries in self._store.wait(read, _BLOCK_S):
                for entry_id, fields in entries:
                    self._take(entry_id.decode(), fields)
                    self._last = entry_id.decode()
        except StoreUnavailable:
            self._last = "0"  # a Redis that lost its disk may count anew; what is pending is known by its id
            raise

    def _take(self, entry_id: str, fields: dict[bytes, bytes]) -> None:
        try:
            entry = _Entry(entry_id, decode(fields.get(b"job", b"")))
        except CodecError as error:
            log.error("entry %s of %s is dropped: %s", entry_id, JOBS, error)
            self._delete(entry_id)
            return
        with self._changed:
            if entry.id in self._pending:
                return
            self._pending.add(entry.id)
            target = self._targets.setdefault(entry.target, _Target())
            target.waiting.append(entry)
            if target.busy + len(target.waiting) > len(target.threads) < (_AT_ONCE if entry.target else 1):
                thread = Thread(target=self._work, args=(entry.target,), name=f"mover-{entry.target}", daemon=True)
                target.threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def _work(self, name: str) -> None:
        target = self._targets[name]
        with suppress(*_PASSING):  # raised where stop() ends the tries: the entry stays on the queue
            while (entry := self._next(name, target)) is not None:
                self._finish(entry)
                with self._changed:
                    target.busy -= 1
                    self._pending.discard(entry.id)

    def _next(self, name: str, target: _Target) -> _Entry | None:
        with self._changed:
            self._changed.wait_for(lambda: target.waiting or self._stopped.is_set(), self._idle_s)
            if target.waiting and not self._stopped.is_set():
                target.busy += 1
                return target.waiting.popleft()
            if not self._stopped.is_set():
                target.threads.remove(current_thread())
                if not target.threads:
                    del self._targets[name]
            return None

    def _finish(self, entry: _Entry) -> None:
        """Returns once the entry is off the queue: done, or dropped."""
        record: MoveRecord | None = None
        try:
            record = self._retrying(self._transfers.perform, entry.job, entry.queued_ms)
        except Pointless as error:
            log.warning("job %s is dropped: %s", entry.id, error)
        except _PASSING:
            raise
        except Exception:  # a fault of ours must not hold up all jobs behind it; readers still find the origin's copy
            log.exception("job %s is dropped: %r", entry.id, entry.job)
        # Of two movers on one queue, one deletes the entry, and that one records the move.
        if self._retrying(self._delete, entry.id) and record is not None:
            self._on_move(record)
            self._retrying(record_move, self._store, record)

    def _delete(self, entry_id: str) -> bool:
        return bool(self._store.run(lambda client: client.xdel(JOBS, entry_id)))


def _log_retry(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome else None
    log.warning("try %d failed, there will be another: %s", attempt.attempt_number, error)
