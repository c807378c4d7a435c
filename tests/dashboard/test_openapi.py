"""docs/dashboard-openapi.yaml against a running page: each answer is described, and is as it is described."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tests.dashboard.conftest import PATIENCE_S, ROOT, Page
from tests.dashboard.streams import Viewer

SPEC: Any = YAML(typ="safe").load(ROOT / "docs" / "dashboard-openapi.yaml")
KINDS = {
    "epoch", "nodes", "links", "memories", "counters", "chain", "frame", "alarm", "handover", "travel", "run",
}  # fmt: skip


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


def check(path: str, answer: requests.Response) -> int:
    """Holds an answer against its description; its status."""
    described = resolved(SPEC["paths"][path]["get"]["responses"])[str(answer.status_code)]
    for name, header in described.get("headers", {}).items():
        Draft202012Validator(header["schema"]).validate(answer.headers[name])
    schema = described["content"][answer.headers["content-type"]].get("schema")
    if schema is not None:
        Draft202012Validator(schema).validate(answer.json())
    return answer.status_code


@pytest.fixture(scope="module")
def watched(page: Page) -> Any:
    """The constellation once there is something of everything to see in it."""
    deadline_s = time.monotonic() + PATIENCE_S
    with Viewer(page.url) as viewer:
        assert viewer.head()[0] == 200
        for _ in viewer.messages():  # each tells of something new
            told = page.json("/api/constellation")
            if told["frames"] and told["alarms"] and told["handovers"]:
                return told
            assert time.monotonic() < deadline_s, str(told)[:2000]
    raise AssertionError("the stream has ended")


def test_every_answer_is_as_it_is_described(page: Page, watched: Any) -> None:
    frame = watched["frames"][0]["id"]
    asked = {
        "/": "/",
        "/ready": "/ready",
        "/metrics": "/metrics",
        "/api/constellation": "/api/constellation",
        "/api/chains": "/api/chains",
        f"/api/chains/{frame}": "/api/chains/{chain}",
        f"/api/frames/{frame}/image": "/api/frames/{chain}/image",
        **{f"/api/nodes/{node['name']}": "/api/nodes/{name}" for node in watched["nodes"]},
    }
    assert {path: check(described, page.get(path)) for path, described in asked.items()} == dict.fromkeys(asked, 200)
    assert set(asked.values()) | {"/api/events"} == set(SPEC["paths"])


def test_every_kind_of_news_is_as_it_is_described(page: Page, watched: Any) -> None:
    validator = Draft202012Validator(resolved(SPEC["components"]["schemas"]["item"]))
    kinds = {item["properties"]["kind"]["const"] for item in SPEC["components"]["schemas"]["item"]["oneOf"]}
    assert kinds == KINDS
    with Viewer(page.url) as viewer:
        status, headers = viewer.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        seen: set[str] = set()
        for _, event, items in viewer.messages():
            assert event == "news"
            for item in items:
                validator.validate(item)
                seen.add(item["kind"])
            if seen >= KINDS - {"alarm"}:  # a scene has alarms as it pleases; theirs is the shape of the snapshot's
                break


@pytest.mark.parametrize(
    ("path", "described"),
    [
        ("/api/nodes/nobody", "/api/nodes/{name}"),
        ("/api/chains/nothing", "/api/chains/{chain}"),
        ("/api/chains/<script>alert(1)</script>", "/api/chains/{chain}"),
        ("/api/frames/nothing/image", "/api/frames/{chain}/image"),
    ],
)
def test_what_is_not_there_is_a_problem(page: Page, path: str, described: str) -> None:
    assert check(described, page.get(path)) == 404


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/static/main.js", "/ready"])
def test_nor_can_the_pages_files(page: Page, method: str, path: str) -> None:
    answer = requests.request(method, page.url + path, timeout=10)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    ["/api/constellation", "/api/chains", "/api/chains/x", "/api/nodes/pi5u1", "/api/events", "/api/frames/x/image"],
)
def test_nothing_can_be_changed(page: Page, method: str, path: str) -> None:
    answer = requests.request(method, page.url + path, timeout=10)
    described = {"/api/chains/x": "/api/chains/{chain}", "/api/nodes/pi5u1": "/api/nodes/{name}"}
    described["/api/frames/x/image"] = "/api/frames/{chain}/image"
    assert check(described.get(path, path), answer) == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_a_page_of_elsewhere_that_has_our_address_gets_nothing(page: Page) -> None:
    answer = page.get("/api/constellation", headers={"Host": "rebound.example.com"})
    assert check("/api/constellation", answer) == 400


def test_nothing_but_what_the_server_has_may_run_in_the_page(page: Page) -> None:
    for path in ("/", "/static/main.js", "/api/chains", "/api/nodes/nobody"):
        policy = page.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
    html = page.get("/").text
    assert "<script>" not in html
    assert "<style" not in html
    assert " style=" not in html
    assert "//" not in html.replace("<!-- ", "")
