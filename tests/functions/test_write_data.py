"""write_data: what its two requests store, under which key, and where."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from libskylark import Event
from libskylark.codec import decode
from libskylark.key import StateKey
from libskylark.mover import Mover
from libskylark.state import RedisStates, arrived_key
from libskylark.store import Stores
from libskylark.testing import invoke

LoadFunction = Callable[..., ModuleType]


def read(stores: Stores, key: str) -> dict[str, Any]:
    """The values under a key, from the store of the node that it names."""
    loaded = RedisStates(stores).load(StateKey.parse(key), None, None)
    return {name: decode(frame) for name, frame in loaded.frames.items()}


def stored_keys(stores: Stores) -> list[bytes]:
    keys: Any = stores.local.run(lambda client: client.keys("state:*"))
    return sorted(keys)


def test_single_stores_one_field_of_that_size(load_on_node: LoadFunction, stores: Stores) -> None:
    answer = load_on_node("write_data").app.test_client().get("/single?size=20&destination=here")
    assert (answer.status_code, answer.content_type) == (200, "text/plain")
    assert answer.headers["Node-Name"] == "here"
    state = read(stores, answer.text)
    assert {name: len(value) for name, value in state.items()} == {"data": 20 * 1024}
    assert stored_keys(stores) == [f"state:{answer.text}".encode()]


def test_bundled_stores_all_fields_in_one_hash(load_on_node: LoadFunction, stores: Stores) -> None:
    answer = load_on_node("write_data").app.test_client().get("/bundled?size=2&scount=5&destination=here")
    state = read(stores, answer.text)
    assert {name: len(value) for name, value in state.items()} == {f"bundle-child-{n}": 2048 for n in range(1, 6)}
    assert len(set(state.values())) == 5
    assert stored_keys(stores) == [f"state:{answer.text}".encode()]


def test_the_original_s_defaults_are_kept(load_on_node: LoadFunction, stores: Stores) -> None:
    client = load_on_node("write_data").app.test_client()
    assert [len(v) for v in read(stores, client.get("/single?destination=here").text).values()] == [100 * 1024]
    assert list(read(stores, client.get("/bundled?destination=here").text)) == ["bundle-child-1"]


@pytest.mark.parametrize("query", ["", "&destination=there", "&destination=there&policy=Stateless"])
def test_state_is_pushed_to_its_destination_which_is_the_chain_s_end(
    load_on_node: LoadFunction, stores: Stores, mover: Mover, query: str
) -> None:
    answer = load_on_node("write_data").app.test_client().get(f"/single?size=8{query}")
    key = StateKey.parse(answer.text)
    assert key.node == "there"
    arrived = arrived_key(key)
    assert stores.of("there").wait(lambda client: client.xread({arrived: "0"}, block=10_000), 10)
    there = Stores(stores.settings.model_copy(update={"node": "there", "host": "127.0.0.2"}), str)
    assert len(read(there, answer.text)["data"]) == 8 * 1024
    there.local.close()


def test_by_the_policy_skylark_what_is_too_much_for_the_objective_stays(load_on_node: LoadFunction) -> None:
    client = load_on_node("write_data").app.test_client()
    query = "destination=there&policy=skylark"
    nodes = [StateKey.parse(client.get(f"/single?size={size}&{query}").text).node for size in (1, 1000)]
    assert nodes == ["there", "here"]  # 120 ms for the way, of 200 ms, leave 900 KB


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("size=x", 400, "query parameter size: found 'x'"),
        ("size=0", 400, "found 0 KiB, 1 times, expected 1 to 65536 KiB in all"),
        ("size=1&scount=0", 400, "found 1 KiB, 0 times"),
        ("size=1&scount=999999999999999", 400, "found 1 KiB, 999999999999999 times"),
        ("size=65536&scount=2", 400, "found 65536 KiB, 2 times"),
        ("destination=mars", 404, "'mars'"),
        ("policy=best", 400, "query parameter policy: found 'best', expected one of skylark, random, stateless"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    load_on_node: LoadFunction, stores: Stores, query: str, status: int, told: str
) -> None:
    answer = load_on_node("write_data").app.test_client().get(f"/bundled?{query}")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert told in answer.json["detail"]
    assert stored_keys(stores) == []


@pytest.mark.parametrize("silent", ["SKYLARK_ELECT_PORT", "SKYLARK_REDIS_PORT"])
def test_without_elect_or_store_nothing_is_stored(
    load_on_node: LoadFunction, stores: Stores, unused_port: int, silent: str
) -> None:
    app = load_on_node("write_data", **{silent: str(unused_port)}).app
    answer = app.test_client().get("/single?size=1&destination=here")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert stored_keys(stores) == []


def test_an_event_asks_for_the_same(load_function: LoadFunction) -> None:
    app = load_function("write_data").app
    answers = [invoke(app, Event.new("t", "/me", {"kib": 1, "count": 2}, id=name)) for name in ("a", "a", "b")]
    assert [answer.status for answer in answers] == [200] * 3
    assert list(answers[0].state) == ["bundle-child-1", "bundle-child-2"]
    assert answers[0].state == answers[1].state != answers[2].state


@pytest.mark.parametrize(
    "data",
    [b"no json", [1], {}, {"kib": "1"}, {"kib": 1, "count": "2"}, {"kib": -1, "count": -1}, {"kib": 1, "count": 0}],
)
def test_an_event_that_asks_for_something_else_is_refused(load_function: LoadFunction, data: Any) -> None:
    assert invoke(load_function("write_data").app, Event.new("t", "/me", data)).status == 400
