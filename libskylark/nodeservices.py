"""What a function asks the two services of its node: elect (who is next) and node-info (who is where)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import requests

from libskylark.config import NodeSettings, PolicyName
from libskylark.election import EpochView
from libskylark.errors import ElectionError, UnknownNode
from libskylark.policy import Candidate, Decision, Ladder, Terms, policy_named

log = logging.getLogger("skylark.nodeservices")

_SILENCE_S = 1.0  # how long a service that did not answer is not asked again


@dataclass(frozen=True)
class Successors:
    """elect's answer for events of one type in one epoch.

    `candidates` are for the state, in the policy's order; `hosts` are the nodes that run the next function,
    nearest first; `functions` its name (or names). All empty where nobody takes the type.
    """

    epoch: int
    expires_s: float
    policy: PolicyName
    max_latency_ms: float
    here: Candidate
    candidates: Sequence[Candidate]
    hosts: Sequence[str]
    functions: Sequence[str]

    def choose(self, size_bytes: int, now_s: float, suspects: Collection[str] = ()) -> tuple[Decision, str | None]:
        """Where `size_bytes` of state go, written now, and the node that runs the next function (None: nobody does).

        Nodes in `suspects` get neither, but for the event where every host is one.
        """
        policy = policy_named(self.policy, self.max_latency_ms)
        decision = policy.choose(Ladder(self.candidates), self.here, size_bytes, now_s, suspects)
        return decision, self._runner(decision, suspects) if self.hosts else None

    def place(self, size_bytes: int, now_s: float, suspects: Collection[str] = ()) -> tuple[Decision, str | None]:
        """The same for state that is there now, but that by Skylark's policy none is kept where nobody needs it.

        Where no host can get it within the objective, and this node does not run the next function, it has to pass the
        links in any case: it is pushed at once to where it gets soonest, and misses the objective.
        """
        decision, runs_on = self.choose(size_bytes, now_s, suspects)
        is_kept = self.policy == "skylark" and decision.candidate == self.here
        if not is_kept or not self.hosts or self.here.node in self._hosting:
            return decision, runs_on
        terms = Terms(size_bytes, now_s, suspects)
        willing = [candidate for candidate in self.candidates if terms.refusal(candidate) is None]
        if not willing:
            return decision, runs_on
        soonest = min(willing, key=lambda candidate: candidate.move_time_ms(size_bytes))
        ahead = decision._replace(candidate=soonest, predicted_ms=soonest.move_time_ms(size_bytes))
        return ahead, self._runner(ahead, suspects)

    def _runner(self, decision: Decision, suspects: Collection[str]) -> str:
        """Where the next function runs: with its state, if it can."""
        chosen = decision.candidate.node
        if chosen in self._hosting and chosen not in suspects:
            return chosen
        return next((host for host in self.hosts if host not in suspects), self.hosts[0])

    @cached_property
    def _hosting(self) -> frozenset[str]:
        return frozenset(self.hosts)

    def to_json(self) -> dict[str, Any]:
        """The document of elect's `/successor`; the candidates are its `ladder`."""
        document = asdict(self)
        document["ladder"] = document.pop("candidates")
        return document

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> Successors:
        """Raises ElectionError where the answer is not one of elect's."""
        try:
            return cls(
                answer["epoch"],
                answer["expires_s"],
                answer["policy"],
                answer["max_latency_ms"],
                Candidate(**answer["here"]),
                [Candidate(**candidate) for candidate in answer["ladder"]],
                answer["hosts"],
                answer["functions"],
            )
        except (KeyError, TypeError) as error:
            raise ElectionError(f"elect's answer lacks {error}") from None


class NodeServices:
    """A client of the node's elect and node-info; answers are kept until their epoch ends.

    `on_unanswered` is called whenever `successors` is None since elect does not answer: state stays here then.
    """

    def __init__(
        self,
        settings: NodeSettings,
        now_s: Callable[[], float] = time.time,
        on_unanswered: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._now_s = now_s
        self._on_unanswered = on_unanswered
        self._session = requests.Session()
        self._lock = Lock()
        self._successors: dict[str, Successors] = {}
        self._silent_until_s = 0.0
        self._hosts: dict[str, str] = {}
        self._access: tuple[int, str] | None = None
        self._home: str | None = None

    def successors(self, event_type: str) -> Successors | None:
        """Who may take events of this type next; None while elect does not answer (state then stays local)."""
        known = self._successors.get(event_type)
        now_s = self._now_s()
        if known is not None and now_s < known.expires_s:
            return known
        if now_s >= self._silent_until_s:
            try:
                self._successors[event_type] = found = self.ask_successors(event_type)
                return found
            except ElectionError as error:
                self._silent_until_s = now_s + _SILENCE_S
                log.warning("no successor for %s, state stays on %s: %s", event_type, self._settings.node, error)
        self._on_unanswered()
        return None

    def ask_successors(
        self, event_type: str, policy: PolicyName | None = None, destination: str | None = None
    ) -> Successors:
        """elect's answer now, by this policy or by elect's own, for a chain that ends at `destination` or as usual.

        Raises ElectionError while elect does not answer.
        """
        query = {"type": event_type, "policy": policy, "destination": destination}
        given = {name: value for name, value in query.items() if value is not None}
        return Successors.from_json(self._get(self._settings.elect_port, "/successor", given))

    def access(self, epoch: int) -> str:
        """The node above the ground area in `epoch`; raises ElectionError while node-info does not answer."""
        if self._access is None or self._access[0] != epoch:
            answer = self._get(self._settings.node_info_port, "/access", {"epoch": epoch})
            if "node" not in answer:
                raise ElectionError("node-info's answer lacks 'node'")
            self._access = (epoch, str(answer["node"]))
        return self._access[1]

    def home(self) -> str:
        """The node where chains end, the same for all nodes; raises ElectionError while node-info does not answer."""
        if self._home is None:
            answer = self._get(self._settings.node_info_port, "/cloud-node-info", {})
            if "node_name" not in answer:
                raise ElectionError("node-info's answer lacks 'node_name'")
            self._home = str(answer["node_name"])
        return self._home

    def view(self, epoch: int) -> EpochView:
        """node-info's whole answer for `epoch`; raises ElectionError while it does not answer."""
        return EpochView.from_json(self._get(self._settings.node_info_port, "/current-topology", {"epoch": epoch}))

    def hosts(self) -> dict[str, str]:
        """The address of every node, absent ones too; raises ElectionError while node-info does not answer."""
        answer = self._get(self._settings.node_info_port, "/current-topology", {})
        try:
            return {node["node_name"]: node["node_ip"] for node in [*answer["nodes"], *answer.get("absent", ())]}
        except (KeyError, TypeError) as error:
            raise ElectionError(f"node-info's topology lacks {error}") from None

    def host_of(self, node: str) -> str:
        """The address of a node; raises UnknownNode, or ElectionError while node-info does not answer."""
        if node not in self._hosts:
            self._hosts = self.hosts()
        if node not in self._hosts:
            raise UnknownNode(node, list(self._hosts))
        return self._hosts[node]

    def _get(self, port: int, path: str, query: dict[str, Any]) -> dict[str, Any]:
        url = f"http://{self._settings.host}:{port}{path}"
        try:
            # One session, one call at a time: requests' sessions are not made for threads.
            with self._lock:
                response = self._session.get(
                    url, params=query, timeout=self._settings.elect_timeout_s, headers={"Accept": "application/json"}
                )
            response.raise_for_status()
            answer = response.json()
        except (requests.RequestException, ValueError) as error:
            raise ElectionError(f"{url} did not answer: {error}") from None
        if not isinstance(answer, dict):
            raise ElectionError(f"{url} answered {type(answer).__name__}, expected a JSON object")
        return answer
