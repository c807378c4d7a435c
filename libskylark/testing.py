"""Fakes for function authors: run a handler without Redis, without elect, with a clock that you move.

from libskylark.testing import invoke, load_function
app = load_function("functions/count")
answer = invoke(app, Event.new("com.example.order", "/test", {"id": 1}), memory={"seen": 2})
assert answer.event.json() == {"seen": 3}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from libskylark.codec import Value, decode, encode
from libskylark.errors import FunctionError, StateMissing
from libskylark.event import Event, from_http, to_http
from libskylark.execution import Execution
from libskylark.fields import Frames
from libskylark.function import Function
from libskylark.key import StateKey
from libskylark.memory import Committed, Conflict, Effects, Fenced, MemoryName, Opened, Owner, event_name
from libskylark.nodeservices import Successors
from libskylark.policy import Candidate
from libskylark.state import READERS, Loaded, incoming_state, redis_key


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds


class FakeLedger:
    """Memories and recorded replies in dicts; values are encoded as they would be for Redis."""

    def __init__(self) -> None:
        self.memories: dict[MemoryName, dict[str, bytes]] = {}
        self.versions: dict[MemoryName, int] = {}
        self.replies: dict[tuple[MemoryName, str], bytes] = {}
        self.counters: dict[str, int] = {}
        self.states: dict[str, Frames] = {}
        self.jobs: list[str] = []
        self.owner: Owner | None = None  # set one to have this node fenced, or to let it follow a memory elsewhere

    def open(self, name: MemoryName, event: Event) -> Opened:
        return Opened(self.versions.get(name, 0), self.replies.get((name, event_name(event))), self.owner)

    def load(self, name: MemoryName, fields: Sequence[str] | None) -> Frames:
        memory = self.memories.get(name, {})
        return {field: frame for field, frame in memory.items() if fields is None or field in fields}

    def commit(self, effects: Effects) -> Committed | Conflict | Fenced:
        recorded = self.replies.get((effects.name, event_name(effects.event)))
        if recorded is not None:
            return Committed(True, recorded)
        owner = self.owner
        if effects.owner_epoch is not None and owner and (owner.phase, owner.epoch) != ("owned", effects.owner_epoch):
            return Fenced(owner)
        version = self.versions.get(effects.name, 0)
        if effects.read_version not in (None, version):
            return Conflict(version)
        memory = self.memories.setdefault(effects.name, {})
        memory.update(effects.memory_written)
        for name in effects.memory_removed:
            memory.pop(name, None)
        if effects.memory_written or effects.memory_removed:
            self.versions[effects.name] = version + 1
        if effects.state:
            self.states[effects.state_key] = dict(effects.state)
        self.jobs += effects.jobs
        for counter, increment in effects.counters.items():
            self.counters[counter] = self.counters.get(counter, 0) + increment
        self.replies[(effects.name, event_name(effects.event))] = effects.reply
        return Committed(False, effects.reply)


class FakeStates:
    """Bundles of state in a dict, for all nodes."""

    def __init__(self, ledger: FakeLedger | None = None) -> None:
        self.bundles: dict[str, Frames] = ledger.states if ledger else {}

    def load(self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None) -> Loaded:
        bundle = self.bundles.get(redis_key(key))
        if bundle is None:
            raise StateMissing(f"state {key} was given to no fake; there are {', '.join(self.bundles) or 'none'}")
        frames = {name: frame for name, frame in bundle.items() if name != READERS}
        wanted = {name: frame for name, frame in frames.items() if names is None or name in names}
        return Loaded(wanted, key.node, others=frozenset(frames.keys() - wanted.keys()))

    def push(self, key: StateKey, frames: Frames, ttl_ms: int) -> None:
        self.bundles[redis_key(key)] = dict(frames)


@dataclass
class FakeOwners:
    """The owner of every anchored memory: the fake node, unless the ledger names another."""

    ledger: FakeLedger
    node: str = "here"

    def find(self, name: MemoryName, epoch: int) -> Owner:
        return self.ledger.owner or Owner("owned", self.node, 0)


@dataclass
class FakeServices:
    """elect and node-info of a fake node: `access` is above; `candidates` may take the state, `hosts` the event."""

    node: str = "here"
    above: str = "here"
    candidates: list[Candidate] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    elect_is_down: bool = False

    def successors(self, event_type: str) -> Successors | None:
        if self.elect_is_down:
            return None
        here = Candidate(self.node, "127.0.0.1", 0.0, None, 0)
        return Successors(0, 0.0, "skylark", 200.0, here, self.candidates, self.hosts, [])

    def access(self, epoch: int) -> str:
        return self.above


@dataclass(frozen=True)
class Answer:
    """What one invocation led to: the status, the emitted event, its state, and the memory afterwards."""

    status: int
    event: Event | None
    state: dict[str, Value]
    memory: dict[str, Value]
    body: bytes


def load_function(folder: str | Path) -> Function:
    """The `app` of `folder`/function.py, run anew; it finds the modules beside it, as when it is served.

    Functions of several folders can be loaded side by side, though all their files are called function.py. Raises
    FunctionError where there is none.
    """
    path = Path(folder).absolute() / "function.py"
    spec = spec_from_file_location(f"{path.parent.name}_function", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise FunctionError(f"found no {path}, expected the folder of a function")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    app = getattr(module, "app", None)
    if not isinstance(app, Function):
        raise FunctionError(f"{path} has no app = Function(...), found {app!r}")
    return app


def invoke(
    app: Function,
    event: Event,
    state: Mapping[str, Value] | None = None,
    memory: Mapping[str, Value] | None = None,
    *,
    node: str = "here",
    epoch: int | None = None,
    access: str | None = None,
    ledger: FakeLedger | None = None,
    services: FakeServices | None = None,
    clock: FakeClock | None = None,
) -> Answer:
    """POSTs `event` to `app` on a fake node, with that state and memory; nothing outside the process is used.

    `access` is the node above the ground area (`node` unless given). Hand in one `ledger` to several calls
    to see what memory does between them.
    """
    ledger = ledger or FakeLedger()
    services = services or FakeServices(node, access or node)
    states = FakeStates(ledger)
    real = app.execution
    settings = real.settings.model_copy(update={"node": node})
    owners = FakeOwners(ledger, node) if real.owners else None
    fake = Execution(real.function, real.emits, settings, ledger, states, services, clock or FakeClock(), owners)
    if state:
        key = StateKey.of_chain(event.chain, node, "given")
        states.push(key, {name: encode(value) for name, value in state.items()}, 0)
        event = event.with_attributes(skylarkkey=str(key))
    if epoch is not None:
        event = event.with_attributes(skylarkepoch=str(epoch))
    name = MemoryName(real.function, event.partition or real.function)
    if memory is not None:
        ledger.memories[name] = {field: encode(value) for field, value in memory.items()}
    headers, body = to_http(event)
    app.execution = fake
    try:
        response = app.test_client().post("/", headers=headers, data=body)
    finally:
        app.execution = real
    emitted: Any = None
    if response.status_code == 200:
        emitted = from_http(list(response.headers.items()), response.data)
    forwarded = dict(incoming_state(emitted, node, states).fields) if emitted else {}
    kept = {field: decode(frame) for field, frame in ledger.memories.get(name, {}).items()}
    return Answer(response.status_code, emitted, forwarded, kept, response.data)
