"""docs/openapi.yaml against a running broker: each answer is described, and is as it is described."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from inspect import getsource
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from libskylark.eventing import bodies, http_requests, ingress, server_connection
from tests.eventing.conftest import ROOT, Broker, Lab, Reply, trigger

TOKEN = "0123456789-abcdef"
SPEC: Any = YAML(typ="safe").load(ROOT / "docs" / "openapi.yaml")
SEND, HAND_OVER, HEALTH, READY = "/{namespace}/{broker}", "/{namespace}/{broker}/{trigger}", "/health", "/ready"
METRICS = "/metrics"
GOOD = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with ExitStack() as stack:
        lab = Lab(tmp_path_factory.mktemp("openapi"), stack)
        limits = {"SKYLARK_BROKER_TOKEN": TOKEN, "SKYLARK_BROKER_BODY_TIMEOUT": "100ms"}
        limits |= {"SKYLARK_BROKER_STREAM_MAX": "1", "SKYLARK_BROKER_MAX_BODY_BYTES": "1000"}
        yield lab.broker(lab.redis(), trigger("nobody", "http://127.0.0.1:9/"), wait=True, **limits)


def resolved(node: Any) -> Any:
    """A part of the description with its references followed."""
    if isinstance(node, dict) and "$ref" in node:
        target: Any = SPEC
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(target)
    if isinstance(node, dict):
        return {name: resolved(value) for name, value in node.items()}
    return [resolved(value) for value in node] if isinstance(node, list) else node


def check(path: str, answer: Reply, method: str = "post") -> int:
    """Holds an answer against its description; its status."""
    status, headers, body = answer
    described = resolved(SPEC["paths"][path][method]["responses"])[str(status)]
    for name, header in described.get("headers", {}).items():
        found: Any = headers[name.lower()]
        Draft202012Validator(header["schema"]).validate(
            int(found) if header["schema"].get("type") == "integer" else found
        )
    if "content" in described:
        media_type = described["content"][headers["content-type"]]
        told = json.loads(body) if "json" in headers["content-type"] else body.decode()
        Draft202012Validator(media_type["schema"]).validate(told)
    else:
        assert body == b""
    return status


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/default/default", {**GOOD, **BEARER}, b"", 202),
        ("POST", "/default/default", {**JSON, **BEARER}, b"{}", 400),
        ("POST", "/default/default", GOOD, b"", 401),
        ("POST", "/default/default", {**GOOD, "Authorization": "Bearer x"}, b"", 401),
        ("POST", "/default/none", {**GOOD, **BEARER}, b"", 404),
        ("PUT", "/default/default", {**GOOD, **BEARER}, b"", 405),
        ("POST", "/default/default", {**GOOD, **BEARER, "Content-Length": "9"}, b"x", 408),
        ("POST", "/default/default", {**GOOD, **BEARER}, b"x" * 1001, 413),
        ("POST", "/default/" + "x" * 5000, {**GOOD, **BEARER}, b"", 414),
        ("POST", "/default/default", {**BEARER, "Content-Type": "application/cloudevents-batch+json"}, b"[]", 400),
        ("POST", "/default/default", {**GOOD, **BEARER, "x": "v" * 40_000}, b"", 431),
    ],
)
def test_answers_to_events_are_as_described(
    broker: Broker, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert check(SEND, broker.request(method, path, headers, body)) == status


def test_a_web_hook_may_ask_without_a_token(broker: Broker) -> None:
    origin = {"WebHook-Request-Origin": "eventemitter.example.com"}
    assert check(SEND, broker.request("OPTIONS", "/default/default", origin), "options") == 200
    assert check(HAND_OVER, broker.request("OPTIONS", "/default/default/nobody"), "options") == 200


def test_a_full_stream_and_a_hop_are_as_described(broker: Broker) -> None:
    waiting = {**GOOD, **BEARER, "ce-type": "nobody"}
    assert check(HAND_OVER, broker.request("POST", "/default/default/nobody", waiting)) == 202
    assert check(SEND, broker.request("POST", "/default/default", waiting)) == 429
    assert check(HAND_OVER, broker.request("POST", "/default/default/none", waiting)) == 404


def test_health_readiness_and_metrics_need_no_token(broker: Broker) -> None:
    for path in (HEALTH, READY, METRICS):
        assert check(path, broker.request("GET", path), "get") == 200
        assert check(path, broker.request("POST", path), "get") == 405


def test_a_broker_whose_redis_is_away_is_as_described(lab: Lab) -> None:
    store = lab.redis()
    broker = lab.broker(store, "")
    store.kill()
    assert check(SEND, broker.request("POST", "/default/default", GOOD)) == 503
    assert check(READY, broker.request("GET", "/ready"), "get") == 503


def test_every_status_that_the_code_gives_is_described() -> None:
    modules = (bodies, http_requests, server_connection, ingress)
    given = {int(status) for module in modules for status in re.findall(r"Refused\((\d{3})", getsource(module))}
    assert given >= {400, 401, 404, 405, 408, 413, 414, 429, 431, 500, 503}
    for path in (SEND, HAND_OVER):
        assert {*map(int, SPEC["paths"][path]["post"]["responses"])} == {*given, 202}


def test_examples_are_as_their_schemas_say() -> None:
    checked = 0
    for node in walk(resolved(SPEC)):
        if "example" in node and "schema" in node:
            Draft202012Validator(node["schema"]).validate(node["example"])
            checked += 1
    assert checked >= 5


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(value)


def test_the_schemas_are_schemas() -> None:
    for name, schema in resolved(SPEC["components"]["schemas"]).items():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] in ("object", "string"), name
