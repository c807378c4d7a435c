"""What the page shows, and what of it is news: everything that the collector's threads bring comes together here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from libskylark.clock import Clock, Ticks
from libskylark.constellation import Constellation
from libskylark.dashboard.chains import CLOCKWORK, Chains, function_of, seconds
from libskylark.dashboard.findings import Findings
from libskylark.dashboard.moves import Moves
from libskylark.dashboard.news import News
from libskylark.dashboard.places import Held, Places
from libskylark.dashboard.traffic import Traffic, link_json
from libskylark.event import Event
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.journey import Step
from libskylark.jobs import MoveRecord
from libskylark.lab.dashboard import DashboardConfig

_FRESH_S: Final = 5.0  # what is older is history when it is read, and moves nothing on the page
_FRAMES_SHOWN: Final = 8


class View:
    """Safe for several threads: each method takes the one lock."""

    def __init__(
        self, config: DashboardConfig, constellation: Constellation, findings: Findings, news: News, clock: Clock
    ) -> None:
        self._config = config
        self._constellation = constellation
        self._findings = findings
        self._news = news
        self._clock = clock
        self._ticks = Ticks(config.tick_s)
        self._chains = Chains()
        self._traffic = Traffic(constellation)
        self._places = Places(frozenset(constellation.functions))
        self._moves = Moves()
        self._counters = {"events": 0, "retries": 0, "dead_letters": 0}
        self._told: dict[str, Any] = {}  # kind of news -> what was told last
        self._described = {name: _described(constellation, name) for name in constellation.nodes}
        self._lock = threading.RLock()
        self._epoch = self._ticks.epoch_at(clock.now_s())
        self._traffic.follow(self._epoch)

    # What the API asks

    def snapshot(self) -> dict[str, Any]:
        """Everything that the page shows, but for the chains; what comes after it is news from `cursor` on."""
        with self._lock:
            return {
                "cursor": self._news.cursor,
                "project": self._config.project,
                "now_s": self._clock.now_s(),
                "tick_s": self._config.tick_s,
                "area": self._constellation.spec.area,
                "destination": self._constellation.destination,
                "rotation": self._rotation(),
                "emulated_links": bool(self._config.links_url),
                **self._epoch_news(),
                "nodes": self._nodes(),
                "links": self._traffic.links(),
                "memories": self._places.memories(),
                "counters": self._counted(),
                "handovers": self._moves.handovers(),
                "frames": list(self._findings.frames.values())[: -_FRAMES_SHOWN - 1 : -1],
                "alarms": list(self._findings.alarms.values())[::-1],
            }

    def chains(self) -> list[dict[str, Any]]:
        """Summaries, the latest first."""
        with self._lock:
            return self._chains.summaries()

    def journey(self, chain: str) -> dict[str, Any] | None:
        """The waterfall of a chain; None where it is none of the last ones."""
        with self._lock:
            return self._chains.journey(chain)

    def frame(self, chain: str) -> dict[str, Any] | None:
        """One of the last frames; None where the chain has none."""
        with self._lock:
            return self._findings.frames.get(chain)

    def node(self, name: str) -> dict[str, Any] | None:
        """What is known of one node; None where the constellation has none of that name."""
        if name not in self._constellation.nodes:
            return None
        with self._lock:
            return {
                **self._node(name),
                "links": [link for link in self._traffic.links() if name in (link["source"], link["target"])],
                "memories": [memory for memory in self._places.memories() if memory["node"] == name],
                "bundles": self._places.states(name),
                "moves": self._moves.of(name),
            }

    # What the collector brings

    def take(self, step: Step) -> Event | None:
        """One record of a journal; the event whose answer Findings is to look up, if it may be a frame or alarms."""
        record = step.record
        with self._lock:
            self._chains.add(step)
            self._count(step)
            self._news.add(partial(self._chain_news, record.chain), f"chain {record.chain}")
            path = self._traffic.hop(step)
            if self._clock.now_s() - seconds(record.time) < _FRESH_S:
                if path is not None:
                    self._news.add({"kind": "travel", "what": "event", "path": path, **_event_of(step)})
                if isinstance(record, Outcome) and record.outcome != "forwarded":
                    self._news.add({"kind": "run", **_event_of(step), **_run(step.node, record)})
            return self._findings.asks_for(step)

    def take_answer(self, step: Step, answer: Event) -> None:
        """What Findings has looked up."""
        with self._lock:
            for kind, found in self._findings.add(step, answer):
                self._news.add({"kind": kind, kind: found})

    def take_look(self, node: str, held: Held | None, fault: str = "") -> None:
        """What a node's store holds, or why it does not tell."""
        with self._lock:
            if held is not None:
                self._places.saw(node, held)
            else:
                self._places.heard_nothing(node, fault)

    def take_moves(self, moves: list[MoveRecord]) -> None:
        """Records of moves, each once."""
        with self._lock:
            for record in moves:
                self._take_move(record)

    def take_links(self, links: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
        """What the relay of emulated links says; see Traffic.relay."""
        with self._lock:
            self._traffic.relay(links, pairs)

    def enter(self, epoch: int) -> None:
        """A tick has come."""
        with self._lock:
            self._epoch = epoch
            self._traffic.follow(epoch)
            self._news.add({"kind": "epoch", **self._epoch_news(), "links": self._traffic.links()}, "epoch")

    def tell_changes(self) -> None:
        """Tells of what has no moment of its own: what waits, loads, where memory is, counters."""
        with self._lock:
            self._tell_if_new("nodes", self._nodes)
            self._tell_if_new("links", self._traffic.links)
            self._tell_if_new("memories", self._places.memories)
            self._tell_if_new("counters", self._counted)

    def _take_move(self, record: MoveRecord) -> None:
        move = self._moves.add(record)
        path = self._traffic.crossed(record.source, record.target, record.sent_bytes)
        if record.kind == "memory":
            self._news.add({"kind": "handover", "handover": move})
        if self._clock.now_s() - record.finished_s < _FRESH_S:
            self._news.add({"kind": "travel", "what": record.kind, "path": path, "move": move})

    def _count(self, step: Step) -> None:
        record, counters = step.record, self._counters
        if isinstance(record, Accepted):
            counters["events"] += not record.hop
        elif isinstance(record, Outcome):
            counters["retries"] += max(0, record.attempts - 1)
            counters["dead_letters"] += record.outcome in ("dead-lettered", "expired")

    def _tell_if_new(self, kind: str, make: Callable[[], Any]) -> None:
        content = make()
        if self._told.get(kind) != content:
            self._told[kind] = content
            self._news.add({"kind": kind, kind: content}, kind)

    def _chain_news(self, chain: str) -> dict[str, Any] | None:
        with self._lock:
            summary = self._chains.summary(chain)
        return None if summary is None else {"kind": "chain", "chain": summary}

    def _epoch_news(self) -> dict[str, Any]:
        now, upcoming = (self._constellation.topology(epoch).links for epoch in (self._epoch, self._epoch + 1))
        return {
            "epoch": self._epoch,
            "epoch_began_s": self._ticks.starts_s(self._epoch),
            "access": self._constellation.access(self._epoch),
            "next_access": self._constellation.access(self._epoch + 1),
            "next_links": [link_json(link) for link in upcoming if link not in now],
        }

    def _rotation(self) -> dict[str, Any] | None:
        rotation = self._constellation.spec.rotation
        return None if rotation is None else {"ground": rotation.ground, "satellites": rotation.satellites}

    def _nodes(self) -> list[dict[str, Any]]:
        return [self._node(name) for name in self._constellation.nodes]

    def _node(self, name: str) -> dict[str, Any]:
        return {**self._described[name], **self._places.node(name)}

    def _counted(self) -> dict[str, Any]:
        return {**self._counters, **self._moves.counters, "reads": self._places.reads()}


def _described(constellation: Constellation, name: str) -> dict[str, Any]:
    """What of a node never changes."""
    node = constellation.nodes[name]
    functions = [function for function in constellation.functions if name in constellation.hosts(function)]
    return {"name": name, "type": node.type, "host": node.ip, "functions": functions}


def _event_of(step: Step) -> dict[str, Any]:
    record = step.record
    return {
        "event": record.event,
        "type": record.type,
        "chain": record.chain,
        "clockwork": record.type in CLOCKWORK,
    }


def _run(node: str, record: Outcome) -> dict[str, Any]:
    return {
        "node": node,
        "function": function_of(record.trigger, node),
        "outcome": record.outcome,
        "attempts": record.attempts,
        "duration_ms": record.duration_ms,
    }
