"""Traces by OpenTelemetry: a span per delivery, handler, read and write of state, across nodes by `traceparent`.

Needs the extra `traces`, and an exporter that the environment names: OTEL_EXPORTER_OTLP_ENDPOINT, with all that
OpenTelemetry reads beside it. Without one, a span costs a look at a variable.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal

from libskylark.errors import SettingError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

Kind = Literal["producer", "consumer", "client", "internal"]

HEADER: Final = "traceparent"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_tracer: Tracer | None = None
_NOTHING: Final = nullcontext()


def configure_tracing(role: str, node: str, environment: Mapping[str, str]) -> None:
    """Records the spans of this process from now on, if the environment says where to send them.

    Threads do not survive a fork: call it in the process that serves. Raises SettingError where the extra is missing.
    """
    global _tracer  # noqa: PLW0603
    endpoint = next((name for name in _ENDPOINTS if environment.get(name)), None)
    is_off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if endpoint is None or is_off or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        expected = "nothing, or OpenTelemetry installed: pip install 'skylark-functions[traces]'"
        raise SettingError(endpoint, environment[endpoint], expected) from None
    about = {"service.namespace": "skylark", "skylark.node": node}
    if not environment.get("OTEL_SERVICE_NAME"):
        about["service.name"] = role
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("libskylark")


def span(
    name: str, kind: Kind = "internal", parent: str | None = None, **attributes: Any
) -> AbstractContextManager[Span | None]:
    """A span around what is within; under the one that a traceparent names, else under the current one.

    None where no spans are recorded. What is raised within is recorded, and goes on.
    """
    return _NOTHING if _tracer is None else _recorded(_tracer, name, kind, parent, attributes)


@contextmanager
def _recorded(
    tracer: Tracer, name: str, kind: Kind, parent: str | None, attributes: Mapping[str, Any]
) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({HEADER: parent}) if parent else None
    given = {key: value for key, value in attributes.items() if value is not None}
    with tracer.start_as_current_span(name, context, SpanKind[kind.upper()], given) as recorded:
        yield recorded


def note_span(name: str, took_s: float, **attributes: Any) -> None:
    """A span that has just ended, under the current one."""
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind

    ended_ns = time.time_ns()
    started_ns = ended_ns - round(took_s * 1e9)
    given = {key: value for key, value in attributes.items() if value not in (None, "")}
    _tracer.start_span(name, kind=SpanKind.CLIENT, attributes=given, start_time=started_ns).end(ended_ns)


def traceparent() -> str | None:
    """The current span, as a header or an event's extension names it; None where no spans are recorded."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER)
