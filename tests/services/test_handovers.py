"""When a node's anchored memories go where: the plan, and the driver on real Redis with a clock of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from libskylark.clock import SystemClock, Ticks
from libskylark.codec import encode
from libskylark.constellation import Constellation, ConstellationSpec
from libskylark.election import ElectionTable, EpochView
from libskylark.event import Event
from libskylark.jobs import JOBS, MOVES, Emit, decode, read_moves
from libskylark.memory import Committed, Effects, MemoryKeys, MemoryName, Owner, RedisLedger, known_owner
from libskylark.ownership import Ownership, owned_memories
from libskylark.services.cluster import ClusterNode
from libskylark.services.completed import COMPLETED_TYPE
from libskylark.services.handovers import Handovers
from libskylark.services.presence import with_present
from libskylark.services.schedule import fits, plan
from libskylark.store import Store, Stores
from libskylark.testing import FakeClock
from tests.conftest import RedisNode

NAME = MemoryName("detect", "area-1")
TICK_S = 60.0
EPOCH = 30_000_000  # even: `here` is above; it begins when the clock of the tests stands
Tables = Callable[[int], ElectionTable]


class Behind(SystemClock):
    """A clock that is so many seconds behind."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now_s(self) -> float:
        return super().now_s() - self._seconds


def constellation(other: str = "there", **functions: list[str]) -> Constellation:
    """Two satellites, `here` and the `other`, that take turns above the area, 40 Mbit/s and 10 ms apart."""
    addresses = {"cloud": ("Cloud", "10.0.0.1"), "here": ("Sat", "10.0.0.2"), other: ("Sat", "10.0.0.3")}
    document: dict[str, Any] = {
        "nodes": [{"name": name, "type": kind, "ip": ip} for name, (kind, ip) in addresses.items()],
        "link_types": {
            "Sat-to-Sat": {"latency_ms": 10, "bandwidth_mbps": 40},
            "Cloud-to-Sat": {"latency_ms": 60, "bandwidth_mbps": 90},
        },
        "links": [["here", other]],
        "rotation": {"ground": "cloud", "satellites": ["here", other]},
        "functions": {name: {"nodes": nodes} for name, nodes in (functions or {"detect": ["Sat"]}).items()},
    }
    return Constellation(ConstellationSpec.model_validate(document))


def tables(of: Constellation, here: str = "here", tick_s: float = TICK_S) -> Tables:
    def table(epoch: int) -> ElectionTable:
        view = EpochView.of(of, epoch, tick_s, of.objectives)
        return ElectionTable(view, here).followed_by(of.topology(epoch + 1))

    return table


def planned(of: Constellation, size_bytes: int, into_epoch_s: float, epoch: int = EPOCH, since: int = 0) -> Any:
    table = tables(of)
    now_s = epoch * TICK_S + into_epoch_s
    return plan("detect", size_bytes, since or epoch, now_s, table(epoch), table(epoch + 1), Ticks(TICK_S))


def test_a_copy_begins_early_enough_and_the_ownership_changes_at_the_tick() -> None:
    found = planned(constellation(), 10_000_000, 0)
    ends_s = (EPOCH + 1) * TICK_S
    assert (found.candidate.node, found.epoch, found.switch_at_s) == ("there", EPOCH + 1, ends_s)
    assert ends_s - found.copy_at_s == pytest.approx(3 * (0.02 + 2.0))  # three times what 10 MB take
    assert planned(constellation(), 1000, 0).copy_at_s == ends_s - 2.0


def test_memory_that_belongs_elsewhere_goes_at_once() -> None:
    found = planned(constellation(), 1000, 5, epoch=EPOCH + 1)
    assert (found.candidate.node, found.epoch) == ("there", EPOCH + 1)
    assert found.copy_at_s == found.switch_at_s == (EPOCH + 1) * TICK_S + 5


def test_memory_stays_where_the_next_satellite_does_not_run_its_function() -> None:
    assert planned(constellation(detect=["here"]), 1000, 5) is None
    assert planned(constellation(detect=["here"]), 1000, 5, epoch=EPOCH + 1) is None


def test_where_the_path_ends_with_the_epoch_the_ownership_changes_before() -> None:
    class Parted(Constellation):
        """The link of the two satellites is there in even epochs only."""

        def topology(self, epoch: int) -> Any:
            whole = super().topology(epoch)
            links = [link for link in whole.links if epoch % 2 == 0 or {link.source, link.target} != {"here", "there"}]
            return type(whole).of(whole.nodes.values(), links)

    parted = Parted(constellation().spec)
    found = planned(parted, 1000, 0)
    ends_s = (EPOCH + 1) * TICK_S
    assert found.switch_at_s == pytest.approx(ends_s - 3 * 2 * 0.010)
    candidate = found.candidate
    assert fits(candidate, 1000, found.switch_at_s)
    assert not fits(candidate, 10_000_000, ends_s - 2.0)


def test_memory_that_came_before_its_tick_is_not_handed_back() -> None:
    early = EPOCH + 1  # `there` is above, says the clock of `here`, which owns the memory from the next epoch on
    assert planned(constellation(), 1000, 59.9, epoch=early, since=early + 1) is None
    assert planned(constellation(), 1000, 59.9, epoch=early, since=early) is not None


# The driver


@pytest.fixture
def ownership(stores: Stores) -> Ownership:
    return Ownership("here", stores, lambda: "here")


@pytest.fixture
def handovers(stores: Stores, ownership: Ownership, clock: FakeClock) -> Handovers:
    ownership.find(NAME, EPOCH)
    write(stores.local, 1, seen=1)
    settings = stores.settings.model_copy(update={"node": "here", "tick_s": TICK_S})
    return Handovers(settings, stores, ownership, tables(constellation()), clock)


def write(store: Store, number: int, epoch: int = EPOCH, **values: Any) -> Any:
    return RedisLedger(store).commit(
        Effects(
            name=NAME,
            event=Event.new("t", "/s", id=f"event-{number}"),
            reply=b"reply",
            now_ms=1_000_000,
            window_ms=600_000,
            read_version=None,
            owner_epoch=epoch,
            memory_written={name: encode(value) for name, value in values.items()},
        )
    )


def owner(store: Store) -> Owner | None:
    return known_owner(store, NAME)


def advance(handovers: Handovers, stores: Stores) -> float:
    return handovers.advance(NAME, owned_memories(stores.local)[NAME])


def copied(stores: Stores) -> Any:
    return stores.of("there").run(lambda client: client.hgetall("copy:memory:detect:area-1"))


def test_a_memory_is_copied_before_the_tick_and_switched_at_it(
    handovers: Handovers, stores: Stores, clock: FakeClock
) -> None:
    assert advance(handovers, stores) == pytest.approx(58.0)
    assert copied(stores) == {}
    clock.advance(58.5)
    assert advance(handovers, stores) == pytest.approx(1.5)
    assert copied(stores) == {b"seen": encode(1)}
    assert isinstance(write(stores.local, 2, seen=2), Committed)
    clock.advance(1.5)
    advance(handovers, stores)
    assert owner(stores.of("there")) == Owner("owned", "there", EPOCH + 1)
    assert owner(stores.local) == Owner("moved", "there", EPOCH + 1)
    assert RedisLedger(stores.of("there")).load(NAME, None) == {"seen": encode(2)}
    assert owned_memories(stores.local) == {}


def test_a_handover_is_recorded_and_told(handovers: Handovers, stores: Stores, clock: FakeClock) -> None:
    clock.advance(58.5)
    advance(handovers, stores)
    clock.advance(1.5)
    advance(handovers, stores)
    (record,) = read_moves(stores.local, 10)
    assert (record.kind, record.what, record.source, record.target) == ("memory", "detect:area-1", "here", "there")
    assert record.details["copied_bytes"] > 0
    assert record.details["delta_bytes"] == 0
    assert record.details["unwritable_ms"] > 0
    ((_, fields),) = stores.local.run(lambda client: client.xrange(JOBS))
    job = decode(fields[b"job"])
    assert isinstance(job, Emit)
    assert job.attributes["type"] == COMPLETED_TYPE
    event = Event(job.attributes, job.data.encode())
    assert event.json()["to"] == "there"


def test_a_fenced_memory_that_a_killed_process_left_is_handed_over(
    handovers: Handovers, stores: Stores, clock: FakeClock
) -> None:
    clock.advance(60)
    keys = MemoryKeys(NAME)
    stores.local.run_script("fence", [keys.owner], ["there", EPOCH + 1])
    advance(handovers, stores)
    assert owner(stores.of("there")) == Owner("owned", "there", EPOCH + 1)
    assert owned_memories(stores.local) == {}


@pytest.mark.parametrize("absent", [True, False])
def test_a_fenced_memory_waits_for_a_node_that_is_away_and_not_for_one_that_is_no_more(
    stores: Stores, ownership: Ownership, clock: FakeClock, absent: bool
) -> None:
    """A node that is away may have taken the memory over before it went."""
    described = constellation()

    def without_there(epoch: int) -> ElectionTable:
        view = EpochView.of(described, epoch, TICK_S, described.objectives)
        cluster = [ClusterNode(n.name, n.type, n.ip, n.name != "there") for n in view.topology.nodes.values()]
        left = with_present(view, described, cluster, "here")
        return ElectionTable(left if absent else replace(left, absent=()), "here")

    ownership.find(NAME, EPOCH)
    write(stores.local, 1, seen=1)
    keys = MemoryKeys(NAME)
    stores.local.run_script("fence", [keys.owner], ["there", EPOCH + 1])
    settings = stores.settings.model_copy(update={"tick_s": TICK_S})
    wait_s = advance(Handovers(settings, stores, ownership, without_there, clock), stores)
    found = owner(stores.local)
    assert found is not None
    assert (found.phase, wait_s < 1) == (("leaving", True) if absent else ("owned", False))


def test_a_handover_that_only_the_register_lacks_is_ended(
    handovers: Handovers, stores: Stores, ownership: Ownership
) -> None:
    keys = MemoryKeys(NAME)
    stores.local.run(lambda client: client.hset(keys.owner, mapping={"phase": "moved", "node": "there", "epoch": 9}))
    advance(handovers, stores)
    assert owned_memories(stores.local) == {}
    assert stores.local.run(lambda client: client.pttl(keys.owner)) > 0


def test_a_node_that_cannot_be_reached_is_tried_again_and_the_owner_serves_on(
    stores: Stores, ownership: Ownership, clock: FakeClock
) -> None:
    ownership.find(NAME, EPOCH)
    settings = stores.settings.model_copy(update={"tick_s": TICK_S})
    handovers = Handovers(settings, stores, ownership, tables(constellation(other="gone")), clock)
    clock.advance(60)
    assert 0 < advance(handovers, stores) < 1
    assert isinstance(write(stores.local, 2, seen=2), Committed)


def await_moves(store: Store, count: int) -> None:
    """Until the node has recorded so many moves."""
    after = "0"
    for _ in range(count):
        found: Any = store.wait(lambda client, after=after: client.xread({MOVES: after}, count=1, block=10_000), 10)
        assert found, f"expected {count} moves"
        entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
        after = entries[0][0]


def test_the_thread_moves_what_is_due_when_it_is_poked(handovers: Handovers, stores: Stores, clock: FakeClock) -> None:
    handovers.start()
    try:
        clock.advance(60)
        handovers.poke()
        await_moves(stores.local, 1)
        assert owner(stores.of("there")) == Owner("owned", "there", EPOCH + 1)
    finally:
        handovers.stop()


def test_two_nodes_hand_a_memory_to_and_fro_as_their_clocks_say(
    stores: Stores, other_node: RedisNode, ownership: Ownership
) -> None:
    """Both drivers run by themselves, the clock of `there` 100 ms behind."""
    tick_s = 1.0
    hosts = {"here": stores.settings.host, "there": other_node.host}
    elsewhere = Stores(other_node.settings("there"), hosts.__getitem__)
    drivers = []
    for node, of_node, behind_s in (("here", stores, 0.0), ("there", elsewhere, 0.1)):
        settings = of_node.settings.model_copy(update={"node": node, "tick_s": tick_s})
        owners, of_epoch = Ownership(node, of_node, lambda: "here"), tables(constellation(), node, tick_s)
        drivers.append(Handovers(settings, of_node, owners, of_epoch, Behind(behind_s)))
    epoch = Ticks(tick_s).epoch_at(time.time())
    ownership.find(NAME, epoch)
    write(stores.local, 1, epoch=epoch, seen=1)
    for driver in drivers:
        driver.start()
    try:
        await_moves(stores.local, 2)
    finally:
        for driver in drivers:
            driver.stop()
    moves = sorted(read_moves(stores.local, 10) + read_moves(elsewhere.local, 10), key=lambda move: move.finished_s)
    assert [move.source for move in moves[:3]] == ["here", "there", "here"]
    # The first one is in the midst of an epoch, or at its beginning.
    gaps_s = [after.finished_s - before.finished_s for before, after in pairwise(moves[1:])]
    assert all(gap_s > tick_s / 2 for gap_s in gaps_s), "it went straight back"


def test_a_memory_that_comes_in_the_midst_of_an_epoch_is_copied_before_its_end(
    stores: Stores, ownership: Ownership, clock: FakeClock
) -> None:
    settings = stores.settings.model_copy(update={"tick_s": TICK_S})
    handovers = Handovers(settings, stores, ownership, tables(constellation()), clock)
    handovers.start()
    try:
        handovers.poke()
        ownership.find(NAME, EPOCH)
        write(stores.local, 1, seen=1)
        clock.advance(58.5)
        pace = threading.Event()
        for _ in range(500):
            if copied(stores):
                break
            pace.wait(0.02)
        assert copied(stores) == {b"seen": encode(1)}
        assert owner(stores.local) == Owner("owned", "here", EPOCH)
    finally:
        handovers.stop()
