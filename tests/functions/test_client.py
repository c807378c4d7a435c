"""The client that runs on nodes, as far as it needs no broker; how it sends is tested end to end."""

from __future__ import annotations

from tests.functions.conftest import LoadFunction


def test_it_tells_prometheus_of_its_process(load_function: LoadFunction) -> None:
    answer = load_function("client", NODE_NAME="here").app.test_client().get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert "process_cpu_seconds_total" in answer.text


def test_an_event_that_is_none_is_refused(load_function: LoadFunction) -> None:
    answer = load_function("client", NODE_NAME="here").app.test_client().post("/send", data=b"{")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
