"""One stage of the chain as a function: it reads the state before it, makes its own, and emits the next event."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any, Final

from flask.typing import ResponseReturnValue

from libskylark.bench.workflow.chain import OURS, STAGES, Parcel, Stage, way_of
from libskylark.bench.workflow.content import check, make
from libskylark.bench.workflow.original import STATELESS_STAGE, Elected, FreshStore, elect, elect_stateless
from libskylark.config import NodeSettings, from_environment
from libskylark.election import EpochView
from libskylark.emission import Reply
from libskylark.event import Event
from libskylark.execution import Context
from libskylark.function import Function
from libskylark.key import StateKey
from libskylark.nodeservices import NodeServices, Successors

#: The field of the state that a stage hands on.
FIELD: Final = "payload"

State = MutableMapping[str, Any]


class PolicyServices(NodeServices):
    """The node's services, with the policy that an event's type names: one process serves events of all policies."""

    def __init__(self, settings: NodeSettings) -> None:
        super().__init__(settings)
        self._by_type: dict[str, Successors] = {}

    def successors(self, event_type: str) -> Successors | None:
        """Kept until `forget`, as the epoch does not change; raises ElectionError while elect does not answer."""
        if (known := self._by_type.get(event_type)) is None:
            policy = OURS.get(way_of(event_type), "skylark")
            known = self._by_type[event_type] = self.ask_successors(event_type, policy)
        return known

    def forget(self) -> None:
        """For when the objective has changed."""
        self._by_type = {}


def make_stage(name: str) -> Function:
    """The function `name`, which takes the events of one stage, or of all."""
    settings = from_environment(NodeSettings)
    services = PolicyServices(settings)
    app = Function(name, settings=settings, services=services)
    original = OriginalStage(settings, services)

    @app.handler
    def run(event: Event, state: State, context: Context) -> Reply:
        parcel = Parcel.from_json(event.json())
        if parcel.task.way in OURS:
            done = run_ours(parcel, state, settings.node)
        else:
            done = original.run(parcel, event, context.epoch)
        return Reply(done.to_json(), type=parcel.task.event_type(len(done.stages) + 1))

    @app.post("/forget")
    def forget() -> ResponseReturnValue:
        services.forget()
        return "", 204

    return app


def run_ours(parcel: Parcel, state: State, node: str) -> Parcel:
    """What the author of a function writes, with a stop-watch around it: Skylark does the rest."""
    task, number = parcel.task, len(parcel.stages) + 1
    began_s = time.time()
    if number > 1:
        check(task, number - 1, state[FIELD])
    read_s = time.time()
    if number < STAGES:
        state[FIELD] = make(task, number)
    else:
        del state[FIELD]
    return parcel.and_then(Stage(node, began_s, read_s, time.time()))


class OriginalStage:
    """The same as the original's functions did it: they elect, write and read by themselves."""

    def __init__(self, settings: NodeSettings, services: NodeServices) -> None:
        self._settings = settings
        self._services = services
        self._view: EpochView | None = None

    def run(self, parcel: Parcel, event: Event, epoch: int) -> Parcel:
        """Raises StoreUnavailable where a store fails, ElectionError where the topology cannot be had."""
        task, number, node = parcel.task, len(parcel.stages) + 1, self._settings.node
        began_s = time.time()
        read_from = None
        if parcel.key:
            read_from = StateKey.parse(parcel.key).node
            check(task, number - 1, self._store(read_from).get(parcel.key))
        read_s = time.time()
        if number == STAGES:
            return parcel.and_then(Stage(node, began_s, read_s, read_s, read_from=read_from))
        made = make(task, number)
        made_s = time.time()
        elected = self._elect(parcel, number, epoch)
        key = str(StateKey(event.chain, elected.node, event.id))
        self._store(elected.node).set(key, made)
        written_s = time.time()
        stage = Stage(node, began_s, read_s, made_s, written_s, read_from, elected.node, elected.predicted_ms)
        return parcel.and_then(stage, key)

    def _elect(self, parcel: Parcel, number: int, epoch: int) -> Elected:
        if self._view is None or self._view.epoch != epoch:
            self._view = self._services.view(epoch)
        view, task = self._view, parcel.task
        if task.way == "original-stateless" or number == STATELESS_STAGE:
            return elect_stateless(view.topology, self._settings.node, view.destination, task.size_bytes)
        return elect(view.topology, self._settings.node, view.destination, task.size_bytes, task.objective_ms)

    def _store(self, node: str) -> FreshStore:
        known = self._settings
        return FreshStore(self._services.host_of(node), known.redis_port, known.password)
