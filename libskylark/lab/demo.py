"""The demo: the fire-watch chain over several ticks, counted by what the journals, stores and events say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from libskylark.clock import Ticks
from libskylark.errors import LabError
from libskylark.eventing.journey import JournalTail, Step
from libskylark.jobs import MOVES_CAP
from libskylark.lab.census import count_node, count_orphans, sum_reads, wait_until_moved
from libskylark.lab.detection import Score, score
from libskylark.lab.lab import Lab
from libskylark.lab.moves import MovesSummary, collect_moves, summarise
from libskylark.lab.observer import Observer
from libskylark.lab.tally import ALARM_TYPE, ELECTED_TYPE, HOTSPOTS_TYPE, Tally
from libskylark.memory import MemoryName, RedisLedger, memory_fields
from libskylark.project import Project
from libskylark.store import Store

_NEEDED: Final = ("camera", "preprocess", "detect", "alarm")
_LEAD_S: Final = 2.0  # from the start of the clock to its first tick that counts
_MOVES_S: Final = 5.0  # for the movers to finish what the last frame has left them
_PATIENCE_S: Final = 60.0  # after the last tick: a killed process is back and its events are delivered by then


@dataclass(frozen=True)
class DemoOptions:
    """`frames` ticks of `tick_s` seconds; `images` is a folder of pictures, None for the synthetic scene.

    With `links`, what one node sends another passes emulated links; with `dashboard`, the live page shows it, at
    `dashboard_port` or one that is free.
    """

    frames: int = 12
    tick_s: float = 2.0
    images: Path | None = None
    seed: int | None = None
    network: str = "127.0"
    links: bool = False
    dashboard: bool = False
    dashboard_port: int | None = None


@dataclass(frozen=True)
class DemoReport:
    """What the demo found; `to_json` has the names that scripts rely on."""

    tally: Tally
    decisions: int  # that the alarm's memory counts, over all areas
    incidents: list[dict[str, Any]]
    alarm_features: list[dict[str, Any]]
    successors: list[str]
    reads: dict[str, int]
    moves: MovesSummary
    orphans: int  # bundles of state that nobody will read any more
    score: Score | None
    startup_s: float
    memory_mib: float
    nodes: int
    restarts: int

    def to_json(self) -> dict[str, Any]:
        sent, decided = len(self.tally.frames), self.tally.decided
        detection: dict[str, Any] = {"precision": None, "recall": None, "synthetic": self.score is not None}
        if self.score is not None:
            detection |= {"precision": self.score.precision, "recall": self.score.recall}
            detection |= {"hotspots": self.score.hotspots, "fires": self.score.fires}
        return {
            "frames_sent": sent,
            "frames_refused": len(self.tally.refused),
            "frames_decided": decided,
            "frames_lost": sent - decided,
            "duplicate_decisions": self.decisions - decided,
            "alarms": len(self.alarm_features),
            "ticks": len(self.tally.ticks),
            "successors": self.successors,
            "reads": self.reads,
            "moves": self.moves.to_json(),
            "orphans": self.orphans,
            "detection": detection,
            "startup_s": round(self.startup_s, 3),
            "memory_mib": round(self.memory_mib, 1),
            "nodes": self.nodes,
            "restarts": self.restarts,
            "dead_letters": sum(len(f.journey.dead_lettered) for f in self.tally.frames.values()),
        }


class Demo:
    """One run of the demo; `say` hears in one sentence what happens, `on_step` every step of every journal, and what
    all of them have come to."""

    def __init__(
        self,
        project: Project,
        options: DemoOptions,
        say: Callable[[str], None],
        on_step: Callable[[Step, Tally], None] = lambda step, tally: None,
    ) -> None:
        missing = [name for name in _NEEDED if name not in project.constellation.functions]
        if missing:
            step = "run it in a clone of Skylark's repository, or name that with `--project`"
            raise LabError(
                f"the demo shows the fire-watch chain; this project has no function {', '.join(missing)}; {step}"
            )
        self._project = project
        self._options = options
        self._say = say
        self._on_step = on_step

    def run(self) -> DemoReport:
        """Raises LabError where the lab does not start; frames that do not arrive are counted, not raised."""
        options = self._options
        started_s = time.monotonic()
        lab = Lab(
            self._project,
            options.tick_s,
            options.network,
            self._camera_environment(),
            links=options.links,
            dashboard=options.dashboard,
            dashboard_port=options.dashboard_port,
        )
        with Observer([HOTSPOTS_TYPE, ALARM_TYPE, ELECTED_TYPE]) as observer, lab:
            lab.add_objects("observer.yaml", observer.triggers())
            lab.start_nodes()
            ticks = Ticks(options.tick_s)
            first_epoch = ticks.epoch_at(time.time() + _LEAD_S) + 1
            lab.start_clock({"SKYLARK_CAMERA_FIRST_EPOCH": str(first_epoch)})
            startup_s = time.monotonic() - started_s
            nodes = len(lab.plan.constellation.nodes)
            self._say(f"{nodes} nodes are ready after {startup_s:.1f} s")
            if lab.invitation:
                self._say(lab.invitation)
            lasts_s = ticks.ends_s(first_epoch + options.frames) - time.time()
            tally = self._watch(lab, time.monotonic() + lasts_s + _PATIENCE_S)
            return self._report(lab, observer, tally, first_epoch, startup_s)

    def _camera_environment(self) -> dict[str, str]:
        environment = {"SKYLARK_CAMERA_FRAMES": str(self._options.frames)}
        if self._options.images is not None:
            environment["SKYLARK_CAMERA_IMAGES"] = str(self._options.images.absolute())
        if self._options.seed is not None:
            environment["SKYLARK_CAMERA_SEED"] = str(self._options.seed)
        return environment

    def _watch(self, lab: Lab, deadline_s: float) -> Tally:
        tally = Tally()
        with JournalTail(lab.stores(), from_start=True) as tail:
            for step in tail.steps(deadline_s):
                tally.add(step)
                self._on_step(step, tally)
                if tally.finished(self._options.frames):
                    break
        return tally

    def _report(self, lab: Lab, observer: Observer, tally: Tally, first_epoch: int, startup_s: float) -> DemoReport:
        stores = lab.stores()
        wait_until_moved(stores.values(), _MOVES_S)
        moves, _ = collect_moves(stores, MOVES_CAP)
        decisions, incidents = _alarm_memories(lab, stores)
        features = [f for event in observer.events(ALARM_TYPE) for f in event.json()["features"]]
        elected = {event.json()["epoch"]: event.json()["access"] for event in observer.events(ELECTED_TYPE)}
        processes = lab.supervisor.processes()
        return DemoReport(
            tally,
            decisions,
            incidents,
            features,
            [elected[epoch] for epoch in sorted(elected) if epoch >= first_epoch],
            sum_reads(map(count_node, stores.values())),
            summarise(moves),
            sum(count_orphans(stores, lab.plan.constellation.functions).values()),
            self._score(lab, observer),
            startup_s,
            lab.supervisor.memory_mib(),
            len(lab.plan.constellation.nodes),
            sum(process.restarts for process in processes),
        )

    def _score(self, lab: Lab, observer: Observer) -> Score | None:
        """Detection against the truth that the camera tells of its own scene; None for a folder of images."""
        if self._options.images is not None:
            return None
        camera = lab.plan.constellation.locate("camera", lab.plan.home)
        frames = []
        for event in observer.events(HOTSPOTS_TYPE):
            data = event.json()
            url = f"http://{camera.host}:{camera.port}/truth"
            answer = requests.get(url, params={"frame": data["frame"]}, timeout=10)
            answer.raise_for_status()
            frames.append((data["hotspots"], answer.json()["fires"]))
        return score(frames)


def _alarm_memories(lab: Lab, stores: dict[str, Store]) -> tuple[int, list[dict[str, Any]]]:
    """(decisions counted, incidents known) in the alarm's memories of all areas."""
    decisions, incidents = 0, []
    for node in lab.plan.constellation.hosts("alarm"):
        keys: list[bytes] = stores[node].run(lambda client: list(client.scan_iter("memory:alarm:*")))
        for key in keys:
            name = MemoryName("alarm", key.decode().split(":", 2)[2])
            memory = memory_fields(RedisLedger(stores[node]), name)
            decisions += memory.get("frames_decided", 0)
            incidents += memory.get("incidents", [])
    return decisions, incidents
