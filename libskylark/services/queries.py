"""What Flask applications beside functions share: query parameters, errors as problem details, /metrics."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, request
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from libskylark.errors import ElectionError, SettingError, SkylarkError, TopologyError
from libskylark.metrics import CONTENT_TYPE as METRICS_TYPE
from libskylark.metrics import exposition
from libskylark.problem import CONTENT_TYPE, problem

_MOST_DIGITS: Final = 15  # larger than any size or time, and what a float still tells apart


def query_int(name: str, default: int) -> int:
    """A whole number >= 0; raises SettingError."""
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        expected = f"a whole number of at least 0, with up to {_MOST_DIGITS} digits"
        raise SettingError(f"query parameter {name}", text, expected)
    return int(text)


def wants_json() -> bool:
    """Whether the caller asks for JSON by Accept; `*/*` alone does not."""
    return "application/json" in request.headers.get("Accept", "")


def answer_metrics(app: Flask, registry: CollectorRegistry) -> None:
    """Answers GET /metrics with what the registry has."""

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(registry), content_type=METRICS_TYPE)


def answer_problems(app: Flask) -> None:
    """Answers Skylark's errors as problem details: 400 for what the caller gave, 503 for what may pass."""

    def answer(error: SkylarkError) -> Response:
        status = 503 if isinstance(error, ElectionError) else 404 if isinstance(error, TopologyError) else 400
        return Response(problem(status, str(error)), status, content_type=CONTENT_TYPE)

    def answer_http(error: HTTPException) -> Response:
        status = error.code or 500
        answered = Response(problem(status, error.description or error.name), status, content_type=CONTENT_TYPE)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            answered.allow.update(error.valid_methods)
        return answered

    app.register_error_handler(SkylarkError, answer)
    app.register_error_handler(HTTPException, answer_http)
