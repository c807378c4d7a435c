"""A steady stream of frame requests into a running lab, and what the journals of all nodes tell of each frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Final

import numpy as np

from libskylark.codec import encode
from libskylark.errors import BrokerUnavailable
from libskylark.event import NODE, PARTITION, STATE, Event
from libskylark.eventing.journal import Duplicate, Outcome
from libskylark.eventing.journey import JournalTail, Journey, Step
from libskylark.lab.tally import is_decision
from libskylark.sender import Sender
from libskylark.state import encode_inline
from libskylark.store import Store

REQUEST_TYPE: Final = "dev.skylark.frame.requested"
DETECTED_TYPE: Final = "dev.skylark.image.preprocessed"  # what detect takes
DECIDED_TYPE: Final = "dev.skylark.hotspots.detected"  # what the alarm takes
_SOURCE: Final = "/skylark/bench/faults"
_DOUBLED: Final = 5  # of so many frames one is sent twice
_PAUSE_S: Final = 0.1  # before a request that was not taken goes to the next broker
_RUSH: Final = 8
_RUSH_LEAD_S: Final = 0.3
_RUSH_PAUSE_S: Final = 0.12
_LAST_SEND_S: Final = 60.0


@dataclass
class Frame:
    """One frame: when its request was sent first and taken, in Unix seconds, and what came of it."""

    event: Event
    sending_s: float
    accepted: bool = False
    detected: bool = False  # detect has answered for it
    decided_s: float | None = None  # when the alarm has
    journey: Journey = field(init=False)

    def __post_init__(self) -> None:
        self.journey = Journey(self.event.chain)

    def ids(self, event_type: str) -> set[str]:
        """The events of a type by which the frame went on: one, however often it was delivered."""
        return {step.record.event for step in self.journey.steps if step.record.type == event_type}


class Frames:
    """All frames of a run, in the order in which they were sent; threads may share it."""

    def __init__(self) -> None:
        self._by_chain: dict[str, Frame] = {}
        self._changed = threading.Condition()

    def begin(self, frame: Frame) -> None:
        with self._changed:
            self._by_chain[frame.event.chain] = frame

    def accept(self, frame: Frame) -> None:
        with self._changed:
            frame.accepted = True
            self._changed.notify_all()

    def learn(self, step: Step) -> None:
        """One more step of a journal, of whatever chain."""
        record = step.record
        with self._changed:
            if (frame := self._by_chain.get(record.chain)) is None:
                return
            frame.journey.add(step)
            if isinstance(record, Outcome):
                frame.detected = frame.detected or _is_detection(record)
                if frame.decided_s is None and is_decision(record):
                    frame.decided_s = datetime.fromisoformat(record.time).timestamp()
            self._changed.notify_all()

    def sent(self) -> list[Frame]:
        """Those that a broker has taken."""
        with self._changed:
            return [frame for frame in self._by_chain.values() if frame.accepted]

    def first_since(self, moment_s: float) -> Frame | None:
        """The first request whose sending began at that moment or later: it has the whole chain before it."""
        with self._changed:
            requests = (f for f in self._by_chain.values() if f.event.type == REQUEST_TYPE)
            return next((f for f in requests if f.sending_s >= moment_s), None)

    def wait_for(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it was reached in time; it is looked at again after every news, and may ask this object."""
        with self._changed:
            return self._changed.wait_for(reached, max(0.0, timeout_s))


class FrameStream:
    """A context manager that sends so many requests a second, to one node's broker after the other.

    A request is sent again, with the same id and to the next broker, until one has taken it. Every fifth one is
    taken twice on purpose, and then mostly with the address of a camera of its own: as if it had been taken from a
    node that seemed dead.
    """

    def __init__(
        self,
        brokers: Mapping[str, str],
        cameras: Sequence[str],
        area: str,
        frames: Frames,
        rate_per_s: float,
        token: str | None = None,
    ) -> None:
        self._brokers = dict(brokers)
        self._token = token
        self._addresses: list[str | None] = [None, *cameras]
        self._area = area
        self._frames = frames
        self._period_s = 1 / rate_per_s
        self._sending = threading.RLock()
        self._turn = 0
        self._requests = 0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)

    def __enter__(self) -> FrameStream:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join(_LAST_SEND_S)

    def avoid(self, node: str) -> None:
        """No more requests to this node's broker, and no second ones to its camera."""
        with self._sending:
            self._brokers.pop(node, None)
            self._addresses = [address for address in self._addresses if address != node]

    def send(self, address: str | None = None) -> Frame:
        """One more frame, for any camera or for that of the node `address`; returns once it was taken."""
        attributes = {PARTITION: self._area, **({NODE: address} if address else {})}
        with self._sending:
            event = Event.new(REQUEST_TYPE, _SOURCE, {"frame": self._requests}, **attributes)
            self._requests += 1
            frame = self._send(event)
            again, remainder = divmod(self._requests, _DOUBLED)
            if remainder == 0:
                self._post(event.with_attributes(**{NODE: self._addresses[again % len(self._addresses)]}))
            return frame

    @contextmanager
    def rush(self, node: str, moment_s: float) -> Iterator[None]:
        """A few small pictures straight to the detect of a node, one after the other around a moment (Unix s).

        When its memory is handed over then, each step of that meets one that wants to write.
        """
        pause_s, ended = moment_s - _RUSH_LEAD_S - time.time(), threading.Event()

        def send() -> None:
            if not ended.wait(max(0.0, pause_s)):
                for _ in range(_RUSH):
                    self._send(_prepared(self._area, node), node)
                    ended.wait(_RUSH_PAUSE_S)

        thread = threading.Thread(target=send, name="rush", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._leaving.wait(due_s - time.monotonic()):
            self.send()
            due_s = max(due_s + self._period_s, time.monotonic())

    def _send(self, event: Event, broker: str | None = None) -> Frame:
        frame = Frame(event, time.time())
        self._frames.begin(frame)
        self._post(event, broker)
        self._frames.accept(frame)
        return frame

    def _post(self, event: Event, broker: str | None = None) -> None:
        while True:
            nodes = [broker] if broker else list(self._brokers)
            self._turn += 1
            try:
                Sender(self._brokers[nodes[self._turn % len(nodes)]], self._token).post(event)
                return
            except BrokerUnavailable:
                time.sleep(_PAUSE_S)


class JournalReader:
    """A context manager that tells `frames` what all journals hold, from their beginning on."""

    def __init__(self, stores: Mapping[str, Store], frames: Frames) -> None:
        self._tail = JournalTail(stores, from_start=True)
        self._frames = frames
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journals", daemon=True)

    def __enter__(self) -> JournalReader:
        self._tail.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._tail.__exit__(kind, error, trace)
        self._thread.join()

    def _run(self) -> None:
        while not self._leaving.is_set():
            for step in self._tail.steps(time.monotonic() + 0.5):
                self._frames.learn(step)


def last_words(frames: Iterable[Frame]) -> list[str]:
    """For each frame the last that the journals say of it."""
    return [f"frame {frame.event.id}: {_last_step(frame)}" for frame in frames]


def _last_step(frame: Frame) -> str:
    if not frame.journey.steps:
        return "no journal has it"
    step = frame.journey.steps[-1]
    record = step.record
    if isinstance(record, Outcome):
        return f"{step.node}: {record.type} {record.outcome} at {record.trigger} {record.reason}".rstrip()
    if isinstance(record, Duplicate):
        return f"{step.node}: {record.type} taken for a duplicate"
    return f"{step.node}: {record.type} accepted for {', '.join(record.to) or 'nobody'}"


def _prepared(area: str, node: str) -> Event:
    """A picture of 8 x 8 pixels in which nothing burns, ready for the detect of a node."""
    state = encode_inline({"reflectance": encode(np.full((3, 8, 8), 0.1, dtype=np.float32))})
    return Event.new(DETECTED_TYPE, _SOURCE, {"frame": 0, "area": area}, **{PARTITION: area, NODE: node, STATE: state})


def _is_detection(record: Outcome) -> bool:
    """Whether detect has answered, and not only sent the event on to where its memory is."""
    by_detect = record.trigger.endswith("-detect") and record.outcome == "replied"
    return by_detect and record.reply != record.event
