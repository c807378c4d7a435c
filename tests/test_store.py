from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import redis

from libskylark.errors import StoreUnavailable, UnknownNode
from libskylark.store import Store, Stores, script_source


def test_an_operation_runs_on_the_nodes_redis(store: Store) -> None:
    store.run(lambda client: client.set("a", "1"))
    assert store.run(lambda client: client.get("a")) == b"1"
    store.ping()


def test_a_script_runs_with_keys_and_arguments(store: Store) -> None:
    assert "KEYS[1]" in script_source("commit")
    answer = store.run_script("commit", ["m", "r", "t", "c", "s"], ["e", "reply", 0, 1000, "", 0, 0, 0, 0, 0])
    assert answer == [b"ok", 0]


def test_an_unreachable_redis_is_named(unused_port: int) -> None:
    with closing(Store("127.0.0.1", unused_port)) as store:
        with pytest.raises(StoreUnavailable, match=f"Redis at 127.0.0.1:{unused_port} is unavailable") as caught:
            store.ping()
        assert caught.value.address == f"127.0.0.1:{unused_port}"
        assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), redis.TimeoutError("slow")])
def test_what_fails_in_passing_is_tried_again(store: Store, error: Exception) -> None:
    tries: list[int] = []

    def operation(client: Any) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise error
        return "done"

    assert store.run(operation) == "done"
    assert len(tries) == 3


def test_trying_again_ends(store: Store) -> None:
    tries: list[int] = []

    def operation(client: Any) -> None:
        tries.append(1)
        raise redis.ConnectionError("gone")

    with pytest.raises(StoreUnavailable, match="gone"):
        store.run(operation)
    assert len(tries) == 3


def test_what_redis_refuses_is_not_tried_again(store: Store) -> None:
    tries: list[int] = []

    def operation(client: Any) -> None:
        tries.append(1)
        client.set("text", "x")
        client.hget("text", "field")

    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        store.run(operation)
    assert len(tries) == 1


def test_every_node_has_its_own_store(stores: Stores) -> None:
    stores.local.run(lambda client: client.set("who", "here"))
    stores.of("there").run(lambda client: client.set("who", "there"))
    assert stores.of("here") is stores.local
    assert stores.of("there") is stores.of("there")
    assert [stores.of(node).run(lambda client: client.get("who")) for node in ("here", "there")] == [b"here", b"there"]


def test_a_node_that_nobody_knows_has_no_store(stores: Stores) -> None:
    with pytest.raises(UnknownNode, match="'mars'"):
        stores.of("mars")
