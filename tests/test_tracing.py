"""Traces: a chain through three processes is one trace, from the sender's span to the last read of state."""

from __future__ import annotations

import gzip
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from libskylark import tracing
from libskylark.errors import SettingError
from libskylark.event import Event, to_http
from tests.conftest import ROOT, RedisNode, free_port

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"

FIRST = """
from libskylark.function import Function
app = Function("first", emits="second")

@app.handler
def first(event, state):
    state["picture"] = b"x" * 20_000
    return {"seen": 1}
"""
SECOND = """
from libskylark.function import Function
app = Function("second")

@app.handler
def second(event, state):
    assert len(state["picture"]) == 20_000
"""
OBJECTS = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: default, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: first, namespace: default}}
spec: {{broker: default, filter: {{attributes: {{type: first}}}}, subscriber: {{uri: "http://127.0.0.1:{first}/"}}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: second, namespace: default}}
spec: {{broker: default, filter: {{attributes: {{type: second}}}}, subscriber: {{uri: "http://127.0.0.1:{second}/"}}}}
"""

Span = dict[str, Any]


class Collector:
    """What an OTLP collector gets over HTTP: spans with the role of the process that they are from."""

    def __init__(self) -> None:
        self.spans: queue.SimpleQueue[Span] = queue.SimpleQueue()
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def until(self, names: set[str], wait_s: float = 30.0) -> dict[str, Span]:
        """The spans of these names, each with its role before it, once there is one of each."""
        found: dict[str, Span] = {}
        deadline = time.monotonic() + wait_s
        while names - found.keys():
            span = self.spans.get(timeout=max(0.01, deadline - time.monotonic()))
            found[f"{span['role']}: {span['name']}"] = span
        return found

    def _take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
                    self.spans.put(
                        {
                            "name": span.name,
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "role": about["service.name"],
                            "node": about["skylark.node"],
                            "took_ns": span.end_time_unix_nano - span.start_time_unix_nano,
                            **values,
                        }
                    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def broker_url(redis_node: RedisNode, tmp_path: Path, collector: Collector) -> Iterator[str]:
    """Where the broker takes events; it and two functions are processes of their own."""
    ports = {role: free_port("127.0.0.1") for role in ("broker", "first", "second")}
    for name, text in (("first", FIRST), ("second", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "function.py").write_text(text)
    (tmp_path / "objects.yaml").write_text(OBJECTS.format(**ports))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NODE_NAME": "here",
        "LOCAL_NODE_HOST": redis_node.host,
        "SKYLARK_REDIS_PORT": str(redis_node.port),
        "SKYLARK_BIND_HOST": "127.0.0.1",
        "SKYLARK_FUNCTIONS": str(tmp_path),
        "SKYLARK_OBJECTS": str(tmp_path / "objects.yaml"),
        "SKYLARK_ELECT_TIMEOUT": "100ms",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with ExitStack() as stack:
        processes = []
        for role, port in ports.items():
            log = stack.enter_context((tmp_path / f"{role}.log").open("wb"))
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "libskylark.serving", role],
                    env={**environment, "PORT": str(port)},
                    stdout=log,
                    stderr=log,
                )
            )
            processes.append(process)
        for process in processes:  # once all are there, so that they end at the same time
            stack.callback(process.terminate)
        for port in ports.values():
            until_ready(f"http://127.0.0.1:{port}/ready")
        yield f"http://127.0.0.1:{ports['broker']}/default/default"


def until_ready(url: str) -> None:
    deadline, pace = time.monotonic() + 60, threading.Event()
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        pace.wait(0.05)
    raise AssertionError(f"{url} is not ready")


def test_a_chain_through_three_processes_is_one_trace(broker_url: str, collector: Collector) -> None:
    event = Event.new("first", "/sender", id="1", traceparent=f"00-{TRACE_ID}-{SENDER}-01")
    headers, body = to_http(event)
    assert requests.post(broker_url, body, headers=headers, timeout=10).status_code == 202
    names = {
        "broker: deliver to default/first",
        "first: handle first",
        "first: write state and memory",
        "broker: deliver to default/second",
        "second: handle second",
        "second: read state",
    }
    found = collector.until(names)
    assert {span["trace"] for span in found.values()} == {TRACE_ID}
    first, second = found["broker: deliver to default/first"], found["broker: deliver to default/second"]
    run, write = found["first: handle first"], found["first: write state and memory"]
    next_run, read = found["second: handle second"], found["second: read state"]
    assert first["parent"] == SENDER
    assert run["parent"] == first["id"]
    assert write["parent"] == run["id"]
    assert second["parent"] == run["id"], "an event is caused by the run that emitted it"
    assert next_run["parent"] == second["id"]
    assert read["parent"] == next_run["id"]
    assert (read["skylark.place"], read["skylark.node"], read["node"]) == ("local", "here", "here")
    assert read["skylark.bytes"] > 20_000
    assert (write["skylark.place"], write["skylark.node"]) == ("local", "here")
    assert write["skylark.bytes"] >= read["skylark.bytes"]
    assert (first["skylark.outcome"], first["http.response.status_code"]) == ("replied", 200)
    assert (second["skylark.outcome"], second["skylark.chain"]) == ("delivered", first["skylark.chain"])
    assert run["cloudevents.event_id"] == "1"
    assert all(span["took_ns"] > 0 for span in found.values())


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_exporter_nothing_is_recorded(environment: dict[str, str]) -> None:
    tracing.configure_tracing("count", "here", environment)
    with tracing.span("any") as span:
        tracing.note_span("read", 0.1)
        assert span is None
        assert tracing.traceparent() is None


def test_without_the_extra_an_exporter_is_refused_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    expected = r"setting OTEL_EXPORTER_OTLP_ENDPOINT: found 'http://c:4318', .*skylark-functions\[traces\]"
    with pytest.raises(SettingError, match=expected):
        tracing.configure_tracing("count", "here", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"})
