from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from threading import Lock
from typing import Any

import pytest
import redis

from libskylark.errors import StoreUnavailable, UnknownNode
from libskylark.store import Store, Stores, script_source

from .conftest import RedisNode


def eventually(holds: Callable[[], bool]) -> None:
    deadline_s, pace = time.monotonic() + 10, threading.Event()
    while not holds():
        assert time.monotonic() < deadline_s
        pace.wait(0.01)


def test_an_operation_runs_on_the_nodes_redis(store: Store) -> None:
    store.run(lambda client: client.set("a", "1"))
    assert store.run(lambda client: client.get("a")) == b"1"
    store.ping()


def test_a_script_runs_with_keys_and_arguments(store: Store) -> None:
    assert "KEYS[1]" in script_source("retire")
    store.run(lambda client: client.hset("s", mapping={"": "f,g"}))
    assert store.run_script("retire", ["s", "a", "r"], ["f", 1000]) == 1
    assert store.run(lambda client: client.hget("s", "")) == b"g"


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


def test_a_blocking_operation_may_take_longer_than_the_time_out(redis_node: RedisNode) -> None:
    with closing(Store(redis_node.host, redis_node.port, timeout_s=0.1)) as store:
        assert store.wait(lambda client: client.blpop(["nothing"], 0.3), 0.3) is None


def test_a_blocking_operation_ends_one_time_out_after_it_should_have(redis_node: RedisNode) -> None:
    store = Store(redis_node.host, redis_node.port, timeout_s=0.1)
    with closing(store), pytest.raises(StoreUnavailable, match="Timeout"):
        store.wait(lambda client: client.blpop(["nothing"], 60), 0.1)


def test_a_transfer_has_a_time_out_of_its_own(redis_node: RedisNode) -> None:
    with closing(Store(redis_node.host, redis_node.port, timeout_s=0.1, move_timeout_s=1.0)) as store:
        assert store.bulk(lambda client: client.blpop(["nothing"], 0.3)) is None
    store = Store(redis_node.host, redis_node.port, timeout_s=0.1, move_timeout_s=0.15)
    with closing(store), pytest.raises(StoreUnavailable, match="Timeout"):
        store.bulk(lambda client: client.blpop(["nothing"], 60))


@pytest.mark.parametrize("kind", ["wait", "bulk"])
def test_neither_a_wait_nor_a_transfer_is_tried_again(store: Store, kind: str) -> None:
    tries: list[int] = []

    def operation(client: Any) -> None:
        tries.append(1)
        raise redis.ConnectionError("gone")

    with pytest.raises(StoreUnavailable, match="gone"):
        store.wait(operation, 1.0) if kind == "wait" else store.bulk(operation)
    assert len(tries) == 1


def test_an_exchange_has_the_answers_of_all_commands(store: Store) -> None:
    commands = [("SET", "a", b"1"), ("GET", "a"), ("EVAL", "return {KEYS[1], ARGV[1]}", 1, "k", 2)]
    assert store.exchange(commands, nullcontext()) == [b"OK", b"1", [b"k", b"2"]]


def test_others_may_send_while_the_answers_of_an_exchange_are_on_their_way(store: Store) -> None:
    sending = Lock()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.exchange, [("SET", "sent", 1), ("BLPOP", "answer", 20)], sending)
        eventually(lambda: store.client.exists("sent") == 1)
        assert store.exchange([("RPUSH", "answer", "now")], sending) == [1]
        assert first.result(10) == [b"OK", [b"answer", b"now"]]


def test_an_exchange_that_fails_leaves_no_answer_for_the_next_one(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="unknown command"):
        store.exchange([("NONSENSE",), ("SET", "a", 1), ("GET", "a")], nullcontext())
    assert store.exchange([("GET", "a")], nullcontext()) == [b"1"]


def test_every_node_has_its_own_store(stores: Stores) -> None:
    stores.local.run(lambda client: client.set("who", "here"))
    stores.of("there").run(lambda client: client.set("who", "there"))
    assert stores.of("here") is stores.local
    assert stores.of("there") is stores.of("there")
    assert [stores.of(node).run(lambda client: client.get("who")) for node in ("here", "there")] == [b"here", b"there"]


def test_a_node_that_nobody_knows_has_no_store(stores: Stores) -> None:
    with pytest.raises(UnknownNode, match="'mars'"):
        stores.of("mars")
