"""The storage experiment's requests: a GET runs a function's handler once, on state that the query names by its key.

An event would do the same and bring its key along; the experiment asks for one state after the other instead.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, Response, request

from libskylark.config import PolicyName
from libskylark.errors import SettingError, SkylarkError, StateMissing, StoreError
from libskylark.event import CHAIN, KEY, Event
from libskylark.execution import Execution, Handler, Result, Services
from libskylark.function import Function
from libskylark.key import StateKey
from libskylark.nodeservices import NodeServices, Successors
from libskylark.policy import POLICIES
from libskylark.problem import CONTENT_TYPE, problem
from libskylark.services import queries
from libskylark.timing import HEADER as TIMINGS
from libskylark.timing import write_timings

#: The header of an answer with the key of what was stored.
KEY_HEADER: Final = "Skylark-Key"
#: How long get-and-set's own state is kept: nobody is going to read it.
KEPT_S: Final = 60.0

_SOURCE: Final = "/skylark/bench/storing"
_TYPE: Final = "dev.skylark.storing.requested"


def answer_problems(app: Flask) -> None:
    """Answers errors as problem details: 404 for state that is nowhere, 503 for a store or elect that is silent."""
    queries.answer_problems(app)

    def answer(error: SkylarkError) -> Response:
        status = 404 if isinstance(error, StateMissing) else 503
        return Response(problem(status, str(error)), status, content_type=CONTENT_TYPE)

    app.register_error_handler(StoreError, answer)


def get_and_set(app: Function, handler: Handler) -> Response:
    """Runs `handler` on the state under `?key=`; what it leaves is stored under another key, for a minute.

    `destination` and `policy` of the query say where to, as `store` has them. The answer's body is the time in ms that
    reading took, a tab, and the time that storing took; its headers have the same more exactly, and the new key.
    Raises KeyFormatError, StateMissing, SettingError, UnknownNode, and what else stores and elect raise.
    """
    key = StateKey.parse(request.args.get("key", ""))
    event = Event.new(_TYPE, _SOURCE, **{KEY: str(key), CHAIN: key.chain})
    result = _run(app, handler, event, state_ttl_s=KEPT_S)
    times_ms = [sum(timing.ms for timing in result.timings if timing.what == what) for what in ("state", "commit")]
    body = "\t".join(f"{ms:.0f}" for ms in times_ms)
    headers = {TIMINGS: write_timings(result.timings), KEY_HEADER: _key_of(result)}
    return Response(body, headers=headers, content_type="text/plain")


def store(app: Function, handler: Handler, wanted: dict[str, Any]) -> Response:
    """Runs `handler` on an event with `wanted` as its data; the answer's body is the key of the state that it leaves.

    The query's `destination` is the node where the state goes, unless `policy` says otherwise; without it, the chain's
    end. What is to go to another node is captured here, and follows as all state does: pushed by the node's mover.
    Raises like `get_and_set`.
    """
    result = _run(app, handler, Event.new(_TYPE, _SOURCE, wanted))
    return Response(_key_of(result), headers={"Node-Name": app.execution.settings.node}, content_type="text/plain")


class Towards:
    """The services of a node for one request, whose state goes by the policy and to the destination that it names."""

    def __init__(self, services: NodeServices, policy: PolicyName, destination: str | None) -> None:
        self._services = services
        self._policy: PolicyName = policy
        self._destination = destination

    def successors(self, event_type: str) -> Successors:
        """Raises ElectionError while elect does not answer: the request is then to fail."""
        return self._services.ask_successors(event_type, self._policy, self._destination)

    def access(self, epoch: int) -> str:
        return self._services.access(epoch)


def _run(app: Function, handler: Handler, event: Event, **changes: Any) -> Result:
    """One run, after which the state that it leaves has a key: none of it rides in the emitted event."""
    known = app.execution
    settings = known.settings.model_copy(update={"inline_limit_bytes": 0, **changes})
    towards = _towards(known.services)
    execution = Execution(known.function, known.emits, settings, known.ledger, known.states, towards, known.clock)
    return execution.run(handler, event)


def _towards(services: Services) -> Towards:
    """By the query; state goes to the destination itself unless another policy is asked for."""
    assert isinstance(services, NodeServices), "what every function has outside of its author's tests"
    destination = request.args.get("destination")
    if destination is not None:
        services.host_of(destination)  # raises UnknownNode
    text = request.args.get("policy", "stateless").lower()
    for policy in POLICIES:
        if text == policy:
            return Towards(services, policy, destination)
    raise SettingError("query parameter policy", text, f"one of {', '.join(POLICIES)}")


def _key_of(result: Result) -> str:
    assert result.reply is not None, "handlers of this experiment emit an event"
    return result.reply.attributes[KEY]
