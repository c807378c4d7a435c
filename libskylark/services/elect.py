"""elect: takes the tick, recomputes the epoch's table, and answers who succeeds this node for what."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from threading import Lock
from typing import Any

from flask import Response, jsonify, request
from flask.typing import ResponseReturnValue

from libskylark.clock import Clock, SystemClock, Ticks
from libskylark.config import NodeSettings, PolicyName
from libskylark.election import ElectionTable
from libskylark.errors import BadInput, SettingError
from libskylark.event import NODE, TICK_TYPE, Event, from_http, to_http
from libskylark.execution import Context
from libskylark.function import Function
from libskylark.nodeservices import NodeServices, Successors
from libskylark.policy import Decision, policy_named
from libskylark.services.queries import answer_problems, query_int, wants_json

log = logging.getLogger("skylark.elect")

_LATE_S = 2.0  # how long a tick may be overdue before elect goes on by its own clock
_POLICIES: tuple[PolicyName, ...] = ("skylark", "random", "stateless")


class Elect:
    """The tables of this epoch and the next, swapped in whole."""

    def __init__(self, settings: NodeSettings, services: NodeServices, clock: Clock) -> None:
        self.settings = settings
        self._services = services
        self._clock = clock
        self._ticks = Ticks(settings.tick_s)
        self._tables: dict[int, ElectionTable] = {}
        self._epoch = -1
        self._lock = Lock()

    def recompute(self, epoch: int) -> ElectionTable:
        """The table of `epoch`, which becomes the current one unless a later one is; idempotent.

        Raises ElectionError while node-info does not answer.
        """
        with self._lock:
            table = self._computed(epoch)
            if epoch > self._epoch:
                self._epoch = epoch
                self._tables = {e: t for e, t in self._tables.items() if e >= epoch}
            return table

    def refresh(self) -> ElectionTable:
        """Forgets the tables and computes the current one anew."""
        with self._lock:
            self._tables = {}
        return self.recompute(max(self._epoch, self._ticks.epoch_at(self._clock.now_s())))

    def table(self, in_ms: float = 0.0) -> ElectionTable:
        """The table in force `in_ms` from now."""
        now_s = self._clock.now_s()
        epoch = self._ticks.epoch_at(now_s)
        overdue_s = now_s - self._ticks.starts_s(epoch)
        if self._epoch < 0:
            self.recompute(epoch)
        elif epoch > self._epoch and overdue_s > min(_LATE_S, self.settings.tick_s / 4):
            log.warning("no tick for epoch %d after %.1f s: going on by the clock", epoch, overdue_s)
            self.recompute(epoch)
        asked = self._ticks.epoch_at(now_s + in_ms / 1000) if in_ms else 0
        with self._lock:
            return self._computed(max(self._epoch, asked))

    def successors(self, functions: dict[str, list[str]], policy: PolicyName, destination: str | None) -> Successors:
        """Candidates and hosts for an event that `functions` (name -> nodes) take."""
        table = self.table()
        nodes = [set(nodes) for nodes in functions.values()]
        # One event is addressed to one node: of several functions that take it, to a node that runs them all.
        shared = set.intersection(*nodes) or nodes[0] if nodes else set()
        hosts = table.nearest(shared)
        candidates = table.candidates(policy, destination, shared if policy == "skylark" and functions else None)
        return Successors(
            table.epoch,
            max(self._ticks.ends_s(table.epoch), self._clock.now_s() + 0.1),
            policy,
            table.view.max_latency_ms,
            table.candidate(table.here),
            candidates,
            [host.node for host in hosts],
            list(functions),
        )

    def storage_node(self, size_bytes: int, in_ms: float, policy: PolicyName, destination: str | None) -> Decision:
        """Where `size_bytes` of state should be kept, written `in_ms` from now: any node may do."""
        table = self.table(in_ms)
        chooser = policy_named(policy, table.view.max_latency_ms)
        return chooser.choose(table.candidates(policy, destination), table.candidate(table.here), size_bytes)

    def _computed(self, epoch: int) -> ElectionTable:
        if epoch not in self._tables:
            self._tables[epoch] = ElectionTable(self._services.view(epoch), self.settings.node)
        return self._tables[epoch]


def create_app(settings: NodeSettings | None = None, clock: Clock | None = None) -> Function:
    """The function application with elect's further routes; raises SettingError."""
    app = Function("elect", emits="dev.skylark.successor.elected", settings=settings, clock=clock)
    elect = Elect(app.settings, NodeServices(app.settings), clock or SystemClock())
    answer_problems(app)
    _add_handler(app, elect)
    _add_queries(app, elect)
    _add_addressing(app, elect)
    return app


def _add_handler(app: Function, elect: Elect) -> None:
    @app.handler
    def tick(event: Event, context: Context) -> dict[str, Any] | None:
        if event.type != TICK_TYPE:
            raise BadInput(f"elect takes {TICK_TYPE}, found {event.type}")
        table = elect.recompute(context.epoch)
        view = table.view
        return {"node": table.here, "epoch": table.epoch, "access": view.access, "area": view.area}


def _add_queries(app: Function, elect: Elect) -> None:
    @app.get("/storage-node")
    def storage_node() -> ResponseReturnValue:
        size_bytes, in_ms = query_int("size", 0), query_int("time", 0)
        policy = _policy(elect)
        destination = _destination(elect)
        decision = elect.storage_node(size_bytes, in_ms, policy, destination)
        if not wants_json():
            return Response(decision.candidate.host, content_type="text/plain")
        table = elect.table(in_ms)
        ladder = table.candidates(policy, destination)
        return jsonify(
            node=decision.candidate.node,
            host=decision.candidate.host,
            epoch=table.epoch,
            policy=policy,
            predicted_ms=decision.predicted_ms,
            refused=[{"node": node, "reason": reason} for node, reason in decision.refused],
            ladder=[{**asdict(c), "predicted_ms": c.move_time_ms(size_bytes)} for c in ladder],
        )

    @app.get("/successor")
    def successor() -> ResponseReturnValue:
        found = elect.successors(_functions(elect), _policy(elect), _destination(elect))
        decision, runs_on = found.choose(query_int("size", 0))
        table = elect.table()
        document = {**found.to_json(), "access": table.view.access, "predicted_ms": decision.predicted_ms}
        return jsonify(**document, node=runs_on or decision.candidate.node)

    @app.get("/neighbors")
    def neighbors() -> ResponseReturnValue:
        table = elect.table()
        found = [
            {
                "node_name": node.name,
                "node_ip": node.ip,
                "node_type": node.type,
                "latency": link.latency_ms,
                "bandwidth": link.bandwidth_mbps,
            }
            for node, link in table.view.topology.neighbors(table.here)
        ]
        return jsonify(found)

    @app.route("/refresh", methods=["GET", "POST"])
    def refresh() -> ResponseReturnValue:
        table = elect.refresh()
        return jsonify(status="refreshed", epoch=table.epoch, access=table.view.access)

    @app.get("/benchmark")
    def benchmark() -> ResponseReturnValue:
        count, size_bytes = query_int("count", 1000), query_int("size", 1_000_000)
        if not 1 <= count <= 100_000:
            raise SettingError("query parameter count", count, "1 to 100000")
        started = time.perf_counter()
        for _ in range(count):
            elect.storage_node(size_bytes, 0, "skylark", None)
        return jsonify(elections=count, answer_us=(time.perf_counter() - started) / count * 1e6)


def _add_addressing(app: Function, elect: Elect) -> None:
    @app.post("/address")
    def address() -> ResponseReturnValue:
        """Answers an event that names no node (or a wrong one) with itself, addressed to a node that takes it."""
        try:
            event = from_http(request.headers.items(), request.get_data())
        except ValueError as error:
            raise BadInput(str(error)) from None
        functions = elect.table().consumers(event.type)
        found = elect.successors(functions, elect.settings.policy, None)
        _, node = found.choose(len(event.data))
        if node is None:
            raise BadInput(f"no function takes events of type {event.type}")
        addressed = event.with_attributes(**{NODE: node}, correlationid=event.chain, causationid=event.id)
        headers, body = to_http(addressed.with_attributes(id=f"{event.id}-at-{node}"))
        return Response(body, 200, headers)


def _functions(elect: Elect) -> dict[str, list[str]]:
    """The functions that the query means: `function` by name, or `type` for all that take such events."""
    table = elect.table()
    name = request.args.get("function")
    if name is None:
        return table.consumers(request.args.get("type", ""))
    if name not in table.view.functions:
        known = ", ".join(table.view.functions)
        raise SettingError("query parameter function", name, f"one of {known}")
    return {name: table.view.functions[name]["nodes"]}


def _destination(elect: Elect) -> str | None:
    name = request.args.get("destination")
    nodes = elect.table().view.topology.nodes
    if name is not None and name not in nodes:
        raise SettingError("query parameter destination", name, f"one of {', '.join(nodes)}")
    return name


def _policy(elect: Elect) -> PolicyName:
    text = request.args.get("policy", elect.settings.policy)
    for name in _POLICIES:
        if text.lower() == name:
            return name
    raise SettingError("query parameter policy", text, f"one of {', '.join(_POLICIES)}")
