"""The census on two real stores: what it counts, and that it reports nobody's state while things move under it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from libskylark.errors import StoreUnavailable
from libskylark.event import CHAIN, Event, derived_id
from libskylark.eventing import journal
from libskylark.eventing.entry import Content, NewEntry, pack
from libskylark.eventing.keys import DEAD_LETTERS, EVENTS
from libskylark.jobs import JOBS, Emit, Job, Push, Retire, encode
from libskylark.key import StateKey
from libskylark.lab.census import NodeCounts, count_node, count_orphans, sum_reads, wait_until_moved
from libskylark.memory import COUNTERS, event_name
from libskylark.state import arrived_key, redis_key, retired_key
from libskylark.store import Store
from tests.conftest import RedisNode

FUNCTIONS = ("camera", "detect")
ODD = "urn:chain/1 with spaces"  # no part of a state key
ATTRIBUTES = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}


class Node:
    """A node's store as its functions, its broker and its mover write to it."""

    def __init__(self, server: RedisNode) -> None:
        self.client = server.client()

    def capture(self, chain: str, task: str = "task") -> StateKey:
        """A bundle of the chain, meant for `there`."""
        key = StateKey.of_chain(chain, "there", task)
        self.client.hset(redis_key(key), mapping={"image": b"frame", "": b"detect"})
        return key

    def accept(self, event: Event, chain: str | None = None) -> str:
        """The id of the entry of an event that one Trigger wants."""
        content = Content(event, 255, 1000.5, {}, chain or event.chain)
        accepted = journal.Accepted(event.id, event.source, event.type, content.chain, None, ("default/a",), "now")
        flat = pack(NewEntry(content, ("default/a",), ""))
        entry: Any = self.client.xadd(EVENTS, dict(zip(flat[::2], flat[1::2], strict=True)))
        self.client.xadd(journal.KEY, {"record": journal.encode(accepted)})
        return str(entry.decode())

    def settle(self, entry: str) -> None:
        """The event has been delivered."""
        self.client.xdel(EVENTS, entry)

    def queue(self, job: Job) -> str:
        entry: Any = self.client.xadd(JOBS, {"job": encode(job)})
        return str(entry.decode())


def event(chain: str | None = "chain", event_id: str = "1") -> Event:
    return Event.new("t", "/s", b"\x00\xff", id=event_id, **{CHAIN: chain})


def push(key: StateKey) -> Push:
    return Push(str(key), "there", "skylark", 21.5, 2, None, 200.0, 5, (), 1_800_000_000.0)


@pytest.fixture
def here(redis_node: RedisNode) -> Iterator[Node]:
    node = Node(redis_node)
    with closing(node.client):
        yield node


@pytest.fixture
def there(other_node: RedisNode) -> Iterator[Node]:
    node = Node(other_node)
    with closing(node.client):
        yield node


Count = Callable[[], dict[str, int]]


@pytest.fixture
def stores(redis_node: RedisNode, other_node: RedisNode) -> Iterator[dict[str, Store]]:
    with ExitStack() as stack:
        nodes = {"here": redis_node, "there": other_node}
        yield {name: stack.enter_context(closing(Store(n.host, n.port))) for name, n in nodes.items()}


@pytest.fixture
def count(stores: dict[str, Store]) -> Count:
    return lambda: count_orphans(stores, FUNCTIONS)


def test_nodes_without_state_have_no_orphans(count: Count) -> None:
    assert count() == {"here": 0, "there": 0}


def test_state_of_a_chain_that_has_ended_is_an_orphan_on_every_node_that_has_it(
    here: Node, there: Node, count: Count
) -> None:
    here.capture("ended")
    there.capture("ended")
    here.capture("ended", "another")
    here.accept(event("going on"))
    assert count() == {"here": 2, "there": 1}


@pytest.mark.parametrize("chain", ["chain", ODD])
def test_state_of_a_chain_with_an_event_that_waits_anywhere_is_none(
    here: Node, there: Node, count: Count, chain: str
) -> None:
    here.capture(chain)
    there.capture(chain)
    entry = there.accept(event(chain))
    assert count() == {"here": 0, "there": 0}
    there.settle(entry)
    assert count() == {"here": 1, "there": 1}


def test_an_event_without_a_chain_waits_for_its_own_and_for_that_of_its_request(
    here: Node, there: Node, count: Count
) -> None:
    foreign = event(None)
    here.capture("request")
    here.capture(foreign.chain)
    there.accept(foreign, chain="request")
    assert count() == {"here": 0, "there": 0}


def test_all_pages_of_a_long_stream_are_read(here: Node, there: Node, count: Count) -> None:
    for number in range(100):
        here.capture(f"chain-{number}")
        there.accept(event(f"chain-{number}", str(number)))
    here.capture("ended")
    assert count() == {"here": 1, "there": 0}


@pytest.mark.parametrize(
    "job",
    [
        push,
        lambda key: Retire(str(key), "there", "detect"),
        lambda key: Emit({"skylarkkey": str(key), **ATTRIBUTES}, ""),
    ],
    ids=["push", "retire", "emit"],
)
def test_state_that_a_job_names_is_none(here: Node, there: Node, count: Count, job: Callable[[StateKey], Job]) -> None:
    key = here.capture("chain")
    entry = there.queue(job(key))
    assert count() == {"here": 0, "there": 0}
    there.client.xdel(JOBS, entry)
    assert count() == {"here": 1, "there": 0}


def test_state_of_a_chain_whose_event_is_to_be_emitted_is_none(here: Node, there: Node, count: Count) -> None:
    here.capture(ODD)
    there.queue(Emit({CHAIN: ODD, **ATTRIBUTES}, ""))
    assert count() == {"here": 0, "there": 0}


def test_state_that_a_run_has_just_captured_for_a_new_chain_is_none(here: Node, count: Count) -> None:
    tick = event(None, "tick")
    emitted = derived_id(event_name(tick), "camera")
    here.capture(emitted, emitted)
    entry = here.accept(tick)
    assert count() == {"here": 0, "there": 0}
    here.settle(entry)
    assert count() == {"here": 1, "there": 0}


def test_what_is_no_bundle_no_event_and_no_job_is_passed_over(here: Node, count: Count) -> None:
    key = here.capture("chain")
    for name in ("state:", "state:two:parts", "state:\xff:a:b", b"state:\xff:a:b", retired_key(key), arrived_key(key)):
        here.client.set(name, "x")
    here.client.xadd(EVENTS, {"foreign": "entry"})
    here.client.xadd(JOBS, {"foreign": "entry"})
    here.queue(Retire("no key", "there", "detect"))
    assert count() == {"here": 1, "there": 0}


def test_a_store_that_does_not_answer_may_hold_the_readers(here: Node, stores: dict[str, Store]) -> None:
    here.capture("chain")
    with closing(Store("127.0.0.3", 1)) as gone, pytest.raises(StoreUnavailable):
        count_orphans({**stores, "gone": gone}, FUNCTIONS)


class Interrupted(Store):
    """A store before whose answers something else happens."""

    before: Callable[[], None]

    def run(self, operation: Callable[[Any], Any]) -> Any:
        self.before()
        return super().run(operation)


Interrupt = Callable[[Callable[[], Callable[[], None]]], Iterator[dict[str, int]]]


@pytest.fixture
def interrupt(here: Node, there: Node, redis_node: RedisNode, other_node: RedisNode) -> Iterator[Interrupt]:
    """`interrupt(arrange)`: for each of the census' looks, its result where what `arrange` returns happens before."""
    with ExitStack() as stack:
        nodes = {"here": redis_node, "there": other_node}
        stores = {name: stack.enter_context(closing(Interrupted(n.host, n.port))) for name, n in nodes.items()}

        def results(arrange: Callable[[], Callable[[], None]]) -> Iterator[dict[str, int]]:
            looks, steps = 0, 1
            while looks < steps:
                redis_node.flush()
                other_node.flush()
                happen, seen = arrange(), iter(range(1000))

                def before(looks: int = looks, seen: Iterator[int] = seen, happen: Callable[[], None] = happen) -> None:
                    if next(seen) == looks:
                        happen()

                for store in stores.values():
                    store.before = before
                yield count_orphans(stores, FUNCTIONS)
                looks, steps = looks + 1, next(seen)

        yield results


@pytest.mark.parametrize(("moving", "chain"), [(event(), None), (event(None), "request")])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_event_that_goes_to_another_node_meanwhile_is_not_missed(
    here: Node, there: Node, interrupt: Interrupt, backwards: bool, moving: Event, chain: str | None
) -> None:
    source, target = (there, here) if backwards else (here, there)

    def arrange() -> Callable[[], None]:
        source.capture(moving.chain)
        entry = source.accept(moving, chain)

        def go_on() -> None:
            target.accept(moving, chain)
            source.settle(entry)

        return go_on

    looks = list(interrupt(arrange))
    assert len(looks) > 10
    assert looks == [{"here": 0, "there": 0}] * len(looks)


def test_an_event_that_hurries_through_all_streams_meanwhile_is_not_missed(
    here: Node, there: Node, interrupt: Interrupt
) -> None:
    def arrange() -> Callable[[], None]:
        here.capture("chain")
        entry = there.accept(event())

        def go_there_and_back() -> None:
            passing = here.accept(event(event_id="2"))
            there.settle(entry)
            there.accept(event(event_id="3"))
            here.settle(passing)

        return go_there_and_back

    assert all(found == {"here": 0, "there": 0} for found in interrupt(arrange))


@pytest.mark.parametrize("done", [False, True])
def test_state_that_is_consumed_meanwhile_is_no_orphan(
    here: Node, there: Node, interrupt: Interrupt, done: bool
) -> None:
    """The last event's run commits a job, then the event goes; the mover does the job at once, or later."""

    def arrange() -> Callable[[], None]:
        key = here.capture("chain")
        entry = there.accept(event())

        def consume() -> None:
            job = there.queue(Retire(str(key), "here", "detect"))
            there.settle(entry)
            if done:
                here.client.delete(redis_key(key))
                there.client.xdel(JOBS, job)

        return consume

    assert all(found == {"here": 0, "there": 0} for found in interrupt(arrange))


def test_a_chain_that_begins_meanwhile_is_none(here: Node, interrupt: Interrupt) -> None:
    """A run captures state for a chain of its own; then its answer comes in."""
    tick = event(None, "tick")
    emitted = derived_id(event_name(tick), "camera")

    def arrange() -> Callable[[], None]:
        entry = here.accept(tick)
        here.capture(emitted, emitted)

        def answer() -> None:
            here.accept(event(emitted, emitted))
            here.settle(entry)

        return answer

    assert all(found == {"here": 0, "there": 0} for found in interrupt(arrange))


def test_a_node_is_counted(here: Node, stores: dict[str, Store]) -> None:
    assert count_node(stores["here"]) == NodeCounts(0, 0, 0, {"inline": 0, "local": 0, "remote": 0})
    here.accept(event())
    here.client.xadd(DEAD_LETTERS, {"reason": "x"})
    here.client.xadd(DEAD_LETTERS, {"reason": "y"})
    for _ in range(3):
        here.queue(Retire("a:b:c", "there", "detect"))
    here.client.hset(COUNTERS, mapping={"reads:local": 4, "reads:remote": 1, "runs:detect": 9})
    counted = count_node(stores["here"])
    assert counted == NodeCounts(1, 2, 3, {"inline": 0, "local": 4, "remote": 1})
    assert sum_reads([counted, counted]) == {"inline": 0, "local": 8, "remote": 2}


def test_the_movers_are_waited_for(here: Node, there: Node, stores: dict[str, Store]) -> None:
    entry = there.queue(Retire("a:b:c", "here", "detect"))
    assert wait_until_moved(stores.values(), timeout_s=0) is False
    mover = threading.Timer(0.05, there.client.xdel, (JOBS, entry))
    mover.start()
    assert wait_until_moved(stores.values(), timeout_s=30) is True
    mover.join()
