"""What `skylark up` shows in a terminal: a table of nodes with real stores, and nothing where there is no terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from libskylark.cli.live import NodeTable, starting, watching
from libskylark.constellation import Constellation, ConstellationSpec, LinkFigures, NodeSpec, Rotation
from libskylark.eventing import journal
from libskylark.eventing.keys import DEAD_LETTERS, EVENTS
from libskylark.jobs import MOVES
from libskylark.lab.lab import Lab
from libskylark.project import read_project
from libskylark.store import Store, Stores
from tests.arrangements import function_py

TICK_S = 10.0
SATELLITES = ["here", "gone"]
CONSTELLATION = Constellation(
    ConstellationSpec(
        nodes=[
            NodeSpec(name="ground", type="Cloud", ip="10.0.0.1"),
            *(NodeSpec(name=name, type="Sat", ip=f"10.0.0.{n}") for n, name in enumerate(SATELLITES, start=2)),
        ],
        link_types={"Cloud-to-Sat": LinkFigures(latency_ms=60, bandwidth_mbps=90)},
        rotation=Rotation(ground="ground", satellites=SATELLITES),
    )
)


def drawn(table: NodeTable, now_s: float) -> str:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(table.draw(now_s))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def row(text: str, node: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [node])


def test_the_table_tells_what_every_node_has_and_who_is_above(store: Store, stores: Stores) -> None:
    for stream, count in {EVENTS: 1, DEAD_LETTERS: 2, MOVES: 3, journal.KEY: 4}.items():
        for _ in range(count):
            store.run(lambda client, stream=stream: client.xadd(stream, {"a": "b"}))  # type: ignore[misc]
    # What was removed was there all the same.
    store.run(lambda client: client.xtrim(journal.KEY, maxlen=1, approximate=False))
    names = {"ground": [], "here": ["here-redis", "here-broker"], "gone": ["gone-redis"]}
    pids = {"here-redis": 7, "here-broker": 0, "gone-redis": 8}
    all_stores = {"ground": store, "here": store, "gone": stores.of("gone")}
    table = NodeTable(CONSTELLATION, TICK_S, all_stores, names, pids.__getitem__)
    text = drawn(table, 1_800_000_004.0)
    assert text.splitlines()[0].strip() == "epoch 180000000: here is above, gone comes next in 6 s"
    assert row(text, "here") == ["here", "Sat", "1/2", "1", "0", "3", "2", "4"]
    assert row(text, "gone") == ["gone", "Sat", "1/1", "?", "?", "?", "?", "?"]
    assert drawn(table, 1_800_000_011.0).startswith("epoch 180000001: gone is above, here comes next in 9 s")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One node with one function, whose processes are not started."""
    root = tmp_path_factory.mktemp("project")
    (root / "functions/count").mkdir(parents=True)
    (root / "functions/count/function.py").write_text(function_py())
    with Lab(read_project(root)) as lab:
        yield lab


def shown(screen: Console, lab: Lab) -> str:
    with starting(screen, lab) as ready:
        for spec in lab.plan.all_specs():
            ready(spec)
    with watching(screen, lab):
        screen.print("restarted local-broker")
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_without_a_terminal_nothing_is_shown(lab: Lab) -> None:
    assert shown(Console(file=io.StringIO()), lab) == "restarted local-broker\n"


def test_in_a_terminal_a_bar_counts_processes_and_a_table_follows(lab: Lab) -> None:
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=100), lab)
    assert text.index("5/5") < text.index("local is above") < text.index("restarted local-broker")
