"""`skylark links` on the control service of a real relay; the relay itself is tested with the lab."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from libskylark.cli.main import cli
from libskylark.errors import LabError
from libskylark.lab.link_server import control_app
from libskylark.lab.plan import LabOptions, Plan
from libskylark.lab.record import LabRecord
from libskylark.lab.relay import LinkRelay
from libskylark.lab.tracked import ProcessStatus
from libskylark.project import read_project
from libskylark.testing import FakeClock
from tests.arrangements import function_py
from tests.conftest import Write

TICK_S = 60.0
CONSTELLATION = """\
nodes:
  - {name: ground, type: Cloud, ip: 10.0.0.1}
  - {name: east, type: Sat, ip: 10.0.0.2}
  - {name: west, type: Sat, ip: 10.0.0.3}
  - {name: far, type: Sat, ip: 10.0.0.4}
link_types:
  Cloud-to-Sat: {latency_ms: 60, jitter_ms: 30, bandwidth_mbps: 90}
  Sat-to-Sat: {latency_ms: 10, bandwidth_mbps: 40}
links: [[east, west], [west, far]]
rotation: {ground: ground, satellites: [east, west]}
functions: {count: {nodes: [ground]}}
"""


class Running:
    """A project whose lab runs, as far as its links are concerned: `east` is linked to `ground`, `west` is not."""

    def __init__(self, root: Path, relay: LinkRelay) -> None:
        self.root = root
        self.relay = relay

    def run(self, *arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "160"}).invoke(cli, ["links", *arguments, "--project", str(self.root)])

    def told(self, *arguments: str) -> dict[str, Any]:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        told: dict[str, Any] = json.loads(result.stdout)
        return told

    def state(self, a: str, b: str) -> str:
        pair = next(pair for pair in self.relay.status() if set(pair["nodes"]) == {a, b})
        return str(pair["state"])


@pytest.fixture
def record(write: Write, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`record(links_port)`: from now on a lab of the project in `tmp_path` runs, with links if there is a port."""
    write("functions/count/function.py", function_py())
    write("deployment/constellation.yaml", CONSTELLATION)
    with LabRecord(tmp_path) as running:

        def start(links_port: int | None = None) -> None:
            options = LabOptions(tmp_path, tmp_path / "redis-server", TICK_S, links=links_port is not None)
            plan = Plan(read_project(tmp_path), options)
            specs = [replace(spec, host="127.0.0.1", port=links_port or 0) for spec in plan.links()]
            running.write(plan, [ProcessStatus(spec, 1, 0, 0.0, 0.0) for spec in specs])

        yield start


@pytest.fixture
def running(record: Callable[..., None], serve: Callable[..., int], tmp_path: Path) -> Iterator[Running]:
    constellation = read_project(tmp_path).constellation
    clock = FakeClock()
    while constellation.access(int(clock.now_s() / TICK_S)) != "east":
        clock.advance(TICK_S)
    with LinkRelay(clock=clock) as relay:
        for a, b in [("ground", "east"), ("ground", "west"), ("east", "west"), ("ground", "far")]:
            relay.open(a, b, "127.0.0.1", 20_000)
        relay.follow_ticks(constellation, TICK_S)
        record(serve(control_app(relay)))
        yield Running(tmp_path, relay)


def test_the_list_has_every_link_and_what_is_not_as_it_should_be(running: Running) -> None:
    listed = running.told()
    assert [(link["nodes"], link["up"]) for link in listed["links"]] == [
        (["east", "west"], True), (["west", "far"], True), (["ground", "east"], True), (["ground", "west"], False)
    ]  # fmt: skip
    assert len(listed["pairs"]) == 4
    titles, *rows, legend = running.run().stdout.splitlines()
    assert titles.split()[:2] == ["link", "state"]
    assert rows[2].split() == ["ground", "-", "east", "up", "60", "30", "90", "0", "0.00", "0.00"]
    assert rows[3].split()[3] == "down"
    assert len(rows) == 4
    assert legend.startswith("ms: latency")


def test_neighbours_stand_for_their_link_and_for_all_that_is_led_over_it(running: Running) -> None:
    cut = running.told("cut", "west", "east")
    assert (cut["scope"], cut["nodes"], cut["cut"]) == ("link", ["east", "west"], "silent")
    assert [running.state("ground", node) for node in ("east", "west", "far")] == ["open", "silent", "silent"]
    rows = running.run().stdout.splitlines()
    assert rows[1].split()[3:6] == ["up,", "cut", "(silent)"]
    assert any(row.split()[:6] == ["ground", "-", "far", "silent", "(way", "cut)"] for row in rows)
    healed = running.run("heal", "east", "west")
    assert healed.stdout == "healed: link east - west; now up, 10 ms, jitter 0 ms, 40 Mbit/s\n"
    assert running.state("ground", "far") == "open"


def test_a_link_can_be_cut_before_it_is_up(running: Running) -> None:
    assert running.run("cut", "ground", "west").stdout.startswith("cut (silent): link ground - west; now down, cut")
    assert running.state("ground", "west") == "open"


@pytest.mark.parametrize("arguments", [["ground", "far"], ["ground", "east", "--pair"]])
def test_other_nodes_stand_for_what_they_send_each_other(running: Running, arguments: list[str]) -> None:
    cut = running.told("cut", *arguments, "--mode", "reset")
    assert (cut["scope"], cut["state"], cut["cut"]) == ("pair", "reset", "reset")
    assert running.state("ground", "west") == "open"
    assert running.run("heal", *arguments[:2]).exit_code == 0
    assert running.state(*arguments[:2]) == "open"


def test_heal_all_heals_links_and_pairs(running: Running) -> None:
    running.told("cut", "east", "west")
    running.told("cut", "ground", "east", "--pair")
    assert running.run("heal", "--all").stdout == "all links and pairs are healed\n"
    assert {pair["state"] for pair in running.relay.status()} == {"open"}
    assert running.told("heal", "--all") == {"healed": "all"}


def test_set_changes_what_is_named_and_unset_goes_back(running: Running) -> None:
    slow = running.told("set", "east", "west", "--latency-ms", "80")
    assert (slow["scope"], slow["latency_ms"], slow["bandwidth_mbps"], slow["pinned"]) == ("link", 80, 40, True)
    pair = running.told("set", "ground", "far", "--bandwidth-mbps", "8", "--jitter-ms", "1")
    assert (pair["scope"], pair["latency_ms"], pair["jitter_ms"], pair["bandwidth_mbps"]) == ("pair", 150, 1, 8)
    rows = running.run().stdout.splitlines()
    assert rows[1].split()[3:6] == ["up", "*", "80"]
    assert rows[-2].split() == [
        "ground",
        "-",
        "far",
        "open",
        "*",
        "150",
        "1",
        "8",
        "0",
        "ground",
        "east",
        "west",
        "far",
    ]
    back = running.run("unset", "west", "east")
    assert back.stdout == "unset: link east - west; now up, 10 ms, jitter 0 ms, 40 Mbit/s\n"
    running.run("unset", "ground", "far")
    assert running.told("heal", "ground", "far")["latency_ms"] == 80


def test_options_before_the_command_count_too(running: Running) -> None:
    result = CliRunner().invoke(cli, ["links", "--project", str(running.root), "--json", "cut", "east", "west"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cut"] == "silent"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cut", "east", "moon"], "found 'moon', expected a node of the constellation: ground, east, west, far"),
        (["cut", "east", "east"], "found 'east' twice, expected two nodes"),
        (["heal"], "found no nodes, expected two nodes or --all"),
        (["heal", "east"], "found east, expected two nodes or --all"),
        (["heal", "east", "west", "--all"], "found east west, expected two nodes or --all"),
        (["set", "east", "west"], "expected --latency-ms, --jitter-ms or --bandwidth-mbps"),
        (["set", "east", "west", "--bandwidth-mbps", "0"], "0.0 is not in the range"),
    ],
)
def test_wrong_input_is_told_with_what_would_be_right(running: Running, arguments: list[str], words: str) -> None:
    result = running.run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("arguments", [[], ["cut", "east", "west"], ["heal", "--all"], ["unset", "east", "west"]])
def test_a_lab_without_links_says_how_to_have_them(
    record: Callable[..., None], tmp_path: Path, arguments: list[str]
) -> None:
    record()
    result = CliRunner().invoke(cli, ["links", *arguments, "--project", str(tmp_path)])
    assert isinstance(result.exception, LabError)
    assert str(result.exception) == (
        "the lab of this project emulates no links; stop it, and start it with `skylark up --links`"
    )


def test_without_a_lab_it_says_how_to_start_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["links", "--project", str(tmp_path)])
    assert isinstance(result.exception, LabError)
    assert "start one there with `skylark up`" in str(result.exception)
