"""The relay: sockets that listen where one node reaches another, and one event loop in a thread that serves them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from types import TracebackType
from typing import Any, Final

from libskylark.clock import Clock, SystemClock, Ticks
from libskylark.constellation import Constellation
from libskylark.lab.connection import Connection
from libskylark.lab.event_loop import LoopThread
from libskylark.lab.links import CutMode, Figures, Hop, Links, Reroute, Scope
from libskylark.lab.links.pair import Pair
from libskylark.lab.listening import Door, listen, listen_anywhere
from libskylark.topology import Topology

log = logging.getLogger("skylark.links")

WINDOW_BYTES: Final = 1 << 20
#: After so many epochs the constellation's topologies begin anew.
_EPOCHS_PER_ROUND: Final = 60
_ACCEPT_PAUSE_S: Final = 0.5  # when the process has no more file descriptors


class LinkRelay:
    """A context manager around a thread that relays connections between nodes as their links would carry them.

    Everything that is asked for holds when the call returns. What is cut or set by hand is a pair of nodes (what they
    send each other, whatever its way) or a link of the constellation (all that is led over it), by `scope`; both stay
    so in later epochs. A connection holds at most `window_bytes` in each direction, and so fills no link that carries
    more than that in the time of its latency. With one `seed`, the n-th connection from a node to a port of another
    meets the same jitter in every run.

    How it differs from real links: no packet is lost, and TCP starts at full speed. Connecting succeeds at once,
    since the kernel accepts before the relay does, and nothing in user space can hold its answer back: the round trip
    that it takes, a refusal and a cut are felt by the first thing that is sent or awaited. A time-out for connecting
    alone never runs out. Up to a few hundred KiB of what was sent wait in the kernel beside the window.
    A busy Python thread in the same process delays everything by up to the interpreter's switch interval (5 ms); busy
    processes do so only where the thread cannot have priority (see lab/priority.py).
    """

    def __init__(
        self,
        seed: int = 0,
        reroute: Reroute = "survive",
        no_route: CutMode = "reset",
        window_bytes: int = WINDOW_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._seed = seed
        self._reroute = reroute
        self._links = Links(no_route)
        self._window_bytes = window_bytes
        self._clock = clock or SystemClock()
        self._thread = LoopThread("links", self._close_doors)
        self._loop = self._thread.loop
        self._doors: dict[socket.socket, Door] = {}
        self._chosen: dict[tuple[str, str], str] = {}
        self._addresses = Random()
        self._made = Counter[tuple[str, str, int]]()
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Reset all connections, and wait until nothing of the relay is left."""
        self._thread.stop()

    def __enter__(self) -> LinkRelay:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def open(self, source: str, target: str, host: str, port: int, at: str | None = None) -> tuple[str, int]:
        """The address at which `source` reaches `target`'s `host`:`port`: `at` or, chosen once for the pair, a free
        loopback address, with the same port.

        Raises LabError where that address cannot be used.
        """
        return self._thread.call(lambda: self._open(source, target, host, port, at))

    def set(self, a: str, b: str, figures: Figures, scope: Scope = "pair") -> None:
        """Give a link or a pair these figures; until `unset`."""
        self._change(lambda: self._links.set(a, b, figures, scope))

    def unset(self, a: str, b: str, scope: Scope = "pair") -> None:
        """Back to the figures of the topology."""
        self._change(lambda: self._links.unset(a, b, scope))

    def cut(self, a: str, b: str, mode: CutMode = "silent", scope: Scope = "pair") -> None:
        """Let nothing pass, either way, until `heal`; a second cut may only change the mode.

        Silent by default: a link that fails sends no FIN and no RST, and what depends on being told of it hides a
        defect. Flows whose link is cut take another way from the next epoch on, where there is one.
        """
        self._change(lambda: self._links.cut(a, b, mode, scope))

    def heal(self, a: str, b: str, scope: Scope = "pair") -> None:
        """Undo a cut; without a route, two nodes stay apart."""
        self._change(lambda: self._links.heal(a, b, scope))

    def heal_all(self) -> None:
        self._change(self._links.heal_all)

    def follow(self, topology: Topology, min_bandwidth_mbps: float = 0.0) -> None:
        """Lead all pairs over the paths of this topology; see Links.follow.

        Connections whose route is another one now go on over it or are reset, by the relay's `reroute`.
        """
        self._thread.call(lambda: self._follow(topology, min_bandwidth_mbps))

    def follow_ticks(self, constellation: Constellation, tick_s: float) -> None:
        """Follow the constellation's topology of this epoch now, and of each next one at its tick."""

        def begin() -> None:
            if self._following is not None:
                self._following.cancel()
            for epoch in range(_EPOCHS_PER_ROUND):
                self._links.know(constellation.topology(epoch).links)
            self._follow_epoch(constellation, Ticks(tick_s))
            self._following = self._loop.create_task(self._keep_following(constellation, Ticks(tick_s)))

        self._thread.call(begin)

    def status(self) -> list[dict[str, Any]]:
        """Every pair: `nodes`, `state` (open, silent, reset), `cut` by hand, `routed`, `path`, `pinned`, the figures of
        the whole path, how many `connections` it has and how many `waiting_bytes` are on their way in them."""
        return self._thread.call(self._status)

    def links(self) -> list[dict[str, Any]]:
        """Every link that some epoch has: `nodes`, `up` (whether this one has it), `cut` (None, silent, reset), its
        figures, `pinned` (by hand), `carried_bytes` in either direction, how many `connections` are led over it."""
        return self._thread.call(self._describe_links)

    def carried_bytes(self) -> dict[Hop, int]:
        """What each link of the topology has carried since the start, by direction; see Links.carried_bytes."""
        return self._thread.call(self._links.carried_bytes)

    # What follows runs in the thread of the loop.

    def _close_doors(self) -> None:
        for listener in self._doors:
            self._loop.remove_reader(listener)
            listener.close()

    def _change(self, action: Callable[[], object]) -> None:
        def act() -> None:
            action()
            self._changed()

        self._thread.call(act)

    def _changed(self) -> None:
        self._reset(pair for pair in self._links.pairs() if pair.gate.state == "reset")

    def _reset(self, pairs: Iterable[Pair]) -> None:
        doomed = set(pairs)
        for task, connection in self._connections.items():
            if connection.pair in doomed and not task.cancelling():
                task.cancel()

    def _open(self, source: str, target: str, host: str, port: int, at: str | None) -> tuple[str, int]:
        self._links.join(source, target)
        at = at or self._chosen.get((source, target))
        listener = listen(at, port) if at else listen_anywhere(port, self._addresses)
        at = self._chosen[source, target] = listener.getsockname()[0]
        door = Door(source, target, host, port, at)
        self._doors[listener] = door
        self._loop.add_reader(listener, self._accept, listener, door)
        return at, port

    def _accept(self, listener: socket.socket, door: Door) -> None:
        try:
            while True:
                self._connected(listener.accept()[0], door)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("no connection from %s to %s can be accepted: %s", door.source, door.target, error)
            self._loop.remove_reader(listener)
            self._loop.call_later(_ACCEPT_PAUSE_S, self._loop.add_reader, listener, self._accept, listener, door)

    def _connected(self, client: socket.socket, door: Door) -> None:
        pair = self._links.pair(door.source, door.target)
        made = (door.source, door.target, door.port)
        self._made[made] += 1
        seed = f"{self._seed} {made} {self._made[made]}"
        connection = Connection(pair, door.source, client, (door.host, door.port), self._window_bytes, seed)
        if pair.gate.state == "reset":
            connection.close()
            return
        task = self._loop.create_task(connection.run())
        self._connections[task] = connection
        task.add_done_callback(self._close)

    def _close(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a relayed connection failed", exc_info=error)

    def _status(self) -> list[dict[str, Any]]:
        made, waiting_bytes = Counter[Pair](), Counter[Pair]()
        for connection in self._connections.values():
            made[connection.pair] += 1
            waiting_bytes[connection.pair] += connection.waiting_bytes
        return [
            {**pair.to_json(), "connections": made[pair], "waiting_bytes": waiting_bytes[pair]}
            for pair in self._links.pairs()
        ]

    def _describe_links(self) -> list[dict[str, Any]]:
        over = Counter(ends for connection in self._connections.values() for ends in connection.pair.hops())
        return [{**link.to_json(), "connections": over[frozenset(link.nodes)]} for link in self._links.links()]

    def _follow(self, topology: Topology, min_bandwidth_mbps: float) -> None:
        moved = self._links.follow(topology, min_bandwidth_mbps)
        if self._reroute == "break":
            self._reset(moved)
        self._changed()

    def _follow_epoch(self, constellation: Constellation, ticks: Ticks) -> None:
        epoch = ticks.epoch_at(self._clock.now_s())
        self._follow(constellation.topology(epoch), constellation.objectives.min_bandwidth_mbps)

    async def _keep_following(self, constellation: Constellation, ticks: Ticks) -> None:
        while True:
            ends_s = ticks.ends_s(ticks.epoch_at(self._clock.now_s()))
            await asyncio.sleep(ends_s - self._clock.now_s())
            self._follow_epoch(constellation, ticks)
