"""Sends batches of writes to Redis, and keeps what it tells of the whole stream."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from redis.exceptions import OutOfMemoryError

from libskylark.eventing import journal
from libskylark.eventing.keys import COMMIT_KEYS, Caps
from libskylark.eventing.membership import Membership, script
from libskylark.eventing.writes import Write

# What only takes off the stream, or must not be lost, is stored however short Redis' memory is: else nothing would
# drain. What grows it is refused then.
_GROWING: Final = "#!lua\n"
_ALWAYS: Final = "#!lua flags=allow-oom\n"

log = logging.getLogger("skylark.broker")


class Committed(NamedTuple):
    """What came of a batch: ids of entries that others have stored for this dispatcher, and of those that it added."""

    handed: list[str]
    ids: list[str]


class Committer:
    """One batch at a time. `stream_events` and `stream_bytes` are of all dispatchers, as of this one's last batch."""

    def __init__(self, address: str, membership: Membership, caps: Caps) -> None:
        self.stream_events = 0
        self.stream_bytes = 0
        self._address = address
        self._membership = membership
        self._caps = caps
        self._shas: dict[str, str] = {}  # of commit.lua, by how it begins
        self._is_short = False  # of memory, as Redis has said

    async def join(self) -> int:
        """Joins the dispatchers; answers the number of the last batch stored under this one's name."""
        joined = await self._membership.register()
        self.stream_events, self.stream_bytes = joined.events, joined.events_bytes
        for head in (_GROWING, _ALWAYS):
            self._shas[head] = await self._membership.redis.script_load(head + script("commit.lua"))
        return joined.last_batch

    async def commit(self, number: int, batch: Iterable[Write]) -> Committed:
        """Stores a batch, whole or not at all.

        Raises OutOfMemoryError where Redis has no memory for one that has writes which need not last.
        """
        member, caps = self._membership, self._caps
        arguments: list[Any] = [member.name, member.session, number]
        arguments += [journal.CAP, caps.letters, caps.letters_bytes, caps.digests]
        grows = False
        for write in batch:
            arguments += write.operations
            grows = grows or not write.lasting
        sha = self._shas[_GROWING if grows else _ALWAYS]
        try:
            answer: Any = await member.redis.evalsha(sha, len(COMMIT_KEYS), *COMMIT_KEYS, *arguments)
        except OutOfMemoryError as error:
            self._tell_short(error)
            raise
        if grows and self._is_short:
            self._is_short = False
            log.info("Redis at %s has memory again; events are taken", self._address)
        handed, (self.stream_events, self.stream_bytes, dropped), *ids = answer
        if dropped:
            self._tell_dropped(dropped)
        return Committed([journal.as_text(each) for each in handed], [journal.as_text(each) for each in ids])

    def _tell_short(self, error: OutOfMemoryError) -> None:
        if not self._is_short:  # one line when it starts, not one per batch
            self._is_short = True
            log.warning("Redis at %s has no memory left (%s); events are refused", self._address, error)

    def _tell_dropped(self, dropped: int) -> None:
        log.warning(
            "%d dead letters were dropped, the oldest ones: %d are kept, of %d MiB (SKYLARK_BROKER_DEAD_LETTERS_MAX, "
            "_MAX_BYTES)",
            dropped,
            self._caps.letters,
            self._caps.letters_bytes >> 20,
        )
