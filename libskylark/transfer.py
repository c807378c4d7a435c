"""One job of the mover's queue, done once: a push to another node, a reader taken off there, an event emitted here."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

from libskylark.clock import Clock
from libskylark.compression import Compressor, LinkRates
from libskylark.errors import BrokerUnavailable, KeyFormatError, SendError, SkylarkError, StoreUnavailable, UnknownNode
from libskylark.event import Event
from libskylark.fields import Frames
from libskylark.jobs import Job, MoveRecord, Push, Retire
from libskylark.key import StateKey
from libskylark.state import COMING, arrived_key, parse_bundle, redis_key, retired_key
from libskylark.store import RedisClient, Stores, script_source

log = logging.getLogger("skylark.mover")

# Of the time that a push should take, readers wait so many times as much before they fetch the state themselves:
# others may share the link.
_PATIENCE: Final = 3.0
_LEAST_PATIENCE_S: Final = 2.0


class Pointless(SkylarkError):
    """A job that need not be done any more, or never can be."""


class Transfers:
    """Does jobs, each of which may come again: what was done already is left alone.

    Raises Pointless for a job to be dropped; what else it raises may pass.
    """

    def __init__(self, stores: Stores, clock: Clock, post_event: Callable[[Event], None]) -> None:
        self._stores = stores
        self._here = stores.settings.node
        self._ttl_ms = int(stores.settings.state_ttl_s * 1000)
        self._clock = clock
        self._post_event = post_event
        self._compressor = Compressor()
        self._rates = LinkRates()
        self._sending: defaultdict[str, Lock] = defaultdict(Lock)  # two pushes at once would each be there later

    def perform(self, job: Job, queued_ms: int) -> MoveRecord | None:
        """The record of a push; None for other jobs. `queued_ms` is when the job was queued, by Redis' clock."""
        try:
            if isinstance(job, Push):
                return self._push(job, StateKey.parse(job.key))
            if isinstance(job, Retire):
                self._retire(job, StateKey.parse(job.key), queued_ms)
            else:
                self._post_event(Event(job.attributes, job.data.encode()))
            return None
        except BrokerUnavailable:
            raise
        except (UnknownNode, KeyFormatError, SendError) as error:
            raise Pointless(str(error)) from None

    def _push(self, job: Push, key: StateKey) -> MoveRecord:
        frames, readers, ttl_ms = self._bundle(key)
        bytes_per_s = self._rates.of(job.to, job.bottleneck_mbps)
        sent = self._compressor.shrink(frames, bytes_per_s)
        sent_bytes = sum(len(name) + len(frame) for name, frame in sent.items())
        coming_ms = int(_PATIENCE * max(_LEAST_PATIENCE_S, sent_bytes / bytes_per_s) * 1000)
        target = self._stores.of(job.to)
        keys = [redis_key(key), arrived_key(key), retired_key(key)]
        arguments: list[Any] = [ttl_ms, readers, *(part for field in sent.items() for part in field)]

        commands = [
            # These are small, and arrive long before the bundle has: readers then know that it is on its way.
            ("XADD", arrived_key(key), "*", COMING, coming_ms),
            ("PEXPIRE", arrived_key(key), ttl_ms),
            # The script goes along: a bundle would be sent twice to a Redis that does not know the script yet.
            ("EVAL", script_source("push"), len(keys), *keys, *arguments),
        ]
        began_s = time.monotonic()
        *_, outcome = target.exchange(commands, self._sending[job.to])
        took_s = time.monotonic() - began_s
        self._rates.measured(job.to, sent_bytes, took_s)
        log.info("state %s on %s: %s, %d bytes in %.0f ms", key, job.to, outcome.decode(), sent_bytes, took_s * 1000)
        return self._record(job, sent_bytes, took_s)

    def _bundle(self, key: StateKey) -> tuple[Frames, bytes, int]:
        """(frames, readers, remaining time to live in ms) of the copy on this node."""

        def read(client: RedisClient) -> list[Any]:
            pipeline = client.pipeline(transaction=True)
            pipeline.hgetall(redis_key(key))
            pipeline.pttl(redis_key(key))
            return pipeline.execute()

        stored, ttl_ms = self._stores.local.run(read)
        if not stored:
            raise Pointless(f"state {key} is not on {self._here} any more (consumed or expired)")
        return *parse_bundle(stored), ttl_ms if ttl_ms > 0 else self._ttl_ms

    def _record(self, job: Push, sent_bytes: int, took_s: float) -> MoveRecord:
        now_s = self._clock.now_s()
        measured_ms = (now_s - job.captured_s) * 1000
        return MoveRecord(
            kind="state",
            what=job.key,
            source=self._here,
            target=job.to,
            policy=job.policy,
            size_bytes=job.size_bytes,
            sent_bytes=sent_bytes,
            hops=job.hops,
            predicted_ms=job.predicted_ms,
            measured_ms=measured_ms,
            objective_ms=job.objective_ms,
            met=measured_ms <= job.objective_ms,
            refused=job.refused,
            finished_s=now_s,
            details={"transfer_ms": took_s * 1000},
        )

    def _retire(self, job: Retire, key: StateKey, queued_ms: int) -> None:
        # Only to the node in its key is a bundle ever pushed: the origin needs no mark against that.
        mark_ttl_ms: int | str = self._ttl_ms if job.at == key.node else ""
        keys = [redis_key(key), arrived_key(key), retired_key(key)]
        try:
            self._stores.of(job.at).run_script("retire", keys, [job.reader, mark_ttl_ms])
        except StoreUnavailable as error:
            seconds, microseconds = self._stores.local.run(lambda client: client.time())
            if seconds * 1000 + microseconds // 1000 - queued_ms > self._ttl_ms:
                raise Pointless(f"state {key} has expired by itself on {job.at}: {error}") from None
            raise
