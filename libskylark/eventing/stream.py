"""The broker's Redis as the rest of the broker sees it: events that are stored, and the ends of their deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError

from libskylark.errors import StoreUnavailable, StreamFull
from libskylark.eventing.entry import Content, Entry, NewEntry, unpack
from libskylark.eventing.generations import generation_operations
from libskylark.eventing.keys import EVENTS, TICKS, Caps
from libskylark.eventing.membership import Membership
from libskylark.eventing.resident import Resident
from libskylark.eventing.writer import Writer
from libskylark.eventing.writes import Settlement, add_operations, settle_operations

_RETRY_S: Final = 0.05
_READS: Final = 16  # of events at once: the writer must always find a connection
_SENT: Final = b"sent"


class Stream:
    """The pending events of one node, as one of the processes that serve them sees it.

    An event is the dispatcher's that accepted it, unless another one has earlier events of its partition. `on_entry`
    is called for every entry that becomes this dispatcher's, in the order of the stream. `on_replaced` is called when
    another one has taken them all over: this one has none of them any more, and goes on under another name.
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
        caps: Caps = Caps(),  # noqa: B008 - it is frozen
        lease_s: float = 10.0,
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        """A dispatcher that is silent for `lease_s` counts as gone.

        `on_failed` is called for a fault of ours: nothing is taken or stored from then on.
        """
        self.address = f"{host}:{port}"
        self._caps = caps
        self._resident = Resident()
        self._membership = Membership(host, port, password, timeout_s, lease_s)
        self._redis = self._membership.redis
        self._reading = asyncio.Semaphore(_READS)
        self._writer = Writer(self.address, self._membership, self._resident, caps, on_entry, on_replaced, on_failed)

    @property
    def is_open(self) -> bool:
        """Whether events are taken."""
        return self._writer.opened.is_set()

    @property
    def waiting(self) -> int:
        """How many entries this dispatcher has yet to deliver."""
        return len(self._resident.entries)

    def start(self) -> None:
        """Connects, now or as soon as Redis answers; takes over what an earlier process left."""
        self._writer.start()

    async def stop(self) -> None:
        """Stores what is still waiting to be, if Redis is there, and disconnects."""
        await self._writer.stop()
        await self._redis.aclose()

    @property
    def stored(self) -> tuple[int, int]:
        """How many entries the stream has, of all dispatchers together, and how many bytes."""
        return self._writer.committer.stream_events, self._writer.committer.stream_bytes

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may be accepted, of all dispatchers together."""
        return self._holds(1)

    @property
    def is_overfull(self) -> bool:
        """Whether there is no room for answers either: twice as much, so that a full stream still drains."""
        return self._holds(2)

    def _holds(self, times: int) -> bool:
        queued, (events, events_bytes) = self._writer.backlog, self.stored
        has_many = events + len(queued) >= times * self._caps.events
        return has_many or events_bytes + queued.size_bytes >= times * self._caps.events_bytes

    async def add(self, new: NewEntry, tick: tuple[str, int] | None = None) -> bool:
        """Stores an event; returns once it is. A tick (PingSource, planned Unix ms) is stored once, else False.

        Raises StoreUnavailable while Redis is away, and StreamFull.
        """
        return new.was_stored_as(await self.put(new, tick))

    def put(self, new: NewEntry, tick: tuple[str, int] | None = None) -> asyncio.Future[list[str]]:
        """The same for those who do not wait: raises what it can tell at once, and gives the ids when it is stored."""
        if not self.is_open:
            raise StoreUnavailable(self.address, self._writer.why)
        if self.is_full:
            events, events_bytes = self.stored
            raise StreamFull(
                f"{events} events of {events_bytes} bytes are waiting, "
                f"expected less than {self._caps.events} events and {self._caps.events_bytes} bytes"
            )
        size_bytes = new.content.size_bytes
        return self._writer.put(add_operations(new, tick), [new], size_bytes, lasting=False)

    def settle(self, settlement: Settlement) -> asyncio.Future[list[str]]:
        """Records the end of one delivery, with the reply or the dead letters it led to, however long it takes.

        The end of one that another dispatcher has taken over is not recorded: that one delivers it again.
        """
        entry = settlement.entry
        if not self._resident.has(entry):
            nothing: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            nothing.set_result([])
            return nothing
        operations = settle_operations(settlement)
        added = [settlement.reply] if settlement.reply else []
        finished = None if entry.remaining else entry
        return self._writer.put(operations, added, settlement.size_bytes, lasting=True, finished=finished)

    def note_triggers(self, generation: str, triggers: Mapping[str, Sequence[str]]) -> None:
        """Keeps what a generation of Triggers means, before any record names it: broker -> its Triggers."""
        self._writer.stand(generation_operations(generation, triggers))

    async def content(self, entry: Entry) -> Content | None:
        """What the entry holds, from memory or from Redis; None where Redis has lost it."""
        while entry.content is None:
            await self._writer.opened.wait()
            try:
                async with self._reading:
                    found: Any = await self._redis.xrange(EVENTS, entry.id, entry.id)
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)  # the writer notices, and closes, on its own
                continue
            return unpack(dict(found[0][1]))[0] if found else None
        return entry.content

    async def is_ready(self) -> bool:
        """Whether Redis answers now and events are taken."""
        try:
            return self.is_open and bool(await self._redis.ping())
        except (RedisError, OSError):
            return False

    async def send_once(
        self, tick: tuple[str, int], send: Callable[[], Awaitable[bool]], send_s: float, known_s: float
    ) -> bool:
        """Sends a tick (PingSource, planned Unix ms) that goes elsewhere, unless another dispatcher does or has done.

        Answers whether it was sent, by whomever. `send` answers so, too, within `send_s`: where a dispatcher ends
        meanwhile, the tick is another's after that time. That it was sent is known for `known_s`.
        """
        key = f"{TICKS}:{tick[0]}:{tick[1]}"
        sent = False
        with suppress(RedisError, OSError):
            name, turn_ms = self._membership.name.encode(), round(send_s * 1000)
            if not await self._redis.set(key, name, nx=True, px=turn_ms):
                whose = await self._redis.get(key)
                if whose != name:  # else it was this one's turn already, and only the answer was lost
                    return bool(whose == _SENT)
            if sent := await send():
                await self._redis.set(key, _SENT, px=round(known_s * 1000))
            else:
                await self._redis.delete(key)
        return sent

    async def last_tick_ms(self, source: str) -> int | None:
        """Planned time (Unix ms) of the last tick that was stored for a PingSource; waits for Redis."""
        while True:
            await self._writer.opened.wait()
            try:
                found = await self._redis.hget(TICKS, source)
                return int(found) if found is not None else None
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)
