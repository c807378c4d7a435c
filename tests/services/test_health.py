"""Health probes against real Redis servers, and against ports where nobody answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from libskylark.config import NodeSettings
from libskylark.memory import SUSPECTS
from libskylark.services import elect, node_info
from libskylark.services.health import Health
from libskylark.testing import FakeClock
from tests.conftest import RedisNode, Serve

# Three nodes that run one function: here and there have a Redis, at the third address nobody listens.
CONSTELLATION = """\
destination: gone
nodes:
  - {{name: here, type: Sat, ip: {here}}}
  - {{name: there, type: Sat, ip: {there}}}
  - {{name: gone, type: Sat, ip: 127.0.0.3}}
link_types: {{Sat-to-Sat: {{latency_ms: 10, bandwidth_mbps: 40}}}}
links: [[here, there], [there, gone]]
functions:
  take: {{nodes: [Sat], consumes: [taken]}}
"""


@pytest.fixture
def settings(redis_node: RedisNode, other_node: RedisNode) -> NodeSettings:
    return redis_node.settings(store_timeout_s=0.3, probe_period_s=0.05)


@pytest.fixture
def hosts(redis_node: RedisNode, other_node: RedisNode) -> dict[str, str]:
    return {"here": redis_node.host, "there": other_node.host, "gone": "127.0.0.3"}


@pytest.fixture
def health(settings: NodeSettings, clock: FakeClock, hosts: dict[str, str]) -> Iterator[Health]:
    health = Health(settings, clock, lambda: hosts)
    yield health
    health.stop()


def kept(node: RedisNode) -> dict[bytes, bytes]:
    with closing(node.client()) as client:
        found: dict[bytes, bytes] = client.hgetall(SUSPECTS)  # type: ignore[assignment]  # not the asynchronous client
        return found


def test_a_node_that_does_not_answer_is_suspect_since_then(
    health: Health, clock: FakeClock, redis_node: RedisNode, caplog: pytest.LogCaptureFixture
) -> None:
    since_s = clock.now_s()
    with caplog.at_level(logging.INFO, "skylark.health"):
        for _ in range(2):
            health.round()
            clock.advance(2)
    assert health.suspects == {"gone": since_s}
    assert kept(redis_node) == {b"gone": b"1800000000.000"}
    assert [record.message for record in caplog.records] == [
        "node gone failed its health probe: it gets neither state nor events"
    ]


def test_a_suspect_that_answers_again_is_none_any_more(
    health: Health, hosts: dict[str, str], redis_node: RedisNode, other_node: RedisNode
) -> None:
    health.round()
    hosts["gone"] = other_node.host
    health.round()
    assert (health.suspects, kept(redis_node)) == ({}, {})


def test_the_suspects_in_redis_do_not_outlive_elect_for_long(health: Health, redis_node: RedisNode) -> None:
    health.round()
    with closing(redis_node.client()) as client:
        assert 0 < client.pttl(SUSPECTS) <= 10_500  # type: ignore[operator]  # not the asynchronous client


def test_a_local_redis_that_does_not_answer_does_not_stop_the_probes(
    settings: NodeSettings, clock: FakeClock, hosts: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    health = Health(settings.model_copy(update={"host": "127.0.0.3"}), clock, lambda: hosts)
    health.round()
    health.stop()
    assert health.suspects.keys() == {"gone"}
    assert "suspects are not told to this node's functions: Redis at 127.0.0.3" in caplog.text


def test_of_many_nodes_those_are_probed_that_were_offered_last(settings: NodeSettings, clock: FakeClock) -> None:
    many = {f"n{number}": "127.0.0.3" for number in range(100)}
    health = Health(settings, clock, lambda: many)
    health.offer(f"n{number}" for number in range(90, 50, -1))
    health.offer(["n99", "elsewhere"])
    health.round()
    health.stop()
    assert health.suspects.keys() == {"n99", *(f"n{number}" for number in range(51, 82))}


def test_the_rounds_follow_each_other_until_they_are_stopped(settings: NodeSettings, clock: FakeClock) -> None:
    rounds = threading.Semaphore(0)

    def hosts() -> dict[str, str]:
        rounds.release()
        return {}

    with Health(settings, clock, hosts) as health:
        health.start()  # a second time changes nothing
        for _ in range(3):
            assert rounds.acquire(timeout=10)
    assert not [thread for thread in threading.enumerate() if thread.name == "health"]


def test_a_round_that_fails_is_not_the_last(
    settings: NodeSettings, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = threading.Semaphore(0)

    def hosts() -> dict[str, str]:
        rounds.release()
        raise RuntimeError("a fault")

    with Health(settings, clock, hosts):
        assert all(rounds.acquire(timeout=10) for _ in range(2))
    assert "a round of probes failed" in caplog.text


Ask = Callable[[str], requests.Response]


@pytest.fixture
def serving(
    settings: NodeSettings, hosts: dict[str, str], serve: Serve, tmp_path: Path
) -> Iterator[tuple[Health, Ask]]:
    """An elect that probes, among nodes of which one is gone."""
    path = tmp_path / "constellation.yaml"
    path.write_text(CONSTELLATION.format(**hosts))
    given = settings.model_copy(update={"constellation": path, "elect_timeout_s": 5.0})
    given = given.model_copy(update={"node_info_port": serve(node_info.create_app(given))})
    app = elect.create_app(given, background=False)
    health = app.extensions["elect"].health
    url = f"http://127.0.0.1:{serve(app)}"
    yield health, lambda path: requests.get(url + path, headers={"Accept": "application/json"}, timeout=10)
    health.stop()


def test_elect_hands_out_no_suspects(serving: tuple[Health, Ask]) -> None:
    health, ask = serving
    assert ask("/storage-node").json()["node"] == "gone"
    assert ask("/successor?type=taken").json()["node"] == "gone"
    health.round()
    answer = ask("/storage-node").json()
    assert answer["node"] == "there"
    assert answer["refused"] == [{"node": "gone", "reason": "failed its health probe"}]
    assert ask("/successor?type=taken").json()["node"] == "there"
