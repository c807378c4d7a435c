"""Brings every stored event to every Trigger that wants it, and every such delivery to one recorded outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from functools import partial
from time import perf_counter
from typing import Any, Final

from libskylark.clock import Clock, rfc3339
from libskylark.eventing.cargo import Cargo
from libskylark.eventing.deliverer import Deliverer
from libskylark.eventing.delivery import Courier
from libskylark.eventing.entry import Content, Entry
from libskylark.eventing.intake import Intake
from libskylark.eventing.lane import Lane
from libskylark.eventing.loans import LENT_BYTES, Loans
from libskylark.eventing.metrics import BrokerMetrics, Queue
from libskylark.eventing.outcome import End, settlement, undelivered
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.stream import Stream
from libskylark.eventing.subscriptions import Subscription, Subscriptions

# Changed files are found by two looks, a second apart, and read; another process may have been so much earlier.
_PATIENCE_S: Final = 5.0

log = logging.getLogger("skylark.broker")


class Dispatcher:
    """One lane per Trigger, fed by the stream."""

    def __init__(
        self,
        subscriptions: Iterable[Subscription],
        intake: Intake,
        courier: Courier,
        readdresser: Readdresser,
        clock: Clock,
        metrics: BrokerMetrics,
        in_flight: int = 32,
        patience_s: float = _PATIENCE_S,
        lent_bytes: int = LENT_BYTES,
    ) -> None:
        """Events for a Trigger that was never there wait `patience_s` for it: its file may not have been read yet.

        `lent_bytes` bounds the bodies that deliveries hold and that are not resident (see Loans).
        """
        self._subscriptions = Subscriptions(subscriptions)
        self._deliverer = Deliverer(self._subscriptions, intake, courier, readdresser, clock, self._is_overfull)
        self._intake = intake
        self._loans = Loans(self._read, lent_bytes)
        self._answers = courier.answers
        self._clock = clock
        self._metrics = metrics
        self._in_flight = in_flight
        self._patience_s = patience_s
        self._stream: Stream | None = None
        self._lanes: dict[str, Lane] = {}
        self._closed = False
        self._expected: dict[str, asyncio.TimerHandle] = {}  # by Trigger: when to wait for it no longer

    def attach(self, stream: Stream) -> None:
        """Where outcomes are stored; called before the stream starts."""
        self._stream = stream

    def exchange(self, subscriptions: Iterable[Subscription]) -> None:
        """Other subscriptions are in force for every attempt from now on; the queues stay as they are.

        What waits for a Trigger that is gone goes to the dead letters, and so does what fails there once more.
        """
        changed = self._subscriptions.exchange(subscriptions)
        self._deliverer.forget(changed)
        for trigger in changed & self._lanes.keys():
            self._lanes[trigger].wake()
        for trigger in changed & self._expected.keys():
            self._expected.pop(trigger).cancel()
            self._lanes[trigger].release()

    def queues(self) -> dict[str, Queue]:
        """How long the queue of each Trigger is."""
        return {trigger: lane.queue for trigger, lane in self._lanes.items()}

    def dispatch(self, entry: Entry) -> None:
        """Queues an entry at the lanes of its triggers."""
        for trigger in [*entry.remaining]:
            lane = self._lanes.get(trigger)
            if lane is None:
                lane = self._lanes[trigger] = Lane(self._in_flight, partial(self._deliver, trigger))
                if self._closed:
                    lane.halt()
            if self._subscriptions.may_come(trigger):
                self._expect(trigger, lane)
            lane.offer(entry)

    def begin_anew(self) -> None:
        """Forgets all entries, and starts none of them any more: another dispatcher has them."""
        self._lanes = {trigger: lane.replaced() for trigger, lane in self._lanes.items()}

    async def close(self, grace_s: float) -> None:
        """Starts no more deliveries; those under way may end within the grace. The rest stays stored."""
        self._closed = True
        for timer in self._expected.values():
            timer.cancel()
        await asyncio.gather(*(lane.close(grace_s) for lane in self._lanes.values()))

    def _expect(self, trigger: str, lane: Lane) -> None:
        """Nothing is delivered to a Trigger that is not there yet, until it comes, or is waited for no longer."""
        if trigger not in self._expected:
            lane.hold()
            loop = asyncio.get_running_loop()
            self._expected[trigger] = loop.call_later(self._patience_s, self._give_up, trigger)

    def _give_up(self, trigger: str) -> None:
        del self._expected[trigger]
        self._subscriptions.give_up(trigger)
        self._lanes[trigger].release()

    async def _deliver(self, trigger: str, entry: Entry, lane: Lane) -> Awaitable[Any]:
        started, cargo = perf_counter(), Cargo(self._loans, trigger, entry, lane)
        try:
            if self._answers.owes_too_much:
                with lane.interruptible():
                    await self._answers.drained()
            try:
                end = await self._deliverer.deliver(trigger, cargo, lane)
                stored = self._settle(trigger, entry, cargo.head, end, started)
            except Exception as error:  # a fault of ours: kept as a dead letter, so that it neither blocks nor repeats
                log.exception("delivery of entry %s to %s failed within the broker", entry.id, trigger)
                entry.remaining.add(trigger)  # it may have been taken off, and nothing is stored yet
                end = undelivered(f"broker fault: {error!r}", await cargo.load())
                stored = self._settle(trigger, entry, cargo.head, end, started)
        except BaseException:
            entry.remaining.add(trigger)
            cargo.unload()
            raise
        self._hold_until(stored, cargo, end)
        return stored

    def _settle(
        self, trigger: str, entry: Entry, content: Content | None, end: End, started: float
    ) -> asyncio.Future[list[str]]:
        duration_s = perf_counter() - started
        kept = settlement(trigger, entry, content, end, duration_s, rfc3339(self._clock.now_s()))
        assert self._stream is not None, "attach comes first"
        stored = self._stream.settle(kept)
        event_type = content.event.type if content else ""
        self._metrics.note_delivery(trigger, event_type, end.outcome, end.result.attempts, duration_s)
        if end.reply is not None:
            self._metrics.count_event(self._intake.broker_of(trigger), end.reply.content.event.type, end.reply.outcome)
        return stored

    def _hold_until(self, stored: asyncio.Future[list[str]], cargo: Cargo, end: End) -> None:
        """What goes into the stream stays in memory, and is counted, until it is stored."""
        answer = end.reply.content if end.reply is not None else end.letter if end.letter_for else None
        if answer is not None:
            self._answers.owe(stored, answer.size_bytes)
        if end.letter is None:
            cargo.unload()
        else:
            stored.add_done_callback(lambda _: cargo.unload())

    def _is_overfull(self) -> bool:
        assert self._stream is not None, "attach comes first"
        return self._stream.is_overfull

    async def _read(self, entry: Entry) -> Content | None:
        assert self._stream is not None, "attach comes first"
        return await self._stream.content(entry)
