"""State: what a chain forwards from function to function, inside the event or in the Redis of a node or two.

Large state is captured in the Redis of the node where it was made, the origin, and copied by that node's mover to
the node in its key, where the next function is expected to run. It is read from whichever has it, nearest first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from libskylark.codec import pack, unpack
from libskylark.errors import CodecError, ElectionError, StateMissing, StoreUnavailable, UnknownNode
from libskylark.event import KEY, STATE, Event
from libskylark.fields import Fields, Frames
from libskylark.jobs import Retire
from libskylark.key import StateKey
from libskylark.memory import Consumed
from libskylark.store import RedisClient, Stores

INLINE: Final = "inline"
LOCAL: Final = "local"
REMOTE: Final = "remote"
WAITED: Final = "waited"  # local, but only once its push had arrived

#: The fields of a push's entries in its stream.
COMING: Final = b"coming"
ARRIVED: Final = b"arrived"

READERS: Final = ""  # the field of a bundle with the names of its readers; no user's field has an empty name


@dataclass(frozen=True, slots=True)
class Loaded:
    """Frames of a bundle, the node that had them, and whether that is this one only since their push arrived.

    `others` are the names of its fields that were not asked for.
    """

    frames: Frames
    node: str
    waited: bool = False
    others: frozenset[str] = frozenset()


class States(Protocol):
    """Where bundles of state are read: the Redis of all nodes, or a dict in a function author's tests."""

    def load(self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None) -> Loaded:
        """Fields of a bundle by name (left out where the bundle lacks them), or all of them for None.

        `first` is the node to begin with, where an earlier load found the bundle. Raises StateMissing, naming
        every place that was tried and why it had nothing.
        """
        ...


class RedisStates:
    """A bundle is one Redis hash, read in one round trip: here, where its push arrives, at its node, at its origin."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._here = stores.settings.node

    def load(self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None) -> Loaded:
        failures: dict[str, str] = {}
        waited = False
        for node in dict.fromkeys(node for node in (first, self._here, key.node, origin) if node):
            try:
                found = self._read(node, key, names)
                if found is None and node == self._here == key.node != origin and self._arrives(key):
                    found, waited = self._read(node, key, names), True
            except (StoreUnavailable, UnknownNode, ElectionError) as error:
                failures[node] = str(error)
                continue
            if found is not None:
                frames, others = found
                return Loaded(frames, node, waited and node == self._here, others)
            failures[node] = "has none (expired, consumed, or lost with its disk)"
        tried = "; ".join(f"{node}: {why}" for node, why in failures.items())
        raise StateMissing(f"state {key} is nowhere to be read: {tried}")

    def _read(
        self, node: str, key: StateKey, names: Sequence[str] | None
    ) -> tuple[dict[str, bytes], frozenset[str]] | None:
        """The frames that `node` has and the names of others; None where it has no such bundle."""
        store, name = self._stores.of(node), redis_key(key)
        # Over a link a bundle may take long: what counts there is that bytes keep coming.
        run = store.run if node == self._here else store.bulk
        answer: Any
        if names is None:
            answer = run(lambda client: client.hgetall(name))
            return (parse_bundle(answer)[0], frozenset()) if answer else None

        def read(client: RedisClient) -> list[Any]:
            pipeline = client.pipeline(transaction=True)
            pipeline.hmget(name, *names)
            pipeline.hkeys(name)
            return pipeline.execute()

        values, stored = run(read)
        others = {field.decode() for field in stored} - {READERS, *names}
        frames = {field: frame for field, frame in zip(names, values, strict=True) if frame is not None}
        return (frames, frozenset(others)) if stored else None

    def _arrives(self, key: StateKey) -> bool:
        """Waits for the push that brings the bundle here; False where it does not come in time.

        Once its first bytes have come, that is the time which the other node gives it.
        """
        wait_s, seen = self._stores.settings.push_wait_s, b"0"
        while True:
            entry = self._news(key, seen, wait_s)
            if entry is None:
                return False
            seen, fields = entry
            if ARRIVED in fields:
                return True
            wait_s = int(fields[COMING]) / 1000

    def _news(self, key: StateKey, seen: bytes, wait_s: float) -> tuple[bytes, dict[bytes, bytes]] | None:
        """The next entry of the stream that tells of the push; None where none comes in time."""

        def wait(client: RedisClient) -> Any:
            return client.xread({arrived_key(key): seen}, count=1, block=max(1, int(wait_s * 1000)))

        answer: Any = self._stores.local.wait(wait, wait_s)
        return answer[0][1][0] if answer else None


class IncomingState:
    """The state that an event brings, as it is read on node `here`: its fields, and where they come from.

    `place` is INLINE, LOCAL or REMOTE; None without state, or before anything of a keyed one was fetched.
    """

    def __init__(self, fields: Fields, place: str | None) -> None:
        self.fields = fields
        self.place = place

    def reads(self) -> dict[str, int]:
        """`{place: 1}` once the handler has touched the state."""
        return {self.place: 1} if self.place and self.fields.touched else {}

    def consumed(self, reader: str) -> Consumed:
        """What the commit of the run of `reader` does to this node's copy; fetches nothing."""
        return Consumed()

    def retirements(self, reader: str) -> tuple[Retire, ...]:
        """The jobs that take `reader` off the copies on other nodes; fetches nothing."""
        return ()


class KeyedState(IncomingState):
    """State that lies under a key: the fetches of one field and of the rest are from one place, if it keeps it."""

    def __init__(self, key: StateKey, origin: str | None, here: str, states: States) -> None:
        super().__init__(Fields(self._load, others=lambda: self._others), None)
        self._key = key
        self._origin = origin
        self._here = here
        self._states = states
        self._node: str | None = None
        self._others: frozenset[str] = frozenset()

    def consumed(self, reader: str) -> Consumed:
        """The reader is to be taken off the copy here; where a push brings that copy, `late` asks for a mark too.

        With the mark a push that is late, or repeated, brings the bundle back for other readers only.
        """
        if self._here not in (self._key.node, self._origin):
            return Consumed()
        return Consumed(str(self._key), reader, late=self._here == self._key.node != self._origin)

    def retirements(self, reader: str) -> tuple[Retire, ...]:
        copies = dict.fromkeys(node for node in (self._key.node, self._origin) if node and node != self._here)
        return tuple(Retire(str(self._key), node, reader) for node in copies)

    def _load(self, names: Sequence[str] | None) -> Frames:
        loaded = self._states.load(self._key, self._origin, names, self._node)
        self._node = loaded.node
        self._others = loaded.others
        self.place = LOCAL if loaded.node == self._here else REMOTE
        return loaded.frames


def incoming_state(event: Event, here: str, states: States) -> IncomingState:
    """The state of `event` as it will be read on node `here`.

    Raises CodecError for torn inline state, KeyFormatError for a key that is none.
    """
    if inline := event.attributes.get(STATE):
        frames = decode_inline(inline)
        return IncomingState(Fields(lambda names: _pick(frames, names)), INLINE)
    if text := event.attributes.get(KEY):
        return KeyedState(StateKey.parse(text), event.origin, here, states)
    return IncomingState(Fields(), None)


def stored_frames(frames: Frames, readers: Iterable[str]) -> dict[str, bytes]:
    """The fields of a bundle's hash: its frames and its readers. Without readers known, only its TTL ends it."""
    return {**frames, READERS: ",".join(readers).encode()}


def parse_bundle(stored: dict[bytes, bytes]) -> tuple[dict[str, bytes], bytes]:
    """(frames, readers as they are stored) of a bundle's whole hash."""
    frames = {name.decode(): frame for name, frame in stored.items()}
    return frames, frames.pop(READERS, b"")


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
    """The hash of a bundle: field -> frame, and READERS."""
    return f"state:{key}"


def arrived_key(key: StateKey) -> str:
    """The stream that tells of the push: COMING and for how many ms at most, when it begins; at last ARRIVED."""
    return f"arrived:{key}"


def retired_key(key: StateKey) -> str:
    """The set of readers that a push need not bring the bundle for any more."""
    return f"retired:{key}"


def _pick(frames: Frames, names: Sequence[str] | None) -> Frames:
    return frames if names is None else {name: frames[name] for name in names if name in frames}
