"""The constellation in the lab with the stages on its nodes: runs chains, and gathers what they and the system tell."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final

import requests

from libskylark.bench.workflow.chain import END_TYPE, PINNED, Parcel, Task, stage_of
from libskylark.bench.workflow.project import write_project
from libskylark.client import Client
from libskylark.config import NodeSettings, from_environment
from libskylark.constellation import Constellation
from libskylark.errors import LabError
from libskylark.event import NODE, Event
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.journey import JournalTail, Journey
from libskylark.jobs import JOBS, MOVES_CAP, MoveRecord, read_moves
from libskylark.key import StateKey
from libskylark.lab.lab import Lab
from libskylark.lab.links import Hop
from libskylark.lab.observer import Observer
from libskylark.store import RedisClient, Store
from libskylark.timing import Timing
from libskylark.topology import Topology

_SOURCE: Final = "/skylark/bench/workflow"
_SETTLED_S: Final = 300.0
_LOOK_S: Final = 0.02
_CALL_S: Final = 10.0


@dataclass
class Run:
    """One chain as it went: what its stages tell, what their runs read and committed, and what was pushed.

    `ended_s` is None where the chain did not come to its end. `timings` are by stage, from 1, `moves` by the stage
    that made the state. `events` are the stages by the id of the event that each takes.
    """

    task: Task
    chain: str
    sent_s: float
    ended_s: float | None = None
    parcel: Parcel | None = None
    timings: dict[int, tuple[Timing, ...]] = field(default_factory=dict)
    moves: dict[int, MoveRecord] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)


class ChainLab:
    """A context manager around a running lab, whose epoch is `epoch` and stays so.

    Leaves no file behind. Raises LabError where the lab does not start, or the constellation has not the nodes.
    """

    def __init__(self, constellation: Constellation, epoch: int, network: str) -> None:
        self.constellation = constellation
        self.epoch = epoch
        self._network = network
        self._stack = ExitStack()

    @property
    def topology(self) -> Topology:
        return self.constellation.topology(self.epoch)

    def __enter__(self) -> ChainLab:
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="skylark-bench-"))
            project = write_project(Path(directory), self.constellation)
            self._observer = stack.enter_context(Observer([END_TYPE]))
            tick_s = frozen_tick_s(self.epoch, time.time())
            self._lab = stack.enter_context(Lab(project, tick_s, self._network, links=True))
            self._lab.add_objects("observer.yaml", self._observer.triggers())
            self._lab.start_nodes()
            self._lab.start_clock()
            self._stores = self._lab.stores()
            for store in self._stores.values():
                stack.callback(store.close)
            self._first = next(iter(PINNED.values()))
            self._client = Client(self._lab.broker_url(self._first), token=from_environment(NodeSettings).token)
            self._tail = stack.enter_context(JournalTail(self._stores))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def set_objective(self, max_latency_ms: float) -> None:
        """What a hand-over may take from now on, told to all nodes; raises LabError where one does not answer."""
        steps = (
            ("node-info", "objectives", {"max_latency": max_latency_ms}),
            ("elect", "refresh", None),
            ("function", "forget", None),
        )
        for role, path, content in steps:
            for spec in self._lab.plan.services():
                if spec.role == role:
                    _post(f"{spec.url}/{path}", content)

    def run(self, tasks: Sequence[Task], timeout_s: float) -> list[Run]:
        """All these chains at once, in the order of `tasks`; returns when all have ended, or the time is over."""
        runs: dict[str, Run] = {}
        for task in tasks:
            event = Event.new(task.event_type(1), _SOURCE, Parcel(task).to_json(), **{NODE: self._first})
            runs[event.chain] = Run(task, event.chain, time.time())
            self._client.send(event)
        journeys = {chain: Journey(chain) for chain in runs}
        self._follow(journeys, time.monotonic() + timeout_s)
        for chain, run in runs.items():
            _tell(run, journeys[chain])
        for event in self._observer.events(END_TYPE):
            if (ended := runs.get(event.chain)) is not None:
                ended.parcel = Parcel.from_json(event.json())
        return list(runs.values())

    def settle(self, runs: Sequence[Run]) -> None:
        """Until nothing is being moved any more; gives the runs their moves, and forgets what the original stored.

        Raises LabError where that takes too long.
        """
        deadline_s, pause = time.monotonic() + _SETTLED_S, threading.Event()
        while any(store.run(lambda client: client.xlen(JOBS)) for store in self._stores.values()):
            if time.monotonic() > deadline_s:
                raise LabError(f"state was still being moved {_SETTLED_S:g} s after its chains had ended")
            pause.wait(_LOOK_S)
        by_chain = {run.chain: run for run in runs}
        for store in self._stores.values():
            for move in read_moves(store, MOVES_CAP):
                key = StateKey.parse(move.what)
                if (run := by_chain.get(key.chain)) is not None:
                    run.moves[run.events[key.task] - 1] = move
            _forget(store, by_chain)

    def carried_bytes(self) -> dict[Hop, int]:
        """What each link has carried since the start, by direction."""
        return self._lab.links.carried_bytes()

    def memory_mib(self) -> float:
        return self._lab.supervisor.memory_mib()

    def _follow(self, journeys: Mapping[str, Journey], deadline_s: float) -> None:
        waiting = dict(journeys)
        for step in self._tail.steps(deadline_s):
            journey = waiting.get(step.record.chain)
            if journey is not None:
                journey.add(step)
                if journey.ended:
                    del waiting[journey.chain]
            if not waiting:
                return


def frozen_tick_s(epoch: int, now_s: float) -> float:
    """The length of ticks with which it is now the middle of an epoch of this number, and will be for years."""
    return round(now_s / (epoch + 0.5), 3)


def _tell(run: Run, journey: Journey) -> None:
    for step in journey.steps:
        record = step.record
        if isinstance(record, Accepted):
            if record.type == END_TYPE:
                run.ended_s = datetime.fromisoformat(record.time).timestamp()
            else:
                run.events[record.event] = stage_of(record.type)
        elif isinstance(record, Outcome) and record.type != END_TYPE and record.outcome == "replied":
            run.timings[stage_of(record.type)] = record.timings


def _forget(store: Store, chains: Collection[str]) -> None:
    """What the original stores lies under its mere keys, and for ever."""

    def forget(client: RedisClient) -> None:
        for name in client.scan_iter(match="*:*:*", count=1000):
            if name.decode().partition(":")[0] in chains:
                client.delete(name)

    store.run(forget)


def _post(url: str, content: object = None) -> None:
    try:
        answer = requests.post(url, json=content, timeout=_CALL_S)
    except requests.RequestException as error:
        raise LabError(f"{url} did not answer: {error}") from None
    if not answer.ok:
        raise LabError(f"{url} answered {answer.status_code}: {answer.text[:200]}")
