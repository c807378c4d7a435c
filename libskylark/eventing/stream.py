"""The broker's Redis: a stream of events, written in batches by one fenced writer, each batch whole or not at all."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from libskylark.errors import SkylarkError, StoreUnavailable
from libskylark.eventing import journal
from libskylark.eventing.entry import Content, Entry, NewEntry, partition_of, unpack
from libskylark.eventing.writes import Settlement, Write, add_operations, settle_operations, takes_id

EVENTS: Final = "broker:events"
DONE: Final = "broker:done"
DEAD_LETTERS: Final = "broker:dead-letters"
WRITER: Final = "broker:writer"
TICKS: Final = "broker:ticks"

_KEYS: Final = (EVENTS, journal.KEY, DONE, DEAD_LETTERS, WRITER, TICKS)
_DEAD_LETTERS_CAP: Final = 10_000
_BATCH_WRITES: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024
_SCAN_COUNT: Final = 256
_RESIDENT_BYTES: Final = 64 * 1024 * 1024
_BACKOFF_S: Final = (0.05, 2.0)  # first and longest wait before Redis is tried again

log = logging.getLogger("skylark.broker")


class _Connection(Connection):
    """Packs commands in C, as redis-py's synchronous connections do."""

    def pack_command(self, *args: Any) -> list[bytes]:
        if " " in str(args[0]):  # SCRIPT LOAD and the like are two words to Redis
            return super().pack_command(*args)
        return [hiredis.pack_command(args)]


class StreamFull(SkylarkError):
    """As many events wait as the stream may hold."""


class Stream:
    """Pending events of one node.

    `on_entry` is called for every entry that is stored, and for those found at the start, in their order.
    `on_replaced` is called when another process has become the writer; this one takes no events any more.
    While Redis is away `is_open` is false, and what must last waits in memory.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str | None,
        on_entry: Callable[[Entry], None],
        on_replaced: Callable[[], None],
        timeout_s: float = 2.0,
        limit: int = 100_000,
    ) -> None:
        self.address = f"{host}:{port}"
        self.is_open = False
        self.entries: dict[str, Entry] = {}
        self._on_entry = on_entry
        self._on_replaced = on_replaced
        self._limit = limit
        pool = ConnectionPool(
            connection_class=_Connection,
            host=host,
            port=port,
            password=password,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # a commit must not be sent twice behind our back
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._owner = uuid.uuid4().hex
        self._token = ""
        self._fences = 0
        self._batch = 0
        self._uncertain: list[Write] = []  # sent in the last batch, with no answer
        self._queue: deque[Write] = deque()
        self._wake = asyncio.Event()
        self._opened = asyncio.Event()
        self._last_id = "0-0"
        self._resident_bytes = 0
        self._sha = ""
        self._why = "not connected yet"
        self._task: asyncio.Task[None] | None = None

    # The callers' side.

    def start(self) -> None:
        """Connects, now or as soon as Redis answers; takes over what an earlier process left."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stores what is still waiting to be, if Redis is there, and disconnects."""
        if self._task is not None:
            waiting = [write.stored for write in [*self._uncertain, *self._queue] if not write.stored.done()]
            if self.is_open and waiting:
                await asyncio.wait(waiting, timeout=2.0)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._redis.aclose()

    async def add(self, new: NewEntry, tick: tuple[str, int] | None = None) -> bool:
        """Stores an event; returns once it is. A tick (PingSource, planned Unix ms) is stored once, else False.

        Raises StoreUnavailable while Redis is away, and StreamFull.
        """
        if not self.is_open:
            raise StoreUnavailable(self.address, self._why)
        if len(self.entries) + len(self._queue) >= self._limit:
            raise StreamFull(f"{self._limit} events are waiting")
        write = self._put(add_operations(new, tick), [new], lasting=False)
        ids = await write.stored
        return tick is None or bool(ids[0] or not new.triggers)

    def settle(self, settlement: Settlement) -> asyncio.Future[list[str]]:
        """Records the end of one delivery, with the reply or the dead letters it led to, however long it takes."""
        entry = settlement.entry
        operations = settle_operations(settlement)
        added = [settlement.reply] if settlement.reply else []
        finished = None if entry.remaining else entry
        return self._put(operations, added, lasting=True, finished=finished).stored

    async def content(self, entry: Entry) -> Content | None:
        """What the entry holds, from memory or from Redis; None where Redis has lost it."""
        while entry.content is None:
            await self._opened.wait()
            try:
                found = await self._redis.xrange(EVENTS, entry.id, entry.id)
            except (RedisError, OSError):
                await asyncio.sleep(_BACKOFF_S[0])  # the writer notices, and closes, on its own
                continue
            return unpack(_fields(found[0][1]))[0] if found else None
        return entry.content

    async def is_ready(self) -> bool:
        """Whether Redis answers now and events are taken."""
        try:
            return self.is_open and bool(await self._redis.ping())
        except (RedisError, OSError):
            return False

    async def last_tick_ms(self, source: str) -> int | None:
        """Planned time (Unix ms) of the last tick that was stored for a PingSource; waits for Redis."""
        while True:
            await self._opened.wait()
            try:
                found = await self._redis.hget(TICKS, source)
                return int(found) if found is not None else None
            except (RedisError, OSError):
                await asyncio.sleep(_BACKOFF_S[0])

    # The writer: the only task that changes the stream.

    def _put(self, operations: list[Any], added: list[NewEntry], lasting: bool, finished: Entry | None = None) -> Write:
        size = sum(len(new.content.event.data) for new in added)
        stored: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        write = Write(operations, added, stored, size, lasting, finished)
        self._queue.append(write)
        self._wake.set()
        return write

    async def _run(self) -> None:
        wait_s = _BACKOFF_S[0]
        while True:
            try:
                if not self.is_open:
                    await self._recover()
                    wait_s = _BACKOFF_S[0]
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._flush()
            except (RedisError, OSError) as error:
                self._close(error)
                if isinstance(error, ResponseError) and "FENCED another" in str(error):
                    log.error("%s: another broker process has taken over; run one worker per node", self.address)
                    self._on_replaced()
                    return
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _BACKOFF_S[1])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.is_open = False
        if not task.cancelled() and (error := task.exception()) is not None:
            self._why = f"the writer failed: {error!r}"
            log.critical("the writer of the stream failed, no event is taken any more", exc_info=error)

    async def _flush(self) -> None:
        """Stores what waits, up to the size of a batch, and hands the new entries on."""
        batch, size = list[Write](), 0
        while self._queue and len(batch) < _BATCH_WRITES and size < _BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += batch[-1].size_bytes
        self._batch += 1
        self._uncertain = batch
        arguments: list[Any] = [self._token, self._batch, journal.CAP, _DEAD_LETTERS_CAP]
        for write in batch:
            arguments += write.operations
        answer: Any = await self._redis.evalsha(self._sha, len(_KEYS), *_KEYS, *arguments)
        self._uncertain = []
        ids = iter(answer)
        for write in batch:
            self._finish(write, [_text(next(ids)) if takes_id(write, new) else "" for new in write.added])

    def _finish(self, write: Write, ids: list[str]) -> None:
        for new, entry_id in zip(write.added, ids, strict=True):
            if entry_id:
                content = new.content
                self._adopt(Entry(entry_id, partition_of(content.event), set(new.triggers), content))
        if write.finished is not None:
            self._forget(write.finished)
        if not write.stored.done():
            write.stored.set_result(ids)

    def _adopt(self, entry: Entry) -> None:
        assert entry.content is not None, "an entry is adopted with its content"
        size = entry.content.size_bytes
        if self._resident_bytes + size > _RESIDENT_BYTES:
            entry.content = None
        else:
            self._resident_bytes += size
        self._last_id = entry.id
        self.entries[entry.id] = entry
        self._on_entry(entry)

    def _forget(self, entry: Entry) -> None:
        self.entries.pop(entry.id, None)
        if entry.content is not None:
            self._resident_bytes -= entry.content.size_bytes

    def _close(self, error: Exception) -> None:
        """Redis is away: fail what may fail, keep what must last."""
        if self.is_open:
            log.warning("Redis at %s is away (%s); %d events wait", self.address, error, len(self.entries))
        self.is_open = False
        self._opened.clear()
        self._why = str(error) or type(error).__name__
        for write in [*self._uncertain, *self._queue]:
            if not write.lasting and not write.stored.done():
                write.stored.set_exception(StoreUnavailable(self.address, self._why))
        self._queue = deque(write for write in self._queue if write.lasting)
        if isinstance(error, NoScriptError) or (isinstance(error, ResponseError) and "FENCED" not in str(error)):
            # Redis answered and stored nothing, so the batch is not uncertain.
            self._queue.extendleft(write for write in reversed(self._uncertain) if write.lasting)
            self._uncertain = []

    async def _recover(self) -> None:
        """Becomes the writer, finds out what became of the last batch, and adopts the entries not known yet."""
        first = self._fences == 0
        self._fences += 1
        token = f"{self._owner}:{self._fences}"
        self._sha = await self._redis.script_load(_script("commit.lua"))
        arguments = (self._owner, token, "1" if self._token == "" else "0")
        last_batch = await self._redis.eval(_script("fence.lua"), 1, WRITER, *arguments)
        self._token = token
        if int(last_batch) == self._batch:
            for write in self._uncertain:  # it was stored, only the answer was lost; its entries are found below
                if write.lasting:
                    self._finish(Write([], [], write.stored, 0, True, write.finished), [])
        else:
            self._queue.extendleft(write for write in reversed(self._uncertain) if write.lasting)
        self._uncertain = []
        found = await self._scan()
        self.is_open = True
        self._opened.set()
        self._wake.set()
        if not first or found:
            log.info("Redis at %s is there; %d events found waiting", self.address, len(self.entries))

    async def _scan(self) -> int:
        done = {_text(name) for name in await self._redis.hkeys(DONE)}
        found = 0
        while page := await self._redis.xrange(EVENTS, f"({self._last_id}", "+", count=_SCAN_COUNT):
            for raw_id, fields in page:
                entry_id = self._last_id = _text(raw_id)
                try:
                    content, triggers = unpack(_fields(fields))
                except (KeyError, ValueError) as error:
                    log.error("entry %s of %s is not the broker's, left alone: %r", entry_id, EVENTS, error)
                    continue
                finished = [trigger for trigger in triggers if f"{entry_id} {trigger}" in done]
                remaining = triggers.difference(finished)
                self._adopt(Entry(entry_id, partition_of(content.event), remaining, content, finished))
                found += 1
        return found


def _script(name: str) -> str:
    return files("libskylark.eventing").joinpath(name).read_text(encoding="utf-8")


def _fields(fields: Any) -> dict[bytes, bytes]:
    """The fields of an entry as the client gives them: bytes, since it decodes nothing."""
    return dict(fields)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
