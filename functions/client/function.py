"""The client: POST /send hands an event to the node's broker and, with ?wait=10s, answers when its chain has ended."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from libskylark.client import Client
from libskylark.config import NodeSettings, from_environment, parse_duration_s
from libskylark.errors import ElectionError, InvalidEvent, SendError
from libskylark.event import from_http
from libskylark.metrics import new_registry
from libskylark.nodeservices import NodeServices
from libskylark.problem import CONTENT_TYPE, problem
from libskylark.sender import own_broker_url
from libskylark.services.queries import answer_metrics
from libskylark.store import Store

MOST_WAIT_S = 60.0

settings = from_environment(NodeSettings)
services = NodeServices(settings)
app = Flask("client", static_folder=None)
answer_metrics(app, new_registry())


@app.post("/send")
def send() -> ResponseReturnValue:
    """Takes a CloudEvent in either mode; 202 once it is stored, or 200 with the journey's length after a wait."""
    try:
        event = from_http(request.headers.items(), request.get_data())
        wait_s = parse_duration_s(request.args["wait"]) if "wait" in request.args else None
        if wait_s is not None and wait_s > MOST_WAIT_S:
            raise ValueError(f"wait: found {wait_s:g} s, expected at most {MOST_WAIT_S:g} s")
    except (InvalidEvent, ValueError) as error:
        return refuse(400, str(error))
    url = own_broker_url(settings)
    answer = {"event": event.id, "chain": event.chain}
    try:
        if wait_s is None:
            Client(url, token=settings.token).send(event)
            return jsonify(answer), 202
        journey = Client(url, journals(), settings.token).send_and_wait(event, wait_s)
    except ElectionError as error:
        return refuse(503, str(error))
    except SendError as error:
        return refuse(502, str(error))
    dead_lettered = [outcome.event for outcome in journey.dead_lettered]
    return jsonify(**answer, steps=len(journey.steps), dead_lettered=dead_lettered)


@app.get("/health")
@app.get("/ready")
def health() -> ResponseReturnValue:
    return jsonify(status="alive", node=settings.node)


def journals() -> dict[str, Store]:
    """The Redis of every node, by node-info's word."""
    return {name: Store(host, settings.redis_port, settings.password) for name, host in services.hosts().items()}


def refuse(status: int, detail: str) -> Response:
    return Response(problem(status, detail), status, content_type=CONTENT_TYPE)
