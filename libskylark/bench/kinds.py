"""The functions whose cost is compared: the same handler in bare Flask, with the CloudEvents SDK, and as a Function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

STATE_BYTES: Final = 1024

_FLASK: Final = """
from flask import Flask, request

app = Flask("bare")


@app.post("/")
def handle():
    return {"seen": request.get_json()["number"]}
"""

_SDK: Final = """
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent
from flask import Flask, Response, request

app = Flask("sdk")


@app.post("/")
def handle():
    event = from_binary_event(HTTPMessage(dict(request.headers), request.get_data()))
    attributes = {"source": "/bench", "type": "dev.skylark.bench.answered", "datacontenttype": "application/json"}
    answer = to_binary_event(CloudEvent(attributes, {"seen": event.get_data()["number"]}))
    return Response(answer.body, 200, answer.headers)
"""

_FUNCTION: Final = """
from libskylark import Function

app = Function("function", emits="dev.skylark.bench.answered")


@app.handler
def handle(event):
    return {"seen": event.json()["number"]}
"""

_STATE: Final = """
from libskylark import Function

app = Function("function", emits="dev.skylark.bench.answered")


@app.handler
def handle(event, state):
    state["value"] = state["value"][1:] + b"x"
    return {"seen": event.json()["number"]}
"""

_MEMORY: Final = """
from libskylark import Function

app = Function("function", emits="dev.skylark.bench.answered")


@app.handler
def handle(event, memory):
    memory["seen"] = memory.get("seen", 0) + 1
    return {"seen": event.json()["number"]}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A function.py, what its process's environment has besides the node, and where its events bring state."""

    name: str
    source: str
    environment: Mapping[str, str] = field(default_factory=dict)
    state: Literal["", "redis", "inline"] = ""


#: What the others are compared with comes first.
KINDS: Final = (
    Kind("bare Flask", _FLASK),
    Kind("Flask, CloudEvents SDK", _SDK),
    Kind("libskylark", _FUNCTION),
    Kind("libskylark, inline state", _STATE, state="inline"),
    Kind("libskylark, Redis state", _STATE, {"SKYLARK_INLINE_LIMIT_BYTES": "0"}, state="redis"),
    Kind("libskylark, memory", _MEMORY),
)
