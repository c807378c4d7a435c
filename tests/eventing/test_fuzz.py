"""Whatever is sent to a broker, it answers or hangs up, never with a fault of its own, and goes on taking events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from libskylark.event import Event
from tests.eventing.conftest import Broker, Lab, Subscriber
from tests.eventing.fuzz import exchange, load, start
from tests.eventing.fuzz_inputs import documents, requests


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Subscriber]]:
    with ExitStack() as stack:
        yield start(Lab(tmp_path_factory.mktemp("fuzz"), stack))


def test_a_broker_outlives_every_request(running: tuple[Broker, Subscriber]) -> None:
    broker, sink = running
    worker = broker.worker()

    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(requests())
    def ask(pieces: list[bytes]) -> None:
        assert exchange(broker.host, broker.port, pieces) < 500

    ask()
    assert broker.send(Event.new("good", "/s", id="after all"))[0] == 202
    while (delivery := sink.next()).path != "/good":
        pass
    assert delivery.event.id == "after all"
    assert broker.worker() == worker
    assert "Traceback" not in broker.log.read_text()


def test_a_file_gives_objects_or_its_faults(tmp_path: Path) -> None:
    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(documents())
    def read(content: bytes) -> None:
        load(content, tmp_path)

    read()
