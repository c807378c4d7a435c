"""Stores with a stopwatch: what one run reads and commits, as timings for the header of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from libskylark.event import STATE, Event
from libskylark.fields import Frames
from libskylark.key import StateKey
from libskylark.memory import Committed, Conflict, Effects, Fenced, Ledger, MemoryName, Opened
from libskylark.state import INLINE, LOCAL, REMOTE, WAITED, IncomingState, Loaded, States
from libskylark.timing import Timing
from libskylark.tracing import note_span

_SPANS: Final = {"state": "read state", "memory": "read memory", "commit": "write state and memory"}


class Meter:
    """Stands between one run on node `here` and its stores; it is the States and the Ledger of that run."""

    def __init__(self, here: str, states: States, ledger: Ledger) -> None:
        self.states: States = _MeteredStates(self, states)
        self.ledger: Ledger = _MeteredLedger(self, ledger)
        self.here = here
        self.timings: list[Timing] = []

    def note_read(self, what: str, took_s: float, place: str, node: str, size_bytes: int) -> None:
        self.timings.append(Timing(what, took_s * 1000, place, node, size_bytes))
        self._trace(what, took_s, place, node, size_bytes)

    def note_inline(self, event: Event, state: IncomingState) -> None:
        """State in the event takes no time, but is read from somewhere all the same."""
        if INLINE in state.reads():
            size_bytes = len(event.attributes[STATE]) * 3 // 4  # it is base64
            self.note_read("state", 0.0, INLINE, self.here, size_bytes)

    def note_commit(self, took_s: float, effects: Effects) -> None:
        """All that was written, with the event that was emitted: small state is in there."""
        self.timings.append(Timing("commit", took_s * 1000))
        size_bytes = _size_bytes(effects.state) + _size_bytes(effects.memory_written) + len(effects.reply)
        self._trace("commit", took_s, LOCAL, self.here, size_bytes)

    def _trace(self, what: str, took_s: float, place: str, node: str, size_bytes: int) -> None:
        note_span(_SPANS[what], took_s, **{"skylark.place": place, "skylark.node": node, "skylark.bytes": size_bytes})


class _MeteredStates:
    def __init__(self, meter: Meter, states: States) -> None:
        self._meter = meter
        self._states = states

    def load(self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None) -> Loaded:
        started = perf_counter()
        loaded = self._states.load(key, origin, names, first)
        here = WAITED if loaded.waited else LOCAL
        place = here if loaded.node == self._meter.here else REMOTE
        self._meter.note_read("state", perf_counter() - started, place, loaded.node, _size_bytes(loaded.frames))
        return loaded


class _MeteredLedger:
    def __init__(self, meter: Meter, ledger: Ledger) -> None:
        self._meter = meter
        self._ledger = ledger

    def open(self, name: MemoryName, event: Event) -> Opened:
        return self._ledger.open(name, event)

    def load(self, name: MemoryName, fields: Sequence[str] | None) -> Frames:
        started = perf_counter()
        frames = self._ledger.load(name, fields)
        self._meter.note_read("memory", perf_counter() - started, LOCAL, self._meter.here, _size_bytes(frames))
        return frames

    def commit(self, effects: Effects) -> Committed | Conflict | Fenced:
        started = perf_counter()
        outcome = self._ledger.commit(effects)
        self._meter.note_commit(perf_counter() - started, effects)
        return outcome


def _size_bytes(frames: Frames) -> int:
    return sum(map(len, frames.values()))
