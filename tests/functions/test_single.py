"""single: its state is read and stored again, one field under one key; what it says when there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest

from libskylark import Event
from libskylark.bench.storing import KEPT_S, KEY_HEADER
from libskylark.key import StateKey
from libskylark.mover import Mover
from libskylark.state import RedisStates, arrived_key, redis_key
from libskylark.store import Stores
from libskylark.testing import invoke
from libskylark.timing import HEADER, read_timings

LoadFunction = Callable[..., ModuleType]


@pytest.fixture
def key(load_on_node: LoadFunction) -> str:
    """That of 4 KiB of state on the node here."""
    return str(load_on_node("write_data").app.test_client().get("/single?size=4&destination=here").text)


def test_state_is_stored_under_another_key_and_the_times_are_told(
    load_on_node: LoadFunction, stores: Stores, key: str
) -> None:
    answer = load_on_node("single").app.test_client().get(f"/get-and-set?key={key}&destination=here")
    assert (answer.status_code, answer.content_type) == (200, "text/plain")
    assert re.fullmatch(r"\d+\t\d+", answer.text)
    stored = answer.headers[KEY_HEADER]
    assert stored != key
    states = RedisStates(stores)
    assert states.load(StateKey.parse(stored), None, None) == states.load(StateKey.parse(key), None, None)
    timings = read_timings(answer.headers[HEADER])
    assert [(t.what, t.place) for t in timings] == [("state", "local"), ("commit", "")]
    assert timings[0].size_bytes > 4096


def test_a_key_may_be_read_again_and_what_was_stored_goes_in_a_minute(
    load_on_node: LoadFunction, stores: Stores, key: str
) -> None:
    client = load_on_node("single").app.test_client()
    answers = [client.get(f"/get-and-set?key={key}&destination=here") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = (redis_key(StateKey.parse(answer.headers[KEY_HEADER])) for answer in answers)
    assert first != second
    assert 0 < stores.local.run(lambda client: client.ttl(first)) <= KEPT_S
    assert stores.local.run(lambda client: client.ttl(redis_key(StateKey.parse(key)))) > KEPT_S


def test_state_on_another_node_is_read_there_and_stored_there(
    load_on_node: LoadFunction, stores: Stores, mover: Mover
) -> None:
    key = load_on_node("write_data").app.test_client().get("/single?size=4&destination=there").text
    here, there = redis_key(StateKey.parse(key)), stores.of("there")
    arrived = arrived_key(StateKey.parse(key))
    assert there.wait(lambda client: client.xread({arrived: "0"}, block=10_000), 10)
    assert stores.local.run(lambda client: client.delete(here)) == 1
    answer = load_on_node("single").app.test_client().get(f"/get-and-set?key={key}&destination=there")
    assert answer.status_code == 200, answer.text
    assert [t.place for t in read_timings(answer.headers[HEADER])] == ["remote", ""]
    stored = StateKey.parse(answer.headers[KEY_HEADER])
    assert stored.node == "there"
    assert there.wait(lambda client: client.xread({arrived_key(stored): "0"}, block=10_000), 10)


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("", 400, "state key '' has 1 parts, expected chain:node:task"),
        ("key=a:b", 400, "has 2 parts"),
        ("key=a:here:c", 404, "state a:here:c is nowhere to be read"),
        ("key=a:mars:c", 404, "mars"),
        ("key=a:here:c&destination=mars", 404, "'mars'"),
        ("key=a:here:c&policy=best", 400, "query parameter policy"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused(
    load_on_node: LoadFunction, query: str, status: int, told: str
) -> None:
    answer = load_on_node("single").app.test_client().get(f"/get-and-set?{query}")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert told in answer.json["detail"]


def test_a_bundle_is_none_of_its_business(load_on_node: LoadFunction) -> None:
    key = load_on_node("write_data").app.test_client().get("/bundled?size=1&scount=2&destination=here").text
    answer = load_on_node("single").app.test_client().get(f"/get-and-set?key={key}&destination=here")
    assert (answer.status_code, "no field data" in answer.json["detail"]) == (400, True)


def test_a_store_that_is_away_is_an_error_that_may_pass(load_on_node: LoadFunction, unused_port: int) -> None:
    app = load_on_node("single", SKYLARK_REDIS_PORT=str(unused_port)).app
    assert app.test_client().get("/get-and-set?key=a:here:c&destination=here").status_code == 503


def test_as_a_function_it_hands_its_state_on(load_function: LoadFunction) -> None:
    answer = invoke(load_function("single").app, Event.new("t", "/me"), {"data": b"12345"})
    assert (answer.status, answer.state) == (200, {"data": b"12345"})
    assert answer.event is not None
    assert (answer.event.type, answer.event.json()) == ("dev.skylark.state.single", {"data": 5})
    assert invoke(load_function("single").app, Event.new("t", "/me")).status == 400
