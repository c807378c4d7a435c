"""elect: takes the tick, recomputes the epoch's table, and answers who succeeds this node for what."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from dataclasses import asdict
from typing import Any, Final

from flask import Response, jsonify, request
from flask.typing import ResponseReturnValue

from libskylark.clock import Clock, SystemClock
from libskylark.config import NodeSettings, PolicyName
from libskylark.errors import BadInput, ElectionError, SettingError
from libskylark.event import CHAIN, NODE, TICK_TYPE, Event, from_http, to_http
from libskylark.execution import Context
from libskylark.function import Function
from libskylark.nodeservices import NodeServices
from libskylark.policy import POLICIES
from libskylark.problem import CONTENT_TYPE as PROBLEM_TYPE
from libskylark.problem import problem
from libskylark.services.background import Background
from libskylark.services.elections import Elect
from libskylark.services.metrics import ElectMetrics
from libskylark.services.queries import answer_problems, query_int, wants_json

_TOLD: Final = 8  # epochs whose election was told, kept so that it is told once


def create_app(settings: NodeSettings | None = None, clock: Clock | None = None, background: bool = True) -> Function:
    """The function application with elect's further routes; raises SettingError.

    With `background`, this process also probes, moves and hands over for its node, from now on: it must be the one
    that serves, so gunicorn is not to preload it. `app.extensions` has the Elect that answers as "elect", the
    Background as "background".
    """
    clock = clock or SystemClock()
    app = Function("elect", emits="dev.skylark.successor.elected", settings=settings, clock=clock)
    services = NodeServices(app.settings)
    metrics = ElectMetrics(app.metrics.registry, app.settings.node)
    elect = Elect(app.settings, services, clock, metrics.count_election)
    work = Background(app.settings, services, elect, clock, metrics)
    app.metrics.on_scrape(lambda: metrics.look(elect.epoch, len(elect.health.suspects), work.queued()))
    app.extensions.update(elect=elect, background=work)
    if background:
        work.start()
    answer_problems(app)
    _add_handler(app, elect, work)
    _add_queries(app, elect)
    _add_addressing(app, elect)
    return app


def _add_handler(app: Function, elect: Elect, work: Background) -> None:
    @app.handler
    def tick(event: Event, context: Context, memory: MutableMapping[str, Any]) -> dict[str, Any] | None:
        if event.type != TICK_TYPE:
            raise BadInput(f"elect takes {TICK_TYPE}, found {event.type}")
        view = elect.tick(context.epoch)
        work.tick()
        # Knative's clock ticks twice with two ids where its leader changes; the node's processes share this memory.
        told = memory.get("told", [])
        if view.epoch in told:
            return None
        memory["told"] = [*told, view.epoch][-_TOLD:]
        return {"node": context.node, "epoch": view.epoch, "access": view.access, "area": view.area}


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
        decision, runs_on = elect.choose(found, query_int("size", 0))
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
        """Answers an event that names no node (or a wrong one) with itself, addressed to a node that takes it.

        The nodes that the query's `avoid` names, once or several times, are passed over.
        """
        try:
            event = from_http(request.headers.items(), request.get_data())
        except ValueError as error:
            raise BadInput(str(error)) from None
        consumers = elect.table().consumers(event.type)
        if not consumers:
            raise BadInput(f"no function takes events of type {event.type}")
        found = elect.successors(consumers, elect.settings.policy, None)
        avoid = request.args.getlist("avoid")
        _, node = elect.choose(found, len(event.data), avoid)
        if node is None:
            raise ElectionError(
                f"events of type {event.type} are for {', '.join(consumers)}; no node of theirs is there"
            )
        if avoid and node in {*avoid, *elect.health.suspects}:
            known = ", ".join(found.hosts)
            detail = f"events of type {event.type} are taken on {known}; each of them is to be avoided, or suspect"
            return Response(problem(409, detail), 409, content_type=PROBLEM_TYPE)
        # The same event still, with its id and source: whoever took it already knows it again.
        headers, body = to_http(event.with_attributes(**{NODE: node, CHAIN: event.chain}))
        return Response(body, 200, headers)


def _functions(elect: Elect) -> list[str]:
    """The functions that the query means: `function` by name, or `type` for all that take such events."""
    table = elect.table()
    name = request.args.get("function")
    if name is None:
        return table.consumers(request.args.get("type", ""))
    if name not in table.view.functions:
        known = ", ".join(table.view.functions)
        raise SettingError("query parameter function", name, f"one of {known}")
    return [name]


def _destination(elect: Elect) -> str | None:
    name = request.args.get("destination")
    nodes = elect.table().view.topology.nodes
    if name is not None and name not in nodes:
        raise SettingError("query parameter destination", name, f"one of {', '.join(nodes)}")
    return name


def _policy(elect: Elect) -> PolicyName:
    text = request.args.get("policy", elect.settings.policy)
    for name in POLICIES:
        if text.lower() == name:
            return name
    raise SettingError("query parameter policy", text, f"one of {', '.join(POLICIES)}")
