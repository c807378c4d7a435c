"""The faults that the bench injects: processes and nodes that are killed, links that are cut at a chosen moment.

Each returns once what it broke is whole again, but for a node that stays dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from libskylark.bench.frames import FrameStream
from libskylark.bench.ownership import HandoverWatch, OwnerWatch, Phase
from libskylark.clock import Ticks
from libskylark.errors import LabError, StoreUnavailable
from libskylark.eventing.keys import EVENTS
from libskylark.jobs import JOBS
from libskylark.lab.lab import Lab
from libskylark.lab.links import CutMode, Figures
from libskylark.memory import MemoryName
from libskylark.store import Store

_SLOW: Final = Figures(latency_ms=150.0, bandwidth_mbps=40.0)  # so that a phase lasts longer than it takes to cut
_HELD_S: Final = (1.0, 2.0)  # how long a cut lasts
_CUT_MODES: Final[tuple[CutMode, ...]] = ("reset", "silent")
_FENCED: Final[tuple[Phase, ...]] = ("fence", "commit")
_TRIES: Final = 4  # handovers that are watched until one shows the phase
_READY_S: Final = 30.0  # for a killed process to be back
_LEAD_S: Final = 2.3  # a handover is prepared no earlier than that before its tick (services/handovers.py)
_ADDRESSED: Final = 3  # frames that are sent to a node that has died


@dataclass
class Scene:
    """The running lab, and what faults look at."""

    lab: Lab
    stores: Mapping[str, Store]
    memory: MemoryName
    watch: OwnerWatch
    stream: FrameStream
    rng: Random
    dead: set[str] = field(default_factory=set)

    @property
    def home(self) -> str:
        return self.lab.plan.home

    @property
    def ticks(self) -> Ticks:
        return Ticks(self.lab.plan.tick_s)

    def access(self, epochs_ahead: int = 0) -> str:
        """The node above the area, now or so many ticks later."""
        return self.lab.plan.constellation.access(self.ticks.epoch_at(time.time()) + epochs_ahead)

    def alive(self, *nodes: str) -> str:
        """One of these that has not died."""
        return self.rng.choice([node for node in nodes if node not in self.dead])


@dataclass(frozen=True)
class Strike:
    """What was done when: `at_s` in Unix seconds.

    `in_phase`, for a fault that was meant for a phase of a handover: whether it came in it. `chain` is that of the
    frame by which the recovery shows; None for the first one that is sent afterwards.
    """

    what: str
    at_s: float
    in_phase: bool | None = None
    chain: str | None = None


Kind = Callable[[Scene], Strike]


def kill_elect(scene: Scene) -> Strike:
    """The elect above the area or the next one: with it go the node's mover and its handovers."""
    return _killed(scene, f"{scene.alive(scene.access(), scene.access(1), scene.access(2))}-elect")


def kill_function(scene: Scene) -> Strike:
    function = scene.rng.choice(["camera", "preprocess", "detect", "alarm"])
    owner = scene.watch.owner or scene.access()
    node = scene.home if function == "alarm" else scene.alive(owner, scene.access(), scene.access(1), scene.access(2))
    return _killed(scene, f"{node}-{function}")


def kill_broker(scene: Scene) -> Strike:
    edges = [name for name, node in scene.lab.plan.constellation.nodes.items() if node.type == "Edge"]
    node = scene.alive(scene.access(), scene.access(), scene.access(1), scene.access(2), scene.home, *edges)
    return _killed(scene, f"{node}-broker")


def kill_redis(scene: Scene) -> Strike:
    """A satellite's Redis, whose disk stays: the owner's more often than others'."""
    satellites = [name for name, node in scene.lab.plan.constellation.nodes.items() if node.type == "Sat"]
    node = scene.alive(
        scene.watch.owner or scene.access(), scene.access(), scene.access(1), scene.rng.choice(satellites)
    )
    return _killed(scene, f"{node}-redis")


def cut_link(phase: Phase, scene: Scene) -> Strike:
    """The link of a handover in one of its phases: between old and new owner, or between the old one and the home."""
    mode = scene.rng.choice(_CUT_MODES)
    for _ in range(_TRIES):
        here, there = _next_handover(scene)
        far = scene.home if phase == "register" else there
        handover = HandoverWatch(scene.stores, scene.memory, here, there, scene.home)
        with _slowed(scene, here, far), scene.stream.rush(here, _tick_s(scene)):
            if not handover.wait_for(phase, _patience_s(scene)):
                continue
            at_s = time.time()
            scene.lab.links.cut(here, far, mode)
            try:
                hit = _phase(handover) == phase
                time.sleep(scene.rng.uniform(*_HELD_S))
            finally:
                scene.lab.links.heal(here, far)
            return Strike(f"{here} - {far} ({mode})", at_s, hit)
    raise LabError(f"in {_TRIES} handovers of memory {scene.memory} the phase {phase!r} was not seen")


def kill_in_commit(role: str, scene: Scene) -> Strike:
    """The old owner's elect or Redis while it is fenced: before the rest has arrived, or has been acknowledged."""
    phase: Phase = scene.rng.choice(_FENCED)
    for _ in range(_TRIES):
        here, there = _next_handover(scene)
        handover = HandoverWatch(scene.stores, scene.memory, here, there, scene.home)
        with _slowed(scene, here, there), scene.stream.rush(here, _tick_s(scene)):
            if not handover.wait_for(phase, _patience_s(scene)):
                continue
            seen = _phase(handover)
            strike = _killed(scene, f"{here}-{role}")
            return Strike(f"{strike.what} (in {phase})", strike.at_s, seen == phase)
    raise LabError(f"in {_TRIES} handovers of memory {scene.memory} the phase {phase!r} was not seen")


def end_node(scene: Scene) -> Strike:
    """A satellite for good: one that owns nothing and has nothing to do, and will soon be above the area.

    Frames that are addressed to it from then on must go elsewhere.
    """
    node = scene.access(3)
    scene.stream.avoid(node)
    if not scene.watch.wait_for(partial(_idle, scene, node), _READY_S):
        raise LabError(f"node {node} has events or jobs left after {_READY_S:g} s without requests")
    at_s = time.time()
    scene.lab.stop_node(node)
    scene.dead.add(node)
    frames = [scene.stream.send(address=node) for _ in range(_ADDRESSED)]
    return Strike(node, at_s, chain=frames[0].event.chain)


KINDS: Final[Mapping[str, Kind]] = {
    "elect": kill_elect,
    "function": kill_function,
    "broker": kill_broker,
    "redis": kill_redis,
    "cut-copy": partial(cut_link, "copy"),
    "cut-fence": partial(cut_link, "fence"),
    "cut-commit": partial(cut_link, "commit"),
    "cut-register": partial(cut_link, "register"),
    "elect-in-commit": partial(kill_in_commit, "elect"),
    "redis-in-commit": partial(kill_in_commit, "redis"),
    "node-for-good": end_node,
}


def _killed(scene: Scene, name: str) -> Strike:
    at_s = time.time()
    spec = scene.lab.kill(name)
    scene.lab.supervisor.wait_ready([spec], _READY_S)
    return Strike(name, at_s)


def _next_handover(scene: Scene) -> tuple[str, str]:
    """(old, new owner) of the next handover between living nodes that is not yet being prepared."""
    found = list[tuple[str, str]]()

    def there() -> bool:
        left_s, here, following = _tick_s(scene) - time.time(), scene.access(), scene.access(1)
        if scene.watch.owner == here and following not in scene.dead and left_s > _lead_s(scene):
            found.append((here, following))
        return bool(found)

    if not scene.watch.wait_for(there, len(scene.lab.plan.constellation.nodes) * scene.ticks.tick_s):
        raise LabError(f"memory {scene.memory} did not come to the node above the area")
    return found[0]


@contextmanager
def _slowed(scene: Scene, a: str, b: str) -> Iterator[None]:
    scene.lab.links.set(a, b, _SLOW)
    try:
        yield
    finally:
        scene.lab.links.unset(a, b)


def _phase(handover: HandoverWatch) -> Phase | None:
    try:
        return handover.phase()
    except StoreUnavailable:
        return None


def _idle(scene: Scene, node: str) -> bool:
    """Whether nothing waits on a node, and the memory is neither there nor about to be."""
    if node in (scene.watch.owner, scene.access(), scene.access(1)):
        return False
    waiting = (EVENTS, JOBS)
    return not any(scene.stores[node].run(lambda client: [client.xlen(key) for key in waiting]))


def _tick_s(scene: Scene) -> float:
    """When the present epoch ends, in Unix seconds."""
    return scene.ticks.ends_s(scene.ticks.epoch_at(time.time()))


def _lead_s(scene: Scene) -> float:
    return min(_LEAD_S, scene.ticks.tick_s / 2 + 0.3)


def _patience_s(scene: Scene) -> float:
    """Until the tick that may bring the phase, and for what a slow link makes of it."""
    return scene.ticks.tick_s + 3.0
