"""Function: a handler as a Flask application that takes CloudEvents. The only thing that most users import."""

from __future__ import annotations

import inspect
import logging
from time import perf_counter
from typing import Any, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from libskylark.clock import Clock, SystemClock
from libskylark.config import NodeSettings, from_environment
from libskylark.errors import (
    BadInput,
    CodecError,
    ElectionError,
    FunctionError,
    InvalidEvent,
    KeyFormatError,
    MemoryConflict,
    MemoryFenced,
    StoreError,
)
from libskylark.event import TRACE, Event, from_http, to_http
from libskylark.execution import PARAMETERS, Execution, Handler, Result, Services
from libskylark.logs import about, fields_of
from libskylark.memory import Ledger, RedisLedger
from libskylark.metrics import CONTENT_TYPE, FunctionMetrics
from libskylark.nodeservices import NodeServices
from libskylark.ownership import Ownership
from libskylark.problem import CONTENT_TYPE as PROBLEM_TYPE
from libskylark.problem import problem
from libskylark.state import RedisStates, States
from libskylark.store import Stores
from libskylark.timing import HEADER as TIMINGS
from libskylark.timing import write_timings
from libskylark.tracing import span

log = logging.getLogger("skylark.function")

H = TypeVar("H", bound=Handler)

_MAX_EVENT_BYTES = 64 * 1024 * 1024


class Function(Flask):
    """A stateful function named `name`; `emits` is the type of the events that it answers with.

    With `anchored`, its memory belongs to the ground area: it has one owner at a time, the satellite above, and
    moves on with the area. An event that comes to another node follows it.

        app = Function("count", emits="com.example.counted")

        @app.handler
        def count(event, memory):
            memory["seen"] = memory.get("seen", 0) + 1
            return {"seen": memory["seen"]}

    POST / takes one CloudEvent: 200 with the emitted event, 202 where the handler returned None. A bad event
    or BadInput is 400, a handler's exception 500, an unreachable store 503; then nothing was committed.
    Settings, stores and services come from the environment unless they are given. Raises SettingError for
    an environment that cannot be used.
    """

    def __init__(
        self,
        name: str,
        emits: str | None = None,
        *,
        anchored: bool = False,
        settings: NodeSettings | None = None,
        ledger: Ledger | None = None,
        states: States | None = None,
        services: Services | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = _MAX_EVENT_BYTES
        self.settings = settings or from_environment(NodeSettings)
        self.function = name
        self.metrics = FunctionMetrics(name, self.settings.node)
        node_services = NodeServices(self.settings, on_unanswered=self.metrics.count_unanswered)
        self._stores = Stores(self.settings, node_services.host_of)
        self.execution = Execution(
            name,
            emits,
            self.settings,
            ledger or RedisLedger(self._stores.local),
            states or RedisStates(self._stores),
            services or node_services,
            clock or SystemClock(),
            Ownership(self.settings.node, self._stores, node_services.home) if anchored else None,
        )
        self._handler: Handler | None = None
        self.add_url_rule("/", "event", self._take, methods=["POST"])
        self.add_url_rule("/health", "health", lambda: {"status": "alive", "function": name})
        self.add_url_rule("/ready", "ready", self._ready)
        self.add_url_rule("/metrics", "metrics", lambda: Response(self.metrics.text(), content_type=CONTENT_TYPE))
        self.register_error_handler(HTTPException, _http_problem)

    def handler(self, function: H) -> H:
        """Decorator: what runs for each event, with any of the parameters event, state, memory and context.

        Raises FunctionError for other parameters, or a second handler.
        """
        if self._handler is not None:
            raise FunctionError(f"function {self.function!r} has a handler already: {self._handler.__name__}")
        unknown = [name for name in inspect.signature(function).parameters if name not in PARAMETERS]
        if unknown:
            found = ", ".join(unknown)
            raise FunctionError(f"handler {function.__name__} asks for {found}; it may ask for {', '.join(PARAMETERS)}")
        self._handler = function
        return function

    def _take(self) -> Response:
        try:
            event = from_http(request.headers.items(), request.get_data())
        except InvalidEvent as error:
            self.metrics.count_event("invalid")
            return _problem(400, f"not a CloudEvent: {error}", error.faults)
        if self._handler is None:
            return _problem(500, f"function {self.function!r} has no handler; decorate one with @app.handler")
        return self._answer(self._handler, event)

    def _answer(self, handler: Handler, event: Event) -> Response:
        epoch = self.execution.context(event).epoch
        parent = request.headers.get(TRACE) or event.attributes.get(TRACE)
        with (
            about(**{**fields_of(event), "epoch": epoch}),
            span(f"handle {event.type}", "consumer", parent, **_told(event, epoch)) as current,
        ):
            response, outcome = self._answer_to(handler, event)
            if current is not None:
                current.set_attributes({"skylark.outcome": outcome, "http.response.status_code": response.status_code})
            return response

    def _answer_to(self, handler: Handler, event: Event) -> tuple[Response, str]:
        started = perf_counter()
        try:
            with self.metrics.handler_seconds.time():
                result = self.execution.run(handler, event)
        except Exception as error:  # whatever a handler raises is answered, and nothing of it committed
            return self._failure(event, error)
        outcome = _outcome_of(result)
        self.metrics.count_event(outcome)
        log.info("%s", outcome, extra={"ms": round((perf_counter() - started) * 1000, 3)})
        self.metrics.count_reads(result.reads)
        self.metrics.note_timings(result.timings)
        timings = {TIMINGS: write_timings(result.timings)} if result.timings else {}
        if result.reply is None:
            return Response(status=202, headers=timings), outcome
        headers, body = to_http(result.reply)
        return Response(body, 200, {**headers, **timings}), outcome

    def _failure(self, event: Event, error: Exception) -> tuple[Response, str]:
        status, outcome = _status_of(error)
        self.metrics.count_event(outcome)
        if outcome != "failed":
            log.warning("%s: event from %s: %s", outcome, event.source, error)
            # A store takes its time to come back; a handover is over before that.
            return _problem(status, str(error), retry_after_s=1 if outcome == "unavailable" else None), outcome
        log.error("event from %s: the handler raised %s", event.source, type(error).__name__, exc_info=error)
        return _problem(status, f"the handler raised {type(error).__name__}: {error}"), outcome

    def _ready(self) -> Response:
        try:
            self._stores.local.ping()
        except StoreError as error:
            return _problem(503, str(error), retry_after_s=1)
        return Response('{"status": "ready"}', content_type="application/json")


def _told(event: Event, epoch: int) -> dict[str, Any]:
    """An event as spans tell it, by OpenTelemetry's names where it has one."""
    return {
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
        "skylark.chain": event.chain,
        "skylark.epoch": epoch,
    }


def _outcome_of(result: Result) -> str:
    return "moved" if result.moved else "duplicate" if result.duplicate else "handled"


def _status_of(error: Exception) -> tuple[int, str]:
    """(HTTP status, outcome): 4xx that brokers do not retry for what stays wrong, 5xx for what may pass."""
    if isinstance(error, BadInput | KeyFormatError | CodecError):
        return 400, "refused"
    if isinstance(error, MemoryConflict):
        return 409, "conflict"
    if isinstance(error, MemoryFenced):
        return 503, "fenced"
    if isinstance(error, StoreError | ElectionError):
        return 503, "unavailable"
    return 500, "failed"


def _problem(
    status: int, detail: str, faults: dict[str, str] | None = None, retry_after_s: int | None = None
) -> Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(problem(status, detail, faults), status, headers, content_type=PROBLEM_TYPE)


def _http_problem(error: HTTPException) -> Response:
    response = _problem(error.code or 500, error.description or error.name)
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(allowed)
    return response
