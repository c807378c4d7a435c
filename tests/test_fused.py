from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from libskylark.codec import encode
from libskylark.errors import FunctionError, StateMissing
from libskylark.event import Event, from_http, to_http
from libskylark.fields import Frames
from libskylark.function import Function
from libskylark.fused import Bundles, SharedStates, fuse
from libskylark.key import StateKey
from libskylark.state import Loaded, RedisStates, incoming_state
from libskylark.store import Stores
from libskylark.testing import FakeClock, FakeLedger, FakeServices, FakeStates

from .conftest import RedisNode

KEY = StateKey("chain", "there", "task")
FRAMES = {"image": encode(b"x" * 100), "boxes": encode([1, 2])}
SIZE = sum(len(name) + len(frame) for name, frame in FRAMES.items())


class CountedStates(FakeStates):
    """Counts what is fetched, and fetches nothing before it may."""

    def __init__(self, ledger: FakeLedger | None = None) -> None:
        super().__init__(ledger)
        self.asked: list[Sequence[str] | None] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()

    def load(self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None) -> Loaded:
        self.asked.append(names)
        self.begun.release()
        assert self.may_end.wait(10)
        return super().load(key, origin, names, first)


@pytest.fixture
def states() -> CountedStates:
    states = CountedStates()
    states.push(KEY, FRAMES, 0)
    return states


@pytest.fixture
def bundles(clock: FakeClock) -> Bundles:
    return Bundles(60, 1000, clock.now_s)


@pytest.fixture
def shared(states: CountedStates, bundles: Bundles) -> SharedStates:
    return SharedStates(states, bundles, "here")


def test_two_functions_that_get_the_same_state_share_one_fetch(shared: SharedStates, states: CountedStates) -> None:
    event = Event.new("t", "/nodes/origin/functions/f", skylarkkey=str(KEY))
    first, second = (incoming_state(event, "here", shared) for _ in range(2))
    assert first.fields["boxes"] == [1, 2]
    assert sorted(first.fields) == ["boxes", "image"]
    assert second.fields["image"] == b"x" * 100
    assert states.asked == [None]
    assert first.reads() == {"remote": 1}
    assert second.reads() == {"local": 1}


def test_who_fetches_the_state_is_told_that_it_waited_and_the_next_one_not(bundles: Bundles) -> None:
    class Waiting(FakeStates):
        def load(
            self, key: StateKey, origin: str | None, names: Sequence[str] | None, first: str | None = None
        ) -> Loaded:
            return Loaded(FRAMES, "here", waited=True)

    shared = SharedStates(Waiting(), bundles, "here")
    wanted, others = {"boxes": FRAMES["boxes"]}, frozenset({"image"})
    assert shared.load(KEY, None, ["boxes"]) == Loaded(wanted, "here", waited=True, others=others)
    assert shared.load(KEY, None, ["boxes"]) == Loaded(wanted, "here", others=others)


def test_those_who_ask_while_a_fetch_is_under_way_wait_for_it(shared: SharedStates, states: CountedStates) -> None:
    states.may_end.clear()
    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(shared.load, KEY, None, ["boxes"]) for _ in range(4)]
        assert states.begun.acquire(timeout=5)
        states.may_end.set()
        assert [read.result(5).frames for read in reads] == [{"boxes": FRAMES["boxes"]}] * 4
    assert states.asked == [None]


def test_a_fetch_that_failed_is_not_kept(shared: SharedStates, states: CountedStates) -> None:
    other = StateKey("chain", "there", "other")
    for _ in range(2):
        with pytest.raises(StateMissing):
            shared.load(other, None, None)
    states.push(other, FRAMES, 0)
    assert shared.load(other, None, None) == Loaded(FRAMES, "there")


def fail() -> Frames:
    raise AssertionError("nothing was to be fetched")


def test_bundles_are_kept_until_their_state_has_expired(bundles: Bundles, clock: FakeClock) -> None:
    bundles.put("a", FRAMES)
    clock.advance(59)
    assert bundles.get("a", fail) == FRAMES
    clock.advance(1)
    assert bundles.get("a", lambda: {"new": b"1"}) == {"new": b"1"}


def test_the_bundles_used_least_recently_make_room(bundles: Bundles) -> None:
    for key in "abc":
        bundles.put(key, {"f": bytes(299)})
    assert bundles.size_bytes == 900
    bundles.get("a", fail)
    bundles.put("d", {"f": bytes(299)})
    assert bundles.get("a", fail) == {"f": bytes(299)}
    assert bundles.get("b", lambda: {}) == {}
    assert bundles.size_bytes <= 1000


def test_expired_bundles_make_room_first(bundles: Bundles, clock: FakeClock) -> None:
    bundles.put("a", {"f": bytes(99)})
    clock.advance(60)
    bundles.put("b", {"f": bytes(99)})
    assert bundles.size_bytes == 100


def test_a_bundle_that_is_too_large_takes_no_room(bundles: Bundles) -> None:
    bundles.put("a", FRAMES)
    bundles.put("b", {"f": bytes(2000)})
    assert bundles.size_bytes == SIZE
    assert bundles.get("b", lambda: {"f": bytes(2000)}) == {"f": bytes(2000)}
    assert bundles.get("a", fail) == FRAMES


def function(name: str, redis: RedisNode, ledger: FakeLedger, states: FakeStates, node: str = "here") -> Function:
    settings = redis.settings(node, inline_limit_bytes=0)
    services = FakeServices("here")
    app = Function(name, emits="next", settings=settings, ledger=ledger, states=states, services=services)

    @app.handler
    def handle(event: Event, state: Any) -> dict[str, Any]:
        found = sorted(state)
        state[name] = len(found)
        return {"found": found}

    return app


def post(client: Any, path: str, event: Event) -> Event:
    headers, body = to_http(event)
    response = client.post(path, headers=headers, data=body)
    assert response.status_code == 200, response.text
    return from_http(list(response.headers.items()), response.data)


def test_functions_answer_under_their_names_and_need_no_fetch_for_what_one_of_them_wrote(
    redis_node: RedisNode,
) -> None:
    ledger = FakeLedger()
    states = CountedStates(ledger)
    client = fuse(*(function(name, redis_node, ledger, states) for name in ("one", "two"))).test_client()
    first = post(client, "/one", Event.new("t", "/s"))
    second = post(client, "/two", first)
    assert (first.json(), second.json()) == ({"found": []}, {"found": ["one"]})
    assert second.source == "/nodes/here/functions/two"
    assert states.asked == []
    assert ledger.counters["reads:local"] == 1


def test_fused_functions_read_from_real_stores(redis_node: RedisNode, stores: Stores) -> None:
    one, two = (function(name, redis_node, FakeLedger(), FakeStates()) for name in ("one", "two"))
    one.execution.states = RedisStates(stores)
    client = fuse(one, two).test_client()
    mapping: Any = {**FRAMES, "": b"one,two"}
    stores.of("there").run(lambda redis: redis.hset(f"state:{KEY}", mapping=mapping))
    assert post(client, "/one", Event.new("t", "/s", skylarkkey=str(KEY))).json() == {"found": ["boxes", "image"]}
    stores.of("there").run(lambda redis: redis.delete(f"state:{KEY}"))
    assert post(client, "/two", Event.new("t", "/s", skylarkkey=str(KEY))).json() == {"found": ["boxes", "image"]}


def test_the_process_and_each_function_tell_how_they_are(redis_node: RedisNode) -> None:
    client = fuse(function("one", redis_node, FakeLedger(), FakeStates())).test_client()
    assert json.loads(client.get("/health").data) == {"status": "alive", "functions": ["one"]}
    assert client.get("/ready").status_code == 200
    assert json.loads(client.get("/one/health").data)["function"] == "one"
    assert b"skylark_events" in client.get("/one/metrics").data
    assert client.get("/other").status_code == 404


@pytest.mark.parametrize(
    ("names", "nodes", "found"),
    [
        ([], [], "found none of no node"),
        (["one", "one"], ["here", "here"], "found one, one of here"),
        (["one", "two"], ["here", "there"], "found one, two of here, there"),
    ],
)
def test_what_cannot_be_fused_is_refused(redis_node: RedisNode, names: list[str], nodes: list[str], found: str) -> None:
    pairs = zip(names, nodes, strict=True)
    functions = [function(name, redis_node, FakeLedger(), FakeStates(), node) for name, node in pairs]
    with pytest.raises(FunctionError, match=found):
        fuse(*functions)
