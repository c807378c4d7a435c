"""The dead letters of a node as they are kept in its Redis: listed, read whole, taken out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from libskylark.clock import rfc3339
from libskylark.errors import CodecError
from libskylark.event import Event
from libskylark.eventing.keys import DEAD_LETTERS, SIZES
from libskylark.store import RedisClient, Store

_PAGE_LETTERS: Final = 256
_PAGE_BYTES: Final = 32 * 1024 * 1024  # of data that Redis looks at in one go, and answers nothing meanwhile
# Letters from a position on, at least one: the id of each, and its fields, with data_bytes instead of its data.
_LIST: Final = """
local start, left_bytes, answer = ARGV[1], tonumber(ARGV[2]), {}
for _ = 1, tonumber(ARGV[3]) do
  local found = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 1)[1]
  if not found or left_bytes <= 0 then break end
  local id, fields = found[1], found[2]
  for at = 1, #fields, 2 do
    if fields[at] == 'data' then
      fields[at], fields[at + 1] = 'data_bytes', #fields[at + 1]
      left_bytes = left_bytes - fields[at + 1]
    end
  end
  answer[#answer + 1] = {id, fields}
  start = '(' .. id
end
return answer
"""
# Its size is the first field, as commit.lua keeps it; it counts no more.
_REMOVE: Final = """#!lua flags=allow-oom
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if found and redis.call('XDEL', KEYS[1], ARGV[1]) == 1 and found[2][1] == 'size' then
  redis.call('HINCRBY', KEYS[2], 'letters', -tonumber(found[2][2]))
end
"""
_SHOWN: Final = 200  # characters of a letter that cannot be read


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a Trigger's subscriber did not take, without its data; `position` is its id in the stream.

    The last five are None, empty or `trigger` alone in a letter of a broker that did not keep them yet.
    """

    position: str
    attributes: Mapping[str, str]
    size_bytes: int
    trigger: str  # namespace/name
    reason: str
    status: int  # of the last answer; 0 where none came
    attempts: int
    time: str
    receivers: tuple[str, ...]
    """The Triggers that it is for: of an answer with a spent TTL those that would have taken it, else `trigger`."""
    headers: Mapping[str, str]
    """Those that were passed on with it, such as `traceparent`."""
    ttl: int | None
    chain: str | None
    arrived: str | None
    """When the broker took it (RFC 3339)."""

    @property
    def is_spent(self) -> bool:
        """Whether it has no TTL left: it would have gone on with a loop of Triggers, or of Brokers."""
        return self.ttl is not None and self.ttl <= 0


def list_letters(store: Store) -> list[DeadLetter]:
    """All dead letters, oldest first; raises StoreUnavailable, and CodecError for what is no dead letter."""
    return [_letter(position, fields) for position, fields in _entries(store)]


def event_of(store: Store, position: str) -> Event | None:
    """The whole event of a letter; None where it is there no more. Raises StoreUnavailable and CodecError."""

    def read(client: RedisClient) -> Any:
        return client.xrange(DEAD_LETTERS, position, position)

    for _, fields in store.run(read):
        with _told(position, fields):
            return Event(dict(json.loads(fields[b"attributes"])), fields[b"data"])
    return None


def remove_letter(store: Store, position: str) -> None:
    """May be repeated; raises StoreUnavailable."""
    store.run(lambda client: client.eval(_REMOVE, 2, DEAD_LETTERS, SIZES, position))


def count_dropped(store: Store) -> int:
    """How many letters gave way to later ones, ever; raises StoreUnavailable."""
    return int(store.run(lambda client: client.hget(SIZES, "dropped")) or 0)


def _entries(store: Store) -> Iterator[tuple[str, Mapping[bytes, Any]]]:
    start = "-"
    while page := store.run(_reader(start)):
        for raw, flat in page:
            position = raw.decode()
            yield position, dict(zip(flat[::2], flat[1::2], strict=True))
        start = f"({position}"


def _reader(start: str) -> Any:
    return lambda client: client.eval(_LIST, 1, DEAD_LETTERS, start, _PAGE_BYTES, _PAGE_LETTERS)


def _letter(position: str, fields: Mapping[bytes, Any]) -> DeadLetter:
    with _told(position, fields):
        return DeadLetter(
            position=position,
            attributes=dict(json.loads(fields[b"attributes"])),
            size_bytes=fields[b"data_bytes"],
            trigger=fields[b"trigger"].decode(),
            reason=fields[b"reason"].decode(),
            status=int(fields[b"status"]),
            attempts=int(fields[b"attempts"]),
            time=fields[b"time"].decode(),
            receivers=tuple(fields.get(b"to", fields[b"trigger"]).decode().split(",")),
            headers=dict(json.loads(fields.get(b"headers", b"{}"))),
            ttl=int(fields[b"ttl"]) if b"ttl" in fields else None,
            chain=fields[b"chain"].decode() if b"chain" in fields else None,
            arrived=rfc3339(float(fields[b"arrived"])) if b"arrived" in fields else None,
        )


@contextmanager
def _told(position: str, fields: Mapping[bytes, Any]) -> Iterator[None]:
    """Raises CodecError for what cannot be read within."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        found = str(dict(fields))[:_SHOWN]
        raise CodecError(f"entry {position} of {DEAD_LETTERS} is no dead letter ({error!r}): found {found}") from None
