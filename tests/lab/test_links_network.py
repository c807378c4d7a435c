"""Links as arithmetic: single effects, their composition along a route, and who is led over which links."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.errors import LabError, UnknownNode
from libskylark.lab.links import Figures, Links
from libskylark.lab.links.effects import Chain, Delay, InOrder, Jitter, Rate, Slowest
from libskylark.lab.links.route import Flow, Route, Step
from libskylark.topology import Link, Node, Topology

# Effects


def test_an_idle_link_saves_nothing_for_later() -> None:
    rate = Rate(bandwidth_mbps=8)  # a byte per microsecond
    assert rate.out_s(5.0, 1_000_000) == pytest.approx(6.0)
    assert rate.out_s(5.5, 500_000) == pytest.approx(6.5)
    assert rate.out_s(9.0, 500_000) == pytest.approx(9.5)
    assert rate.carried_bytes == 2_000_000


def test_jitter_is_uniform_and_follows_its_seed() -> None:
    drawn = []
    for _ in range(2):
        jitter = Jitter(4.0, random.Random(5))
        drawn.append([jitter.out_s(0.0, 1) for _ in range(1000)])
    assert drawn[0] == drawn[1]
    assert 0 <= min(drawn[0]) < 0.0002
    assert 0.0038 < max(drawn[0]) <= 0.004
    assert sum(drawn[0]) / 1000 == pytest.approx(0.002, rel=0.05)


def test_effects_compose_one_after_the_other_and_side_by_side() -> None:
    fast, slow = Rate(80), Rate(8)
    chain = Chain([Slowest([fast, slow]), Delay(100.0), Delay(10.0)])
    assert chain.out_s(1.0, 1_000_000) == pytest.approx(2.11)
    assert (fast.carried_bytes, slow.carried_bytes) == (1_000_000, 1_000_000)
    assert Chain([]).out_s(1.0, 5) == Slowest([]).out_s(1.0, 5) == 1.0


steps = st.builds(
    lambda latency_ms, jitter_ms, mbps: Step(Figures(latency_ms, jitter_ms, mbps), Rate(mbps)),
    st.floats(0, 100),
    st.floats(0, 50),
    st.floats(0.1, 1000),
)


@given(
    routes=st.lists(st.lists(steps, max_size=4), min_size=1, max_size=3),
    sent=st.lists(st.tuples(st.integers(0, 20_000), st.floats(0, 0.05)), max_size=30),
    seed=st.integers(),
)
def test_a_flow_is_in_order_and_never_faster_than_its_route_whichever_it_takes(
    routes: list[list[Step]], sent: list[tuple[int, float]], seed: int
) -> None:
    ways = [Route(tuple(each)) for each in routes]
    current = [ways[0]]
    flow = Flow(lambda: current[0], random.Random(seed))
    now_s, arrivals_s = 0.0, []
    for number, (size_bytes, pause_s) in enumerate(sent):
        now_s += pause_s
        current[0] = ways[number % len(ways)]
        sent_s, due_s = flow.send(size_bytes, now_s)
        figures = current[0].figures
        assert sent_s >= now_s + size_bytes * 8 / (figures.bandwidth_mbps * 1e6) - 1e-9
        assert due_s >= sent_s + figures.latency_ms / 1e3 - 1e-9
        arrivals_s.append(due_s)
    assert all(earlier <= later for earlier, later in pairwise(arrivals_s))


def test_in_order_holds_back_what_would_overtake() -> None:
    order = InOrder()
    assert [order.out_s(time_s, 1) for time_s in (3.0, 1.0, 4.0)] == [3.0, 3.0, 4.0]


def test_what_another_flow_draws_leaves_a_flows_jitter_alone() -> None:
    def flow(seed: str, route: Route) -> Flow:
        return Flow(lambda: route, random.Random(seed))

    one, other = (Route((Step(Figures(10, 4), Rate(1e9)),)) for _ in range(2))
    alone, beside, busy = flow("1", one), flow("1", other), flow("2", other)
    for second in range(20):
        busy.send(0, second)
        sent_s, due_s = alone.send(0, second)
        assert beside.send(0, second) == (sent_s, due_s)
        assert sent_s + 0.010 <= due_s <= sent_s + 0.014


@pytest.mark.parametrize(
    ("field", "value"), [("latency_ms", -1.0), ("jitter_ms", float("nan")), ("bandwidth_mbps", 0.0)]
)
def test_figures_that_are_none_are_refused(field: str, value: float) -> None:
    with pytest.raises(LabError, match=f"{field}: found {value}"):
        Figures(**{field: value})


# Pairs and links


def topology(*links: Link) -> Topology:
    return Topology.of([Node(name, "Sat", f"10.0.0.{n}") for n, name in enumerate("abc", 1)], links)


LINE = topology(Link("a", "b", 10, 40, 9), Link("b", "c", 60, 90, 30))
RING = topology(Link("a", "b", 10, 40, 9), Link("b", "c", 60, 90, 30), Link("a", "c", 100, 20))


def figures(links: Links, a: str, b: str) -> Figures:
    return links.pair(a, b).routes[a].figures


def states(links: Links) -> list[str]:
    return [links.pair(*pair).gate.state for pair in ("ab", "bc", "ac")]


@pytest.fixture
def links() -> Links:
    links = Links()
    for pair in ("ab", "bc", "ac"):
        links.join(*pair)
    return links


def send(links: Links, a: str, b: str, size_bytes: int) -> float:
    """When bytes from a to b have left, that are ready at 0."""
    return Flow(lambda: links.pair(a, b).routes[a], random.Random(1)).send(size_bytes, 0.0)[0]


def test_a_path_has_the_sum_of_latencies_and_jitters_and_the_least_bandwidth(links: Links) -> None:
    assert figures(links, "a", "c") == Figures()
    links.follow(LINE)
    assert figures(links, "a", "b") == Figures(10, 9, 40)
    assert figures(links, "a", "c") == figures(links, "c", "a") == Figures(70, 39, 40)
    assert links.pair("c", "a").to_json()["path"] == ["a", "b", "c"]


def test_paths_over_one_link_share_its_bandwidth_in_each_direction(links: Links) -> None:
    links.follow(LINE)
    size_bytes = 5_000_000  # a second of the link a - b
    assert send(links, "a", "b", size_bytes) == pytest.approx(1.0)
    assert send(links, "a", "c", size_bytes) == pytest.approx(2.0)
    assert send(links, "b", "a", size_bytes) == pytest.approx(1.0)
    assert links.carried_bytes() == {
        ("a", "b"): 2 * size_bytes, ("b", "a"): size_bytes, ("b", "c"): size_bytes, ("c", "b"): 0
    }  # fmt: skip


def test_without_a_route_nodes_are_cut_off_and_a_cut_by_hand_outlasts_the_tick(links: Links) -> None:
    links.cut("a", "b", "silent")
    links.follow(topology(Link("a", "b", 10, 40)))
    assert states(links) == ["silent", "reset", "reset"]
    links.follow(LINE)
    assert states(links) == ["silent", "open", "open"]
    links.heal("a", "b")
    assert states(links) == ["open", "open", "open"]


def test_what_befalls_nodes_without_a_route_is_a_setting() -> None:
    links = Links(no_route="silent")
    links.join("a", "c")
    links.follow(topology(Link("a", "b", 10, 40)))
    assert links.pair("a", "c").gate.state == "silent"


def test_a_cut_of_a_link_concerns_all_that_is_led_over_it_and_of_a_pair_that_pair_alone(links: Links) -> None:
    links.follow(LINE)
    links.cut("b", "a", "silent", scope="link")
    assert states(links) == ["silent", "open", "silent"]
    links.cut("b", "c", "reset", scope="link")
    assert states(links) == ["silent", "reset", "reset"]
    links.heal("a", "b", scope="link")
    links.heal("c", "b", scope="link")
    links.cut("a", "b", "reset")
    assert states(links) == ["reset", "open", "open"]
    links.cut("b", "c", "silent", scope="link")
    links.heal_all()
    assert states(links) == ["open", "open", "open"]


def test_from_the_next_epoch_on_another_way_is_taken_around_a_cut_link(links: Links) -> None:
    assert links.follow(RING) == []
    links.cut("a", "b", "silent", scope="link")
    assert states(links) == ["silent", "open", "silent"]
    assert [pair.nodes for pair in links.follow(RING)] == [("a", "b"), ("a", "c")]
    assert states(links) == ["open", "open", "open"]
    assert figures(links, "a", "b") == Figures(160, 30, 20)
    links.heal("a", "b", scope="link")
    assert figures(links, "a", "b") == Figures(160, 30, 20)
    assert [pair.nodes for pair in links.follow(RING)] == [("a", "b"), ("a", "c")]
    assert figures(links, "a", "b") == Figures(10, 9, 40)


def test_without_another_way_a_link_that_is_cut_stays_so_in_its_own_mode(links: Links) -> None:
    links.follow(LINE)
    links.cut("a", "b", "silent", scope="link")
    assert links.follow(LINE) == []
    assert states(links) == ["silent", "open", "silent"]


def test_a_link_that_is_not_up_can_be_cut_for_when_it_is(links: Links) -> None:
    links.know(RING.links)
    links.follow(LINE)
    links.cut("a", "c", "silent", scope="link")
    assert states(links) == ["open", "open", "open"]
    assert [(link.nodes, link.up, link.cut) for link in links.links()][2] == (("a", "c"), False, "silent")
    links.follow(topology(Link("a", "c", 1, 1)))
    assert states(links) == ["reset", "reset", "silent"]


def test_figures_by_hand_outlast_the_tick_until_unset(links: Links) -> None:
    links.set("a", "c", Figures(1))
    links.follow(LINE)
    assert figures(links, "a", "c") == figures(links, "c", "a") == Figures(1)
    links.unset("c", "a")
    assert figures(links, "a", "c") == Figures(70, 39, 40)


def test_figures_of_a_link_concern_all_paths_over_it_and_the_choice_of_the_next(links: Links) -> None:
    links.follow(RING)
    links.set("b", "a", Figures(500, 1, 8), scope="link")
    assert figures(links, "a", "c") == Figures(560, 31, 8)
    assert send(links, "a", "b", 1_000_000) == pytest.approx(1.0)
    links.follow(RING)
    assert figures(links, "a", "c") == Figures(100, 0, 20)
    links.unset("a", "b", scope="link")
    links.follow(RING)
    assert figures(links, "a", "c") == Figures(70, 39, 40)


def test_of_two_links_between_two_nodes_the_one_of_less_latency_counts(links: Links) -> None:
    links.follow(topology(Link("a", "b", 10, 40), Link("b", "a", 5, 20)))
    assert figures(links, "a", "b") == Figures(5, 0, 20)


def test_nodes_and_links_that_are_none_are_told_with_the_known(links: Links) -> None:
    links.follow(LINE)
    with pytest.raises(
        LabError, match="no link joins 'a' and 'c' in any epoch, expected one of the links a - b, b - c"
    ):
        links.cut("a", "c", "silent", scope="link")
    with pytest.raises(UnknownNode, match="unknown node 'x'"):
        links.join("a", "x")
    with pytest.raises(UnknownNode, match="unknown node 'c'"):
        links.follow(Topology.of([Node("a", "Sat", "10.0.0.1"), Node("b", "Sat", "10.0.0.2")], []))
