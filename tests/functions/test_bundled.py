"""bundled: the state of all functions is one hash, read in one request and stored in one, whatever its depth."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest

from libskylark import Event
from libskylark.bench.storing import KEY_HEADER
from libskylark.constellation import Constellation, read_constellation
from libskylark.key import StateKey
from libskylark.state import RedisStates, redis_key
from libskylark.store import Stores
from libskylark.testing import invoke
from libskylark.timing import HEADER, read_timings
from tests.conftest import ROOT

LoadFunction = Callable[..., ModuleType]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_one_request_reads_all_and_one_stores_all_in_one_hash(
    load_on_node: LoadFunction, stores: Stores, depth: int
) -> None:
    key = load_on_node("write_data").app.test_client().get(f"/bundled?size=4&scount={depth}&destination=here").text
    answer = load_on_node("bundled").app.test_client().get(f"/get-and-set?key={key}&destination=here")
    assert (answer.status_code, answer.content_type) == (200, "text/plain")
    assert re.fullmatch(r"\d+\t\d+", answer.text)
    assert [(t.what, t.place) for t in read_timings(answer.headers[HEADER])] == [("state", "local"), ("commit", "")]
    read, stored = (StateKey.parse(text) for text in (key, answer.headers[KEY_HEADER]))
    states = RedisStates(stores)
    assert states.load(stored, None, None) == states.load(read, None, None)
    assert len(states.load(stored, None, None).frames) == depth
    hashes = stores.local.run(lambda client: client.keys("state:*"))
    assert sorted(hashes) == sorted(redis_key(k).encode() for k in (read, stored))


def test_single_state_is_a_bundle_of_one(load_on_node: LoadFunction) -> None:
    key = load_on_node("write_data").app.test_client().get("/single?size=1&destination=here").text
    assert load_on_node("bundled").app.test_client().get(f"/get-and-set?key={key}&destination=here").status_code == 200


@pytest.mark.parametrize(("query", "status"), [("", 400), ("key=a:here:c", 404), ("key=a:here:c&policy=x", 400)])
def test_a_request_that_cannot_be_done_is_refused(load_on_node: LoadFunction, query: str, status: int) -> None:
    answer = load_on_node("bundled").app.test_client().get(f"/get-and-set?{query}")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


def test_as_a_function_it_hands_all_state_on(load_function: LoadFunction) -> None:
    state = {"detect": b"12345", "classify": b"67"}
    answer = invoke(load_function("bundled").app, Event.new("t", "/me"), state)
    assert (answer.status, answer.state) == (200, state)
    assert answer.event is not None
    assert answer.event.json() == {"detect": 5, "classify": 2}
    assert invoke(load_function("bundled").app, Event.new("t", "/me")).status == 400


def test_the_fire_watch_lab_runs_none_of_the_storage_experiment_until_it_is_given_nodes() -> None:
    spec = read_constellation(ROOT / "deployment/constellation.yaml").spec
    experiment = ("single", "bundled", "write-data")
    assert [spec.functions[name].nodes for name in experiment] == [[], [], []]
    given = {name: spec.functions[name].model_copy(update={"nodes": ["Sat"]}) for name in experiment}
    placed = Constellation(spec.model_copy(update={"functions": {**spec.functions, **given}}))
    assert all(len(placed.hosts(name)) == 7 for name in experiment)
    before = Constellation(spec).functions
    assert all(placed.functions[name] == before[name] for name in before if name not in experiment)
    assert len({placed.functions[name].port for name in placed.functions}) == len(placed.functions)
