"""The one task that changes the stream, and what this process knows of it: batches, each stored whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from libskylark.errors import StoreUnavailable
from libskylark.eventing import journal
from libskylark.eventing.entry import Entry, NewEntry, partition_of, unpack
from libskylark.eventing.keys import COMMIT_KEYS, DONE, EVENTS, GROUP
from libskylark.eventing.membership import Membership, script
from libskylark.eventing.resident import Resident
from libskylark.eventing.writes import Write

_DEAD_LETTERS_CAP: Final = 10_000
_BATCH_WRITES: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024
_READ_ENTRIES: Final = 32  # at once: each may hold a picture
_LOOK_S: Final = 1.0  # how often the other dispatchers are looked after
_BACKOFF_S: Final = (0.05, 2.0)  # first and longest wait before Redis is tried again
_FENCED: Final = "FENCED"

log = logging.getLogger("skylark.broker")


class Writer:
    """Stores what callers put, and adopts into `resident` what becomes this dispatcher's.

    `on_entry` and `on_replaced` are those of the Stream. While Redis is away, the event `opened` is not set.
    """

    def __init__(
        self,
        address: str,
        membership: Membership,
        resident: Resident,
        on_entry: Callable[[Entry], None],
        on_replaced: Callable[[], None],
    ) -> None:
        self.address = address
        self.opened = asyncio.Event()
        self.why = "not connected yet"
        self._redis = membership.redis
        self._membership = membership
        self._resident = resident
        self._on_entry = on_entry
        self._on_replaced = on_replaced
        self._batch = 0
        self._uncertain: list[Write] = []  # sent in the last batch, with no answer
        self._queue: deque[Write] = deque()
        self._standing: list[Any] = []
        self._wake = asyncio.Event()
        self._nudged = False  # another dispatcher has stored something for this one
        self._look_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._sha = ""
        self._joined = ""  # the name under which the stream was found as it is, and others are listened to
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def queued(self) -> int:
        """How many writes wait for the next batch."""
        return len(self._queue)

    def start(self) -> None:
        writer = asyncio.create_task(self._run())
        writer.add_done_callback(self._ended)
        self._tasks = [writer]

    async def stop(self) -> None:
        """Stores what is still waiting to be, if Redis is there."""
        waiting = [write.stored for write in [*self._uncertain, *self._queue] if not write.stored.done()]
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
        self, operations: list[Any], added: list[NewEntry], lasting: bool, finished: Entry | None = None
    ) -> asyncio.Future[list[str]]:
        """Stores operations with the next batch; gives the ids of what they add.

        One that is `lasting` waits for Redis; another one fails with StoreUnavailable when Redis does.
        """
        size = sum(len(new.content.event.data) for new in added)
        stored: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._queue.append(Write(operations, added, stored, size, lasting, finished))
        self._wake.set()
        return stored

    def stand(self, operations: list[Any]) -> None:
        """Stores operations that may be repeated, before all that is put from now on; and anew whenever Redis was away.

        They stand in for those of an earlier call.
        """
        self._standing = operations
        if self.opened.is_set():
            self.put(operations, [], lasting=True)

    async def _run(self) -> None:
        wait_s = _BACKOFF_S[0]
        while True:
            try:
                if not self.opened.is_set():
                    await self._recover()
                    wait_s = _BACKOFF_S[0]
                await self._wake.wait()
                self._wake.clear()
                if self._look_due:
                    await self._look()
                while self._queue or self._nudged:
                    await self._flush()
            except (RedisError, OSError) as error:
                self._close(error)
                if isinstance(error, ResponseError) and _FENCED in str(error):
                    self._begin_anew()
                else:
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _BACKOFF_S[1])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.opened.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.why = f"the writer failed: {error!r}"
            log.critical("the writer of the stream failed, no event is taken any more", exc_info=error)

    async def _flush(self) -> None:
        """Stores what waits, up to the size of a batch, and hands the new entries on."""
        batch, size = list[Write](), 0
        while self._queue and len(batch) < _BATCH_WRITES and size < _BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += batch[-1].size_bytes
        self._batch += 1
        self._uncertain = batch
        self._nudged = False
        member = self._membership
        arguments: list[Any] = [member.name, member.session, self._batch, journal.CAP, _DEAD_LETTERS_CAP]
        for write in batch:
            arguments += write.operations
        try:
            handed, *ids = await self._redis.evalsha(self._sha, len(COMMIT_KEYS), *COMMIT_KEYS, *arguments)
        except ResponseError:  # Redis answered, and stored nothing
            self._queue.extendleft(reversed(batch))
            self._uncertain = []
            raise
        if handed:  # all of it was stored before this batch, and may be of the same partitions
            await self._adopt_stored([journal.as_text(entry_id) for entry_id in handed])
        self._uncertain = []
        answers = iter(ids)
        for write in batch:
            self._finish(write, [journal.as_text(next(answers)) if new.triggers else "" for new in write.added])

    def _finish(self, write: Write, ids: list[str]) -> None:
        for new, entry_id in zip(write.added, ids, strict=True):
            if entry_id and not entry_id.startswith(">"):  # with it, another dispatcher has the entry
                content = new.content
                self._adopt(Entry(entry_id, partition_of(content.event), set(new.triggers), content))
        if write.finished is not None:
            self._resident.remove(write.finished)
        if not write.stored.done():
            write.stored.set_result(ids)

    def _adopt(self, entry: Entry) -> None:
        self._resident.add(entry)
        self._on_entry(entry)

    async def _adopt_stored(self, ids: Iterable[str]) -> None:
        """Adopts entries that are stored for this dispatcher, and that it does not know yet, in their order."""
        unknown = [entry_id for entry_id in ids if entry_id not in self._resident.entries]
        done = {journal.as_text(name) for name in await self._redis.hkeys(DONE)} if unknown else set()
        for start in range(0, len(unknown), _READ_ENTRIES):
            some = unknown[start : start + _READ_ENTRIES]
            async with self._redis.pipeline(transaction=False) as pipeline:
                for entry_id in some:
                    pipeline.xrange(EVENTS, entry_id, entry_id)
                answers = await pipeline.execute()
            for entry_id, found in zip(some, answers, strict=True):
                if (entry := _read(entry_id, found, done)) is not None:
                    self._adopt(entry)
                else:  # whatever it is, it stays where it is, and is nobody's to deliver
                    await self._redis.xack(EVENTS, GROUP, entry_id)

    def _close(self, error: Exception) -> None:
        """Redis is away: fail what may fail, keep what must last."""
        if self.opened.is_set():
            log.warning("Redis at %s is away (%s); %d events wait", self.address, error, len(self._resident.entries))
        self.opened.clear()
        self.why = str(error) or type(error).__name__
        for write in [*self._uncertain, *self._queue]:
            if not write.lasting and not write.stored.done():
                write.stored.set_exception(StoreUnavailable(self.address, self.why))
        self._queue = deque(write for write in self._queue if write.lasting)

    def _begin_anew(self) -> None:
        """Everything of this dispatcher is another one's now; what it had not stored yet is of no use any more."""
        events = len(self._resident.entries)
        log.warning("%s: another dispatcher has taken over the %d events of this one", self.address, events)
        self._resident.clear()
        for write in [*self._uncertain, *self._queue]:
            if not write.stored.done():
                write.stored.set_result([])
        self._uncertain, self._batch = [], 0
        self._queue.clear()
        self._membership.renew()
        self._on_replaced()

    async def _recover(self) -> None:
        """Joins the dispatchers, finds out what became of the last batch, and adopts the entries not known yet."""
        new = self._joined != self._membership.name
        self._sha = await self._redis.script_load(script("commit.lua"))
        last_batch = await self._membership.register()
        if last_batch == self._batch:
            for write in self._uncertain:  # it was stored, only the answer was lost; its entries are found below
                if write.lasting:
                    self._finish(Write([], [], write.stored, 0, True, write.finished), [])
        else:
            self._queue.extendleft(write for write in reversed(self._uncertain) if write.lasting)
        self._uncertain = []
        if self._standing:
            stored: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            self._queue.appendleft(Write(self._standing, [], stored, 0, True))
        await self._membership.take_over(at_once=new)
        await self._adopt_stored([entry_id async for entry_id in self._membership.pending()])
        if new:
            self._listen()
            self._joined = self._membership.name
        self.opened.set()
        self._wake.set()
        events = len(self._resident.entries)
        if not new or events:
            log.info("Redis at %s is there; %d events found waiting", self.address, events)
        self._look_later()

    async def _look(self) -> None:
        """Takes over from dispatchers that are gone."""
        self._look_due = False
        self._nudged = True  # a batch, be it empty, tells of a message that was lost, and of having been replaced
        if taken := await self._membership.take_over(at_once=False):
            log.warning("%s: took over %d events of a dispatcher that is gone", self.address, taken)
            await self._adopt_stored([entry_id async for entry_id in self._membership.pending()])
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


def _read(entry_id: str, found: Any, done: set[str]) -> Entry | None:
    """An entry as Redis has it; None, with a line in the log, for one that is not there, or not the broker's."""
    try:
        content, triggers = unpack(dict(found[0][1]))
    except (IndexError, KeyError, ValueError) as error:
        log.error("entry %s of %s is not the broker's, left alone: %r", entry_id, EVENTS, error)
        return None
    finished = [trigger for trigger in triggers if f"{entry_id} {trigger}" in done]
    return Entry(entry_id, partition_of(content.event), triggers.difference(finished), content, finished)
