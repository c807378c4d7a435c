"""The one task that changes the stream, and what this process knows of it: batches, each stored whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from libskylark.errors import StoreUnavailable, StreamFull
from libskylark.eventing.adopting import Adoption
from libskylark.eventing.backlog import Backlog
from libskylark.eventing.committing import Committer
from libskylark.eventing.entry import Entry, NewEntry, partition_of
from libskylark.eventing.keys import Caps
from libskylark.eventing.membership import Membership
from libskylark.eventing.resident import Resident
from libskylark.eventing.writes import Write, unreadable_operations

_LOOK_S: Final = 1.0  # how often the other dispatchers are looked after
_BACKOFF_S: Final = (0.05, 2.0)  # first and longest wait before Redis is tried again
_FENCED: Final = "FENCED"

log = logging.getLogger("skylark.broker")


class Writer:
    """Stores what callers put, and adopts into `resident` what becomes this dispatcher's.

    The callbacks are those of the Stream. While Redis is away, the event `opened` is not set.
    """

    def __init__(
        self,
        address: str,
        membership: Membership,
        resident: Resident,
        caps: Caps,
        on_entry: Callable[[Entry], None],
        on_replaced: Callable[[], None],
        on_failed: Callable[[], None],
    ) -> None:
        self.address = address
        self.opened = asyncio.Event()
        self.why = "not connected yet"
        self.backlog = Backlog()
        self.committer = Committer(address, membership, caps)
        self._membership = membership
        self._resident = resident
        self._adoption = Adoption(membership, resident, on_entry)
        self._on_replaced = on_replaced
        self._on_failed = on_failed
        self._batch = 0
        self._uncertain: list[Write] = []  # sent in the last batch, with no answer
        self._standing: list[Any] = []
        self._wake = asyncio.Event()
        self._nudged = False  # another dispatcher has stored something for this one
        self._look_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._joined = ""  # the name under which the stream was found as it is, and others are listened to
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        writer = asyncio.create_task(self._run())
        writer.add_done_callback(self._ended)
        self._tasks = [writer]

    async def stop(self) -> None:
        """Stores what is still waiting to be, if Redis is there."""
        waiting = [write.stored for write in [*self._uncertain, *self.backlog] if not write.stored.done()]
        if self.opened.is_set() and waiting:
            await asyncio.wait(waiting, timeout=2.0)
        if self._timer is not None:
            self._timer.cancel()
        await self.abort()

    async def abort(self) -> None:
        """Ends at once; what is not stored is lost."""
        running = set(self._tasks)
        while running:  # a cancellation that meets an answer of Redis gets lost in its client
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.2)

    def put(
        self,
        operations: list[Any],
        added: list[NewEntry],
        size_bytes: int,
        lasting: bool,
        finished: Entry | None = None,
    ) -> asyncio.Future[list[str]]:
        """Stores operations with the next batch; gives the ids of what they add.

        One that is `lasting` waits for Redis; another one fails, with StoreUnavailable when Redis does and with
        StreamFull when its memory is short.
        """
        stored: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.backlog.append(Write(operations, added, stored, size_bytes, lasting, finished))
        self._wake.set()
        return stored

    def stand(self, operations: list[Any]) -> None:
        """Stores operations that may be repeated, before all that is put from now on; and anew whenever Redis was away.

        They stand in for those of an earlier call.
        """
        self._standing = operations
        if self.opened.is_set():
            self.put(operations, [], 0, lasting=True)

    async def _run(self) -> None:
        wait_s = _BACKOFF_S[0]
        while True:
            try:
                if not self.opened.is_set():
                    await self._recover()
                    wait_s = _BACKOFF_S[0]
                await self._wake.wait()
                self._wake.clear()
                while self._has_work:
                    if self._look_due:
                        await self._look()
                    # Be it empty: it tells of a message that was lost, and of having been replaced.
                    await self._flush()
                    if self._adoption.is_under_way:
                        await self._adopt_page()
            except (RedisError, OSError) as error:
                was_open, is_fenced = self.opened.is_set(), isinstance(error, ResponseError) and _FENCED in str(error)
                self._close(error)
                if is_fenced and not was_open:
                    self._begin_anew()
                elif not is_fenced:  # else Redis may have lost its data meanwhile, which joining will tell
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _BACKOFF_S[1])

    @property
    def _has_work(self) -> bool:
        return bool(self.backlog) or self._nudged or self._look_due or self._adoption.is_under_way

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.opened.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.why = f"the writer failed: {error!r}"
            log.critical("the writer of the stream failed, no event is taken any more", exc_info=error)
            self._fail_passing()
            self._on_failed()

    async def _flush(self) -> None:
        """Stores what waits, up to the size of a batch, and hands the new entries on."""
        batch = self.backlog.take()
        self._batch += 1
        self._uncertain = batch
        self._nudged = False
        try:
            handed, added = await self.committer.commit(self._batch, batch)
        except ResponseError as error:  # Redis answered, and stored nothing
            self._uncertain = []
            self.backlog.put_first(batch)
            if not isinstance(error, OutOfMemoryError):
                raise
            # What need not last waits no longer, so that the rest is stored.
            self.backlog.fail_passing(StreamFull(f"Redis at {self.address} has no memory left"))
            return
        self._adoption.expect(handed)  # all of it was stored before this batch, and may be of the same partitions
        self._uncertain = []
        ids = iter(added)
        for write in batch:
            self._finish(write, [next(ids) if new.triggers else "" for new in write.added])

    def _finish(self, write: Write, ids: list[str]) -> None:
        for new, entry_id in zip(write.added, ids, strict=True):
            if entry_id and not entry_id.startswith(">"):  # with it, another dispatcher has the entry
                content = new.content
                partition, triggers = partition_of(content.event), set(new.triggers)
                self._adoption.add(Entry(entry_id, partition, triggers, content, content.size_bytes))
        if write.finished is not None:
            self._resident.remove(write.finished)
        if not write.stored.done():
            write.stored.set_result(ids)

    async def _adopt_page(self) -> None:
        for each in await self._adoption.next_page():
            self.put(unreadable_operations(each.id, each.partition), [], 0, lasting=True)

    def _close(self, error: Exception) -> None:
        """Redis is away: fail what may fail, keep what must last."""
        if self.opened.is_set():
            log.warning("Redis at %s is away (%s); %d events wait", self.address, error, len(self._resident.entries))
        self.opened.clear()
        self.why = str(error) or type(error).__name__
        self._fail_passing()

    def _fail_passing(self) -> None:
        """Whoever waits for what may fail is told."""
        unavailable = StoreUnavailable(self.address, self.why)
        for write in self._uncertain:
            write.fail_passing(unavailable)
        self.backlog.fail_passing(unavailable)

    def _begin_anew(self) -> None:
        """Everything of this dispatcher is another one's now; what it had not stored yet is of no use any more."""
        events = len(self._resident.entries)
        log.warning("%s: another dispatcher has taken over the %d events of this one", self.address, events)
        self._resident.clear()
        self._adoption.give_up()
        for write in [*self._uncertain, *self.backlog]:
            if not write.stored.done():
                write.stored.set_result([])
        self._uncertain, self._batch = [], 0
        self.backlog.clear()
        self._membership.renew()
        self._on_replaced()

    async def _recover(self) -> None:
        """Joins the dispatchers, and finds out what became of the last batch; adopts what it does not know later."""
        new = self._joined != self._membership.name
        if await self.committer.join() == self._batch:
            for write in self._uncertain:  # it was stored, only the answer was lost; its entries are found below
                if write.lasting:
                    self._finish(Write([], [], write.stored, 0, True, write.finished), [])
        else:
            self.backlog.put_first(write for write in self._uncertain if write.lasting)
        self._uncertain = []
        await self._membership.take_over(at_once=new)
        self._adoption.begin()
        if self._standing:
            stored: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            self.backlog.put_first([Write(self._standing, [], stored, 0, True)])
        if new:
            self._listen()
            self._joined = self._membership.name
        events = await self._membership.count_pending()
        self.opened.set()
        self._wake.set()
        if not new or events:
            log.info("Redis at %s is there; %d events found waiting", self.address, events)
        self._look_later()

    async def _look(self) -> None:
        """Takes over from dispatchers that are gone."""
        self._look_due = False
        if taken := await self._membership.take_over(at_once=False):
            log.warning("%s: took over %d events of a dispatcher that is gone", self.address, taken)
            self._adoption.begin()
        self._look_later()

    def _look_later(self) -> None:
        def due() -> None:
            self._look_due = True
            self._wake.set()

        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, due)

    def _listen(self) -> None:
        def nudge() -> None:
            self._nudged = True
            self._wake.set()

        for listener in self._tasks[1:]:
            listener.cancel()
        self._tasks[1:] = [asyncio.create_task(self._membership.listen(nudge))]
