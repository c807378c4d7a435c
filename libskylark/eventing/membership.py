"""Which processes serve a stream: this one registers as a dispatcher, and takes over from those that are gone.

A dispatcher is a consumer of the stream's group. It is there as long as Redis has a connection with its name, and
something came over it lately, so that no clock but Redis' own is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from libskylark.eventing.journal import as_text
from libskylark.eventing.keys import DISPATCHERS, EVENTS, GROUP, HANDED, LIFE, PARTITIONS, SIZES
from libskylark.eventing.redis_client import redis_client

# Whoever loses its connections to a Redis that restarts has so many looks to come back.
_PATIENCE_LOOKS: Final = 3
_LISTEN_S: Final = 60.0
_RETRY_S: Final = 0.5
_OLDEST: Final = 7  # the first Redis whose scripts can say that they may run when memory is short

log = logging.getLogger("skylark.broker")


class Joined(NamedTuple):
    """What a dispatcher finds when it joins: the last batch stored under its name, and how much the stream holds."""

    last_batch: int
    events: int
    events_bytes: int


class Membership:
    """One process among the dispatchers, and its client of Redis, whose errors are not caught.

    `lease_s` is how long another one may be silent over its connections before it counts as gone.
    """

    def __init__(self, host: str, port: int, password: str | None, timeout_s: float, lease_s: float) -> None:
        self.redis: Final = redis_client(host, port, password, timeout_s, lambda: self.name)
        self._lease_s = lease_s
        self.name = ""
        self.session = 0
        self._missed: dict[str, int] = {}
        self._life = ""  # of what Redis holds, as far as it was seen
        self.renew()

    def renew(self) -> None:
        """Takes another name: under this one, somebody else has taken over."""
        self.name = f"{time.time_ns() // 1_000_000:x}-{uuid.uuid4().hex[:12]}"
        self.session = 0

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever stored under this name."""
        return self.session == 0

    @property
    def channel(self) -> str:
        """Where others tell that they have stored an entry for this dispatcher."""
        return f"{HANDED}:{self.name}"

    async def register(self) -> Joined:
        """Joins, or comes back after a broken connection."""
        if self.is_new:
            # Others find this one by its connections, which are to have this name and no earlier one.
            await self.redis.connection_pool.disconnect(inuse_connections=True)
            await self._check_server()
        session = self.session + 1
        keys = (DISPATCHERS, EVENTS, SIZES, LIFE)
        arguments = (self.name, session, "1" if self.is_new else "0", self._life, uuid.uuid4().hex)
        found = await self.redis.eval(script("register.lua"), len(keys), *keys, *arguments)
        last_batch, events, events_bytes, life = found
        self.session = session  # only now: a first try that failed must not pass for a name that was taken over
        self._life = as_text(life)
        return Joined(int(last_batch), int(events), int(events_bytes))

    async def _check_server(self) -> None:
        server = await self.redis.info()
        if int(str(server["redis_version"]).split(".")[0]) < _OLDEST:
            raise RedisError(f"it is version {server['redis_version']}, expected {_OLDEST}.0 or newer")
        if server.get("maxmemory") and str(server.get("maxmemory_policy", "")).startswith("allkeys"):
            log.warning(
                "Redis drops keys, events among them, when memory is short: maxmemory-policy %s, expected noeviction",
                server["maxmemory_policy"],
            )

    async def take_over(self, at_once: bool) -> int:
        """Takes the entries of those that are gone; `at_once` also from one whose connection has only just ended.

        Answers how many entries came over.
        """
        registered = {as_text(name): value for name, value in (await self.redis.hgetall(DISPATCHERS)).items()}
        if registered.keys() == {self.name}:
            return 0
        idle_s = await self._idle_s()
        gone = self._gone([name for name in registered if name != self.name], idle_s, at_once)
        return sum([await self._take_from(name, registered[name]) for name in gone])

    async def listen(self, on_handed: Callable[[], None]) -> None:
        """Calls `on_handed` whenever another dispatcher has stored an entry for this one; runs until cancelled."""
        while True:
            try:
                async with self.redis.pubsub() as subscriber:
                    await subscriber.subscribe(self.channel)
                    while True:
                        # The first message confirms the subscription: what came before it must be asked for, too.
                        if await subscriber.get_message(timeout=_LISTEN_S) is not None:
                            on_handed()
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY_S)

    async def pending(self, start: str, count: int) -> list[str]:
        """Ids of entries that are this dispatcher's: the first `count` from `start` on, in the order of the stream."""
        page = await self.redis.xpending_range(EVENTS, GROUP, start, "+", count, consumername=self.name)
        return [as_text(entry["message_id"]) for entry in page]  # type: ignore[arg-type]

    async def count_pending(self) -> int:
        """How many entries are this dispatcher's."""
        consumers = (await self.redis.xpending(EVENTS, GROUP))["consumers"]
        return sum(int(each["pending"]) for each in consumers if as_text(each["name"]) == self.name)

    async def _idle_s(self) -> dict[str, int]:
        """By name of a connection: how long nothing came over it, or over any other of that name."""
        idle_s: dict[str, int] = {}
        for client in await self.redis.client_list():
            name, silent_s = client.get("name", ""), int(client.get("idle", 0))
            idle_s[name] = min(silent_s, idle_s.get(name, silent_s))
        return idle_s

    def _gone(self, others: list[str], idle_s: dict[str, int], at_once: bool) -> list[str]:
        self._missed = {name: self._missed.get(name, 0) + 1 for name in others if name not in idle_s}
        enough = 1 if at_once else _PATIENCE_LOOKS
        missing = [name for name, looks in self._missed.items() if looks >= enough]
        silent = [name for name in others if idle_s.get(name, 0) >= self._lease_s]
        return missing + silent

    async def _take_from(self, name: str, seen: Any) -> int:
        keys = (EVENTS, DISPATCHERS, PARTITIONS, HANDED)
        taken = int(await self.redis.eval(script("takeover.lua"), len(keys), *keys, self.name, name, seen))
        return max(taken, 0)


def script(name: str) -> str:
    """The text of a Lua script of this package."""
    return files("libskylark.eventing").joinpath(name).read_text(encoding="utf-8")
