"""Reads entries of the stream that have become this dispatcher's, a few at a time: each may hold a picture."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Any, Final

from redis.asyncio import Redis

from libskylark.eventing.entry import Entry, partition_of, size_of, unpack
from libskylark.eventing.journal import as_text
from libskylark.eventing.keys import DONE, EVENTS, GROUP
from libskylark.eventing.membership import script

_PAGE_ENTRIES: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024  # or a single larger one
_UNSENT_BYTES: Final = 32 * 1024 * 1024  # that Redis looks at in one go, and answers nothing meanwhile

log = logging.getLogger("skylark.broker")


async def read_entries(redis: Redis, ids: Iterable[str], has_room: Callable[[], bool]) -> AsyncIterator[Entry]:
    """The entries of some ids, in their order; without their content once there is no room for it.

    What is not there, or not the broker's, is left out: it stays where it is, and is nobody's to deliver.
    """
    left = deque(ids)
    while left:
        with_data = has_room()
        arguments = (_PAGE_BYTES, "1") if with_data else (_UNSENT_BYTES, "0")
        page = islice(left, _PAGE_ENTRIES)
        for found in await redis.eval(script("adopt.lua"), 2, EVENTS, DONE, *arguments, *page):
            entry_id = left.popleft()
            if (entry := _entry(entry_id, found, with_data)) is not None:
                yield entry
            else:
                await redis.xack(EVENTS, GROUP, entry_id)


def _entry(entry_id: str, found: Any, with_data: bool) -> Entry | None:
    """An entry as adopt.lua answers it; None, with a line in the log, for what is none."""
    flat, data_bytes, done = found
    if not flat:
        log.warning("entry %s of %s is gone: somebody has deleted it", entry_id, EVENTS)
        return None
    try:
        content, triggers = unpack(dict(zip(flat[::2], flat[1::2], strict=True)))
        partition = partition_of(content.event)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        log.error("entry %s of %s is not the broker's, left alone: %r", entry_id, EVENTS, error)
        return None
    finished = [as_text(trigger) for trigger in done]
    kept = content if with_data else None
    return Entry(entry_id, partition, triggers.difference(finished), kept, size_of(data_bytes), finished)
