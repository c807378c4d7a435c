"""A project's functions on the two nodes of a measurement, with a link between them and no elect."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location

from libskylark.bench.nodes import HERE, THERE
from libskylark.clock import SystemClock
from libskylark.config import NodeSettings, PolicyName
from libskylark.errors import LabError, UnknownNode
from libskylark.execution import Execution
from libskylark.function import Function
from libskylark.lab.links import Figures
from libskylark.memory import RedisLedger
from libskylark.nodeservices import NodeServices, Successors
from libskylark.policy import Candidate
from libskylark.project import Project
from libskylark.state import RedisStates
from libskylark.store import Stores


class NearElect(NodeServices):
    """A node's services on two nodes: state goes to the destination that is asked for, whatever the policy."""

    def __init__(self, node: str, candidates: Sequence[Candidate]) -> None:
        self._node = node
        self._candidates = {candidate.node: candidate for candidate in candidates}

    def ask_successors(
        self, event_type: str, policy: PolicyName | None = None, destination: str | None = None
    ) -> Successors:
        here = self._candidates[self._node]
        towards = self._candidates[destination or self._node]
        return Successors(0, float("inf"), "stateless", float("inf"), here, [towards], [], [])

    def host_of(self, node: str) -> str:
        if node not in self._candidates:
            raise UnknownNode(node, list(self._candidates))
        return self._candidates[node].host


def load_function(project: Project, name: str) -> Function:
    """The project's own `functions/NAME/function.py`; raises LabError where it has none."""
    source = project.functions.get(name)
    if source is None:
        raise LabError(f"found no function {name} in {project.root}, expected single, bundled and write-data")
    spec = spec_from_file_location(f"skylark_bench_{source.folder.name}", source.folder / "function.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    app = module.app
    assert isinstance(app, Function)
    return app


def placed(app: Function, stores: Stores, link: Figures) -> Function:
    """The function as one of the node that the stores are of."""
    settings, known = stores.settings, app.execution
    candidates = [_candidate(node, settings, link) for node in (HERE, THERE)]
    services = NearElect(settings.node, candidates)
    ledger, states = RedisLedger(stores.local), RedisStates(stores)
    app.execution = Execution(known.function, known.emits, settings, ledger, states, services, SystemClock())
    return app


def _candidate(node: str, settings: NodeSettings, link: Figures) -> Candidate:
    if node == settings.node:
        return Candidate(node, settings.host, 0.0, None, 0)
    return Candidate(node, "", link.latency_ms, link.bandwidth_mbps, 1)
