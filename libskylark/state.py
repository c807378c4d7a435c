"""State: what a chain forwards from function to function, inside the event or in the Redis of one node."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final, Protocol

from libskylark.codec import pack, unpack
from libskylark.errors import CodecError, StateMissing, StoreUnavailable, UnknownNode
from libskylark.event import KEY, STATE, Event
from libskylark.fields import Fields, Frames
from libskylark.key import StateKey
from libskylark.memory import read_hash
from libskylark.store import RedisClient, Stores

INLINE: Final = "inline"
LOCAL: Final = "local"
REMOTE: Final = "remote"


class States(Protocol):
    """Where bundles of state are kept: the Redis of all nodes, or a dict in a function author's tests."""

    def load(self, key: StateKey, field: str | None) -> Frames: ...

    def push(self, key: StateKey, frames: Frames, ttl_ms: int) -> None: ...


class RedisStates:
    """A bundle is one Redis hash on the node that its key names, written and read in one round trip."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def load(self, key: StateKey, field: str | None) -> Frames:
        """One field of a bundle, or all for None; raises StateMissing where its node does not answer."""
        try:
            return read_hash(self._stores.of(key.node), redis_key(key), field)
        except (StoreUnavailable, UnknownNode) as error:
            raise StateMissing(f"state {key} cannot be read: {error}") from None

    def push(self, key: StateKey, frames: Frames, ttl_ms: int) -> None:
        """Writes a bundle whole, with its time to live; raises StoreUnavailable where the node does not take it."""

        def write(client: RedisClient) -> None:
            mapping: dict[Any, Any] = dict(frames)
            pipeline = client.pipeline(transaction=True)
            pipeline.delete(redis_key(key))
            pipeline.hset(redis_key(key), mapping=mapping)
            pipeline.pexpire(redis_key(key), ttl_ms)
            pipeline.execute()

        self._stores.of(key.node).run(write)


@dataclass
class IncomingState:
    """The state that an event brings: its fields, and the place they are read from."""

    fields: Fields
    place: str | None

    def reads(self) -> dict[str, int]:
        """`{place: 1}` once the handler has touched the state."""
        return {self.place: 1} if self.place and self.fields.touched else {}


def incoming_state(event: Event, here: str, states: States) -> IncomingState:
    """The state of `event` as it will be read on node `here`.

    Raises CodecError for torn inline state, KeyFormatError for a key that is none.
    """
    if inline := event.attributes.get(STATE):
        frames = decode_inline(inline)
        return IncomingState(Fields(lambda name: _pick(frames, name)), INLINE)
    if not (text := event.attributes.get(KEY)):
        return IncomingState(Fields(), None)
    key = StateKey.parse(text)

    def load(name: str | None) -> Frames:
        frames = states.load(key, name)
        if not frames and not states.load(key, None):
            raise StateMissing(f"state {key} is not on {key.node}: it expired, or was lost with its disk")
        return frames

    return IncomingState(Fields(load), LOCAL if key.node == here else REMOTE)


def encode_inline(frames: Frames) -> str:
    """Frames as the value of `skylarkstate`: base64url without padding."""
    return base64.urlsafe_b64encode(pack(frames)).decode().rstrip("=")


def decode_inline(text: str) -> dict[str, bytes]:
    """The inverse of `encode_inline`; raises CodecError where the text is torn."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise CodecError(f"{STATE} is no base64url: found {text[:40]!r}") from None
    return unpack(packed)


def redis_key(key: StateKey) -> str:
    return f"state:{key}"


def _pick(frames: Frames, name: str | None) -> Frames:
    return frames if name is None else {name: frames[name]} if name in frames else {}
