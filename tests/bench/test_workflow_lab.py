"""The workflow's experiments on the four nodes of the pinned chain, with little state and short links."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from libskylark.bench import throughput
from libskylark.bench.workflow import measure
from libskylark.bench.workflow.chain import OURS, PINNED, Task, Way
from libskylark.bench.workflow.chain_lab import ChainLab
from libskylark.constellation import Constellation, ConstellationSpec

from ..e2e.harness import some_network

SIZE_BYTES = 200_000
NODES = list(PINNED.values())


@pytest.fixture(scope="module")
def lab() -> Iterator[ChainLab]:
    spec = {
        "nodes": [
            {"name": name, "type": "Cloud" if name == NODES[-1] else "Sat", "ip": f"10.0.0.{number}"}
            for number, name in enumerate(NODES, 10)
        ],
        "link_types": {
            "Sat-to-Sat": {"latency_ms": 5, "bandwidth_mbps": 10},
            "Cloud-to-Sat": {"latency_ms": 10, "bandwidth_mbps": 16},
        },
        "links": [list(pair) for pair in pairwise(NODES)],
    }
    with ChainLab(Constellation(ConstellationSpec.model_validate(spec)), 0, some_network()) as lab:
        yield lab


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("way", ["skylark", "stateless", "original"])
def test_a_chain_ends_and_has_every_figure(lab: ChainLab, way: Way, pinned: bool) -> None:
    if way not in OURS and not pinned:
        pytest.skip("the original's functions were pinned")
    task = Task(way, pinned, SIZE_BYTES, 7)
    lab.set_objective(task.objective_ms)
    repetition = measure.run_alone(lab, task, 1)
    outcome = repetition.outcome
    assert outcome is not None
    (found,) = measure.rows([repetition], lab)
    assert found["time_ms"] > found["limit_ms"]
    assert found["time_ms"] > found["read_ms"] + found["write_ms"]
    assert min(outcome.hand_over_ms) > 0
    if pinned:
        assert outcome.nodes == tuple(NODES)
        assert found["limit_ms"] == pytest.approx((5 + 160) + (5 + 160) + (10 + 100))
        carried = {(hop if hop in repetition.carried_bytes else hop[::-1]) for hop in pairwise(NODES)}
        assert all(repetition.carried_bytes[hop] > SIZE_BYTES for hop in carried)
    if way == "skylark":
        assert found["local_availability"] == 1
        assert len(set(outcome.nodes)) == (4 if pinned else 1)
        assert found["violations_predicted"] == (3 if pinned else 0)  # of 100 ms; only the unpinned ones can keep it
        assert found["bytes"] > 3 * SIZE_BYTES if pinned else found["bytes"] < SIZE_BYTES
    if way == "stateless" and not pinned:
        assert outcome.nodes == (NODES[0], *[NODES[-1]] * 3)
    if way == "original":
        assert outcome.predicted_ms[2] == 2 * 10 + SIZE_BYTES / 80_000  # its third function is Stateless


def test_chains_at_once_all_end(lab: ChainLab) -> None:
    tasks = [Task("skylark", True, SIZE_BYTES, number) for number in range(6)]
    batch = throughput.run_batch(lab, tasks, 1)
    assert len(batch.time_ms) == 6
    assert 0 < batch.per_s < 6 / (max(batch.time_ms) / 1000)
    (found,) = throughput.rows([batch])
    assert (found["failed"], found["workflows"]) == (0, 6)
