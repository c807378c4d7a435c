"""Fuzzing a running broker and the loader of its files; by hand: `python -m tests.eventing.fuzz --minutes 60`."""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import psutil
from hypothesis import HealthCheck, given, settings

from libskylark.errors import DocumentError
from libskylark.event import Event
from libskylark.eventing.loading import load_objects
from tests.eventing.conftest import Broker, Lab, Subscriber, trigger
from tests.eventing.fuzz_inputs import documents, requests

#: So that a request which never ends costs little time.
TIMES: Final = {"SKYLARK_BROKER_HEAD_TIMEOUT": "200ms", "SKYLARK_BROKER_BODY_TIMEOUT": "200ms"}
ANSWER_S: Final = 15.0

_FINAL: Final = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9]) [^\r\n]*\r\n")


def load(content: bytes, folder: Path) -> None:
    """Loads a file; whatever else than objects or a DocumentError comes of it is raised."""
    file = folder / "objects.yaml"
    file.write_bytes(content)
    with suppress(DocumentError):
        load_objects([file])


def exchange(host: str, port: int, pieces: list[bytes]) -> int:
    """The status of the first final answer; 0 where the connection was closed without one.

    Raises AssertionError where neither comes.
    """
    answer = b""
    with closing(socket.create_connection((host, port), ANSWER_S)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        while (match := _FINAL.search(answer)) is None:
            try:
                received = connection.recv(65536)
            except ConnectionError:
                return 0
            except TimeoutError:
                raise AssertionError(f"neither answered nor closed within {ANSWER_S} s: {pieces!r}") from None
            if not received:
                return 0
            answer += received
    return int(match[1])


def start(lab: Lab) -> tuple[Broker, Subscriber]:
    """A broker whose Triggers `all` and `good` take every event and those of type `good`, and their subscriber."""
    sink = lab.subscriber()
    everything = trigger("all", sink.url).replace("filter: {attributes: {type: all}}", "filter: {}")
    return lab.broker(lab.redis(), everything + trigger("good", sink.url + "good"), wait=True, **TIMES), sink


def long_run(minutes: float, folder: Path) -> None:
    """Rounds of new examples; a line of JSON after each. Raises AssertionError for the first that goes wrong."""
    statuses: Counter[int] = Counter()
    until_s = time.monotonic() + minutes * 60
    with ExitStack() as stack:
        broker, sink = start(Lab(folder, stack))
        worker = psutil.Process(broker.worker())
        at_start_mib = worker.memory_info().rss / 2**20

        @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(requests())
        def ask(pieces: list[bytes]) -> None:
            status = exchange(broker.host, broker.port, pieces)
            statuses[status] += 1
            assert status < 500, f"{status} for {pieces!r}"

        @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(documents())
        def read(content: bytes) -> None:
            load(content, folder)

        files = 0
        while time.monotonic() < until_s:
            for part in (ask, read):
                part()
            files += 100
            assert broker.send(Event.new("good", "/s"))[0] == 202
            _until(sink, "/good")
            report = {"requests": sum(statuses.values()), "files": files, "statuses": dict(sorted(statuses.items()))}
            rss_mib = worker.memory_info().rss / 2**20
            sys.stdout.write(json.dumps({**report, "rss_mib": [round(at_start_mib, 1), round(rss_mib, 1)]}) + "\n")
            sys.stdout.flush()


def _until(sink: Subscriber, path: str) -> None:
    while sink.next().path != path:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    with tempfile.TemporaryDirectory() as name:
        long_run(parser.parse_args().minutes, Path(name))
