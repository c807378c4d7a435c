"""What the workflow's figures come from: the limit, the original's election and store, the order, and the counting."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import throughput
from libskylark.bench.workflow import measure
from libskylark.bench.workflow.chain import (
    END_TYPE,
    KINDS,
    MB,
    OBJECTIVES_MS,
    OURS,
    PINNED,
    STAGES,
    WAYS,
    Parcel,
    Stage,
    Task,
    Way,
    event_types,
    objective_ms,
    stage_of,
    way_of,
)
from libskylark.bench.workflow.chain_lab import Run, frozen_tick_s
from libskylark.bench.workflow.content import check, make
from libskylark.bench.workflow.figures import Outcome, Repetition, row
from libskylark.bench.workflow.limit import chain_ms, hand_over_ms, hops
from libskylark.bench.workflow.original import FreshStore, elect, elect_stateless, estimate_ms
from libskylark.bench.workflow.project import write_project
from libskylark.cli.main import cli
from libskylark.clock import Ticks
from libskylark.constellation import Constellation, ConstellationSpec, read_constellation
from libskylark.errors import BadInput, LabError, StoreUnavailable
from libskylark.jobs import MoveRecord
from libskylark.timing import Timing
from libskylark.topology import Link, Node, Topology

from ..conftest import ROOT, RedisNode

#: A line of three satellites, and the cloud behind the last one.
LINE = Topology.of(
    [Node(name, "Sat", f"10.0.0.{number}") for number, name in enumerate("abc", 1)]
    + [Node("cloud", "Cloud", "10.0.0.9")],
    [Link("a", "b", 10, 40), Link("b", "c", 10, 80), Link("c", "cloud", 60, 90)],
)
TASK = Task("skylark", True, 1_000_000, 7)


@pytest.fixture(scope="module")
def constellation() -> Constellation:
    return read_constellation(ROOT / "deployment/constellation.yaml")


# The limit


def test_the_limit_is_the_latency_of_the_way_and_the_bytes_through_its_narrowest_link() -> None:
    assert hand_over_ms(LINE, "a", "cloud", 5_000_000) == 10 + 10 + 60 + 1000
    assert hand_over_ms(LINE, "b", "cloud", 5_000_000) == 10 + 60 + 500
    assert hand_over_ms(LINE, "b", "b", 5_000_000) == 0
    assert chain_ms(LINE, ["a", "b", "b", "cloud"], 5_000_000) == (10 + 1000) + 0 + (70 + 500)
    assert chain_ms(LINE, [], 5_000_000) == 0
    assert [hops(LINE, "a", node) for node in ("a", "b", "c", "cloud")] == [0, 1, 2, 3]


def test_the_limit_of_the_pinned_chain_in_the_original_topology(constellation: Constellation) -> None:
    topology = constellation.topology(measure.EPOCH)
    # Two links between satellites, twice, and then two and the one to the cloud; 40 Mbit/s everywhere at the narrowest.
    assert chain_ms(topology, list(PINNED.values()), 1_000_000) == pytest.approx(20 + 20 + 80 + 3 * 200)


def test_on_the_original_s_line_its_election_takes_the_next_stage_s_node(constellation: Constellation) -> None:
    line = read_constellation(ROOT / "benchmarks/line/constellation.yaml")
    assert line.nodes.keys() == constellation.nodes.keys()
    topology, ring = line.topology(measure.EPOCH), constellation.topology(measure.EPOCH)
    assert hops(topology, "pi5u2", "pi5u1") == 7
    assert hops(ring, "pi5u2", "pi5u1") == 2
    stages = list(PINNED.values())
    for size_mb in OBJECTIVES_MS:
        size_bytes = round(size_mb * MB)
        for here, following in pairwise(stages[:-1]):
            assert elect(topology, here, "pi5u1", size_bytes, objective_ms(size_bytes)).node == following
        assert elect(ring, stages[0], "pi5u1", size_bytes, objective_ms(size_bytes)).node == "pi4p1"
    assert chain_ms(topology, stages, MB) == pytest.approx(30 + 30 + 90 + 3 * 200)


def test_a_frozen_epoch_is_the_present_one_for_years() -> None:
    now_s = 1_800_000_000.0
    for epoch in (0, 6, 1234):
        ticks = Ticks(frozen_tick_s(epoch, now_s))
        assert ticks.epoch_at(now_s) == epoch == ticks.epoch_at(now_s + 86_400)


# The original


def test_the_original_expects_of_50_mb_what_its_code_did() -> None:
    # It left out the 8 between bytes and bits: the wire needs 4.1 s for this at 100 Mbit/s.
    assert estimate_ms(0, 50 * 1000 * 1024) == 640
    assert estimate_ms(20, 1000 * 1024) == 52.8


@pytest.mark.parametrize(
    ("max_latency_ms", "node"),
    [(1000, "cloud"), (222, "cloud"), (221, "c"), (102, "c"), (101, "b"), (82, "b"), (81, "a"), (61, "a"), (1, "a")],
)
def test_the_original_takes_the_first_node_from_the_destination_back_that_will_do(
    max_latency_ms: float, node: str
) -> None:
    assert elect(LINE, "a", "cloud", 4_960_000, max_latency_ms).node == node  # 62 ms in its reckoning


def test_the_original_keeps_large_state_within_its_objectives_though_no_link_can(constellation: Constellation) -> None:
    topology = constellation.topology(measure.EPOCH)
    for size_mb in (1, 5, 10, 20, 50):
        size_bytes = size_mb * 1_000_000
        elected = elect(topology, "pi5u4", "pi5u1", size_bytes, objective_ms(size_bytes))
        assert elected.predicted_ms <= objective_ms(size_bytes)
        if elected.node != "pi5u4":
            assert hand_over_ms(topology, "pi5u4", elected.node, size_bytes) > objective_ms(size_bytes)


def test_stateless_stores_at_the_destination_whatever_it_takes() -> None:
    elected = elect_stateless(LINE, "a", "cloud", 8_000_000)
    assert (elected.node, elected.predicted_ms) == ("cloud", 80 + 100 + 80)


def test_the_original_connects_for_every_operation(redis_node: RedisNode) -> None:
    store, value = FreshStore(redis_node.host, redis_node.port), bytes(range(256)) * 1000
    client = redis_node.client()
    before = client.info("stats")["total_connections_received"]
    store.set("c:n:t", value)
    assert store.get("c:n:t") == value
    assert client.info("stats")["total_connections_received"] == before + 2
    assert client.ttl("c:n:t") == -1  # for ever
    client.close()


def test_the_original_says_what_went_wrong(redis_node: RedisNode) -> None:
    with pytest.raises(StoreUnavailable, match="under c:n:none"):
        FreshStore(redis_node.host, redis_node.port).get("c:n:none")
    with pytest.raises(StoreUnavailable, match="ERR"):
        FreshStore(redis_node.host, redis_node.port, "a password that nobody asked for").get("k")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.3"):
        FreshStore("127.0.0.3", redis_node.port).set("k", b"")


# The chain


@pytest.mark.parametrize(
    ("size_mb", "expected_ms"), [(0.1, 100), (1, 100), (2, 100), (5, 150), (12, 200), (20, 330), (50, 710), (80, 710)]
)
def test_the_objective_is_the_originals_for_that_size_or_the_next_below(size_mb: float, expected_ms: float) -> None:
    assert objective_ms(round(size_mb * 1_000_000)) == expected_ms


def test_types_of_events_tell_way_and_stage_and_no_two_are_the_same() -> None:
    types = [t for stage in range(1, STAGES + 1) for pinned in (True, False) for t in event_types(stage, pinned)]
    assert len(set(types)) == len(types) == STAGES * (len(WAYS) + len(OURS))
    for way in WAYS:
        for stage in range(1, STAGES + 1):
            event_type = Task(way, True, 1, 1).event_type(stage)
            assert (way_of(event_type), stage_of(event_type)) == (way, stage)
    assert TASK.event_type(STAGES + 1) == END_TYPE
    assert way_of(END_TYPE) not in WAYS


def test_a_parcel_comes_back_from_its_json() -> None:
    parcel = Parcel(TASK).and_then(Stage("a", 1.0, 2.0, 3.0), "c:n:t")
    assert Parcel.from_json(json.loads(json.dumps(parcel.to_json()))) == parcel
    with pytest.raises(BadInput, match="no parcel"):
        Parcel.from_json({"task": {}})


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_stage_makes_is_its_own_and_the_same_each_time(kind: Any) -> None:
    task = Task("skylark", True, 100_000, 7, kind)
    made = make(task, 1)
    assert made == make(task, 1)
    assert len({made, make(task, 2), make(Task("skylark", True, 100_000, 8, kind), 1)}) == 3
    check(task, 1, made)
    for wrong in (made[:-1], make(task, 2), b""):
        with pytest.raises(BadInput, match="expected the 100000 bytes that stage 1 made"):
            check(task, 1, wrong)
    ratio = len(zlib.compress(made, 1)) / len(made)
    assert (ratio > 0.99) == (kind == "noise")


def test_the_project_has_the_stages_in_place_of_functions(tmp_path: Path, constellation: Constellation) -> None:
    project = write_project(tmp_path, constellation)
    assert {name: project.constellation.hosts(name) for name in PINNED} == {n: [node] for n, node in PINNED.items()}
    assert project.constellation.hosts("anywhere") == list(constellation.nodes)
    assert project.constellation.spec.links == constellation.spec.links
    assert project.constellation.consumers(TASK.event_type(2)) == ["detect"]
    assert project.constellation.consumers(Task("random", False, 1, 1).event_type(2)) == ["anywhere"]


def test_a_constellation_without_the_nodes_is_refused(tmp_path: Path) -> None:
    nodes = [{"name": "pi5u2", "type": "Sat", "ip": "10.0.0.1"}]
    alone = Constellation(ConstellationSpec.model_validate({"nodes": nodes}))
    with pytest.raises(LabError, match="found no node pi5u4, pi4u6, pi5u1"):
        write_project(tmp_path, alone)


# The order


def test_every_round_has_every_size_way_and_placement_once_and_each_in_another_order() -> None:
    options = measure.Options(sizes_mb=(1.0, 5.0), rounds=3)
    groups = list(measure.order(options))
    assert groups == list(measure.order(options))
    assert groups != list(measure.order(measure.Options(sizes_mb=(1.0, 5.0), rounds=3, seed=2)))
    for number in (1, 2, 3):
        tasks = [task for found, group in groups if found == number for task in group]
        cells = Counter((task.size_bytes, task.way, task.pinned) for task in tasks)
        assert set(cells.values()) == {1}
        assert len(cells) == 2 * (len(WAYS) + len(OURS))
    assert len({tuple((task.way, task.pinned) for task in group) for _, group in groups}) == len(groups)
    for _, group in groups:  # all ways hand on the same bytes
        assert len({(task.size_bytes, task.seed) for task in group}) == 1


def test_batches_of_the_throughput_are_shuffled_within_a_round() -> None:
    options = throughput.Options(counts=(2, 3), rounds=2)
    batches = list(throughput.order(options))
    assert batches == list(throughput.order(options))
    assert [number for number, _ in batches] == sorted(number for number, _ in batches)
    for number in (1, 2):
        found = Counter((b[0].way, b[0].pinned, len(b)) for n, b in batches if n == number)
        assert set(found.values()) == {1}
        assert len(found) == 2 * (len(WAYS) + len(OURS))
    assert [b[0].way for n, b in batches if n == 1] != [b[0].way for n, b in batches if n == 2]


# The figures


def run_of(way: Way, *stages: Stage, ended_s: float | None = 10.0) -> Run:
    run = Run(Task(way, True, 1_000_000, 7), "chain", 1.0, ended_s)
    run.parcel = Parcel(run.task, stages)
    return run


def move(predicted_ms: float) -> MoveRecord:
    return MoveRecord("state", "c:n:t", "a", "b", "skylark", 1, 1, 1, predicted_ms, 5.0, 100.0, True, (), 3.0)


def ours() -> Run:
    stages = [Stage("a", 1, 1, 1.5), Stage("b", 2, 2.5, 3), Stage("c", 4, 4.05, 5), Stage("cloud", 6, 7, 7)]
    run = run_of("skylark", *stages)
    run.timings = {
        1: (Timing("commit", 40.0),),
        2: (Timing("state", 450.0, "waited", "b", 1_000_000), Timing("commit", 50.0)),
        3: (Timing("state", 45.0, "remote", "a", 1_000_000), Timing("commit", 60.0)),
        4: (Timing("state", 900.0, "local", "cloud", 1_000_000), Timing("commit", 1.0)),
    }
    run.moves = {1: move(240.0), 3: move(80.0)}
    return run


def test_what_our_run_comes_to() -> None:
    outcome = Outcome.of(ours(), LINE)
    assert outcome is not None
    assert outcome.time_ms == 9000
    assert outcome.read_ms == pytest.approx(500 + 50 + 1000)
    assert outcome.write_ms == 150  # the last stage makes no state
    assert outcome.local == (True, False, True)
    assert outcome.at_once == (False, False, True)
    assert outcome.hops == (0, 2, 0)
    assert outcome.hand_over_ms == pytest.approx((1000, 1050, 2000))
    assert list(outcome.predicted_ms) == [240, 0, 80]
    assert outcome.violations(100) == (1, 3)
    assert outcome.violations(1500) == (0, 1)


def test_what_a_run_of_the_original_comes_to() -> None:
    run = run_of(
        "original",
        Stage("a", 1.0, 1.0, 1.5, 1.7, None, "b", 30.0),
        Stage("b", 2.0, 2.2, 2.5, 2.8, "b", "c", 20.0),
        Stage("b", 3.0, 3.4, 4.0, 4.5, "c", "cloud", 172.0),
        Stage("cloud", 5.0, 5.1, 5.1, None, "cloud"),
    )
    outcome = Outcome.of(run, LINE)
    assert outcome is not None
    assert outcome.read_ms == pytest.approx(700)
    assert outcome.write_ms == pytest.approx(1000)
    assert (outcome.local, outcome.hops) == ((True, False, True), (0, 1, 0))
    assert outcome.at_once == outcome.local  # what it reads was written before its event left
    assert list(outcome.predicted_ms) == [30, 20, 172]
    assert outcome.violations(100) == (1, 3)


def test_a_chain_that_did_not_end_has_no_outcome() -> None:
    unended = ours()
    unended.ended_s = None
    assert Outcome.of(unended, LINE) is None
    assert Outcome.of(run_of("skylark", *[Stage("a", 1.0, 2.0, 3.0)] * 3), LINE) is None


def test_a_row_has_medians_of_what_ended_and_sums_of_violations() -> None:
    repetitions = []
    for number, ended_s in enumerate((3.0, 5.0, 4.0, None), 1):
        run = ours()
        run.ended_s = ended_s
        carried = {("a", "b"): 1000 * number, ("b", "c"): 10}
        repetitions.append(Repetition(number, run, Outcome.of(run, LINE), carried, 0.5))
    found = row(repetitions, 720.0)
    assert (found["time_ms"], found["ci_ms"], found["coverage"]) == (3000, [2000, 4000], 0.75)
    assert (found["runs"], found["failed"], found["hand_overs"]) == (4, 1, 9)
    assert (found["violations_predicted"], found["violations_measured"]) == (3, 9)
    assert found["local_availability"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["local_at_once"] == pytest.approx(1 / 3, abs=1e-4)
    assert (found["bytes"], found["links"]) == (2510, {"a>b": 2500, "b>c": 10})
    assert json.loads(json.dumps(repetitions[0].raw()))["carried_bytes"] == {"a>b": 1000, "b>c": 10}


def test_a_row_of_nothing_but_failures_says_so_and_has_no_times() -> None:
    run = ours()
    run.ended_s = None
    found = row([Repetition(1, run, None, {}, 0.0)], 720.0)
    assert (found["runs"], found["failed"]) == (1, 1)
    assert "time_ms" not in found


def test_a_row_of_the_throughput_takes_times_of_all_rounds() -> None:
    batches = [
        throughput.Batch(number, "skylark", True, 2, span_s, times, 1.0, 8_000_000, 0.1)
        for number, (span_s, times) in enumerate([(2.0, [1000.0, 2000.0]), (4.0, [3000.0])], 1)
    ]
    (found,) = throughput.rows(batches)
    assert (found["policy"], found["workflows"], found["failed"]) == ("skylark", 2, 1)
    assert (found["per_s"], found["ci_per_s"]) == (0.625, [0.25, 1.0])
    assert (found["p50_ms"], found["p95_ms"]) == (2000, 3000)
    assert found["bytes"] == 4_000_000


# The commands


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["workflow", "--sizes", "1,0"], "expected numbers above 0"),
        (["workflow", "--sizes", "much"], "found 'much'"),
        (["workflow", "--policies", "skylark,best"], "found best, expected some of skylark, random"),
        (["throughput", "--counts", "1.5"], "found '1.5'"),
    ],
)
def test_faulty_options_are_refused(arguments: list[str], said: str) -> None:
    answer = CliRunner().invoke(cli, ["bench", *arguments])
    assert answer.exit_code == 2
    assert said in answer.output


@pytest.mark.parametrize(
    ("command", "module", "expected"),
    [
        (["workflow", "--sizes", "2", "--rounds", "4"], measure, {"sizes_mb": (2.0,), "rounds": 4}),
        (["workflow", "--quick"], measure, {"sizes_mb": measure.QUICK_SIZES_MB, "rounds": 5}),
        (["throughput", "--counts", "7", "--rounds", "2"], throughput, {"counts": (7,), "rounds": 2}),
        (["throughput"], throughput, {"counts": throughput.COUNTS, "rounds": 3}),
    ],
)
def test_what_the_commands_are_told_reaches_the_measurement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], module: Any, expected: dict[str, Any]
) -> None:
    asked: list[Any] = []

    def stand_in(constellation: Constellation, options: Any, progress: Any) -> tuple[dict[str, Any], list[Any]]:
        asked.append(options)
        progress("the lab is ready")
        return {"rows": [], "unpinned_rows": []}, [{"run": 1}]

    monkeypatch.setattr(module, "measure", stand_in)
    common = ["--policies", "random,skylark", "--seed", "9", "--epoch", "3", "--content", "levels"]
    kept = ["--network", "127.77", "--results", str(tmp_path), "--project", str(ROOT)]
    answer = CliRunner().invoke(cli, ["bench", *command, *common, *kept, "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == {"rows": [], "unpinned_rows": []}
    assert answer.stderr == "the lab is ready\n"
    (options,) = asked
    told = {"ways": ("skylark", "random"), "seed": 9, "epoch": 3, "kind": "levels", "network": "127.77"}
    assert {name: getattr(options, name) for name in [*told, *expected]} == {**told, **expected}
    assert (tmp_path / f"{command[0]}.json").is_file()
    assert CliRunner().invoke(cli, ["bench", *command, *kept]).exit_code == 0


def test_results_on_other_nodes_and_links_are_kept_beside_the_project_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Constellation] = []

    def stand_in(constellation: Constellation, options: Any, progress: Any) -> tuple[dict[str, Any], list[Any]]:
        asked.append(constellation)
        return {"rows": []}, []

    monkeypatch.setattr(measure, "measure", stand_in)
    line = ROOT / "benchmarks/line/constellation.yaml"
    command = ["bench", "workflow", "--constellation", str(line), "--results", str(tmp_path)]
    answer = CliRunner().invoke(cli, command)
    assert answer.exit_code == 0, answer.output
    assert asked[0].spec == read_constellation(line).spec
    assert {path.name for path in tmp_path.iterdir()} == {"workflow-line.json", "workflow-line.raw.json.gz"}
