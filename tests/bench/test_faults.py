"""The fault bench: a short run on a whole constellation, and that it would notice what must not happen."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from libskylark.bench import faults as fault_bench
from libskylark.bench.fault_kinds import KINDS
from libskylark.bench.faults import FaultBench, FaultOptions
from libskylark.bench.frames import Frame, Frames, last_words
from libskylark.bench.kept import Kept
from libskylark.bench.ownership import HandoverWatch, OwnerWatch
from libskylark.bench.results import Results
from libskylark.cli.main import cli
from libskylark.codec import encode
from libskylark.event import Event
from libskylark.eventing.journal import Accepted, Outcome
from libskylark.eventing.journey import Step
from libskylark.handover import Handover
from libskylark.memory import Effects, MemoryKeys, MemoryName, RedisLedger
from libskylark.ownership import Ownership
from libskylark.project import read_project
from libskylark.store import Store, Stores
from tests.arrangements import function_py
from tests.e2e.harness import copy_project, some_network

NAME = MemoryName("detect", "area-1")
TIME = "2027-01-15T08:00:00.250Z"
DETECT, ALARM = "dev.skylark.image.preprocessed", "dev.skylark.hotspots.detected"


def test_a_short_run_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLARK_READDRESS_AFTER", "1s")
    monkeypatch.setenv("SKYLARK_BROKER_GRACE", "0.5s")  # they try to reach the dead node until the end
    kinds = ("function", "cut-fence", "redis-in-commit", "node-for-good")
    options = FaultOptions(tick_s=3.0, rate_per_s=2.0, network=some_network(), kinds=kinds)
    said: list[str] = []
    run = FaultBench(read_project(copy_project(tmp_path / "project")), options, said.append)
    report = run.run()
    assert not fault_bench.failed(report), "\n".join([*said, json.dumps(report)])
    assert report["faults"] == len(kinds)
    assert [strike["kind"] for strike in run.strikes] == list(kinds)
    assert {strike["kind"]: round(strike["recovery_ms"], 1) for strike in run.strikes} == {
        kind: recovery["median"] for kind, recovery in report["recovery_ms"].items()
    }
    assert report["recovery_ms"].keys() == set(kinds)
    assert report["frames_sent"] == report["frames_decided"] > 0
    assert report["handovers"] > 0
    assert report["readdressed"] > 0
    assert report["restarts"] >= 1  # those of the node that died are not counted
    assert report["cuts_meant"] == {"cut-fence": 1, "redis-in-commit": 1}


def test_the_order_of_faults_is_seeded_and_fair_and_a_node_dies_near_the_end() -> None:
    options = FaultOptions(faults=60)
    kinds = options.sequence(Random(1))
    assert kinds == options.sequence(Random(1)) != options.sequence(Random(2))
    assert len(kinds) == 60
    assert kinds.index("node-for-good") == 57
    counts = Counter(kinds)
    assert counts.pop("node-for-good") == 1
    assert counts.keys() == KINDS.keys() - {"node-for-good"}
    assert set(counts.values()) <= {5, 6}


@pytest.mark.parametrize(
    ("events", "count", "lost", "doubled"),
    [
        ("ab", 2, 0, 0),
        ("a", 1, 1, 0),
        ("", 0, 2, 0),
        ("abB", 3, 0, 1),
        ("ab", 1, 1, 0),
        ("ab", 3, 0, 1),
        ("aA", 2, 1, 1),
    ],
)
def test_a_memory_is_weighed_against_what_was_answered_for(events: str, count: int, lost: int, doubled: int) -> None:
    kept = Kept(frozenset(events), count)
    frames = [({"a", "A"}, True), ({"b", "B"}, True), ({"c"}, False)]
    assert (kept.lost(frames), kept.doubled(frames)) == (lost, doubled)


def test_what_a_memory_has_kept_is_read_from_its_owner(both: dict[str, Store]) -> None:
    for number in (1, 2):
        event = Event.new("t", "/nodes/here/functions/preprocess", id=f"event-{number}")
        effects = Effects(NAME, event, b"", 1_000, 60_000, None, memory_written={"frames_seen": encode(number)})
        RedisLedger(both["here"]).commit(effects)
    assert Kept.read(both, "here", NAME, "frames_seen") == Kept(frozenset({"event-1", "event-2"}), 2)
    assert Kept.read(both, None, NAME, "frames_seen") == Kept(frozenset(), 0)


def outcome(chain: str, event_type: str, trigger: str, reply: str | None) -> Step:
    return Step("n1", Outcome("e1", chain, event_type, f"default/{trigger}", "replied", 200, 1, reply, 1.0, TIME))


@pytest.fixture
def frame() -> Frame:
    return Frame(Event.new("dev.skylark.frame.requested", "/bench", id="f3"), sending_s=50.0)


def test_frames_learn_from_the_journals_what_became_of_them(frame: Frame) -> None:
    frames, chain = Frames(), frame.event.chain
    frames.begin(frame)
    assert frames.sent() == []
    frames.accept(frame)
    assert frames.sent() == [frame]
    frames.learn(outcome(chain, DETECT, "n1-detect", reply="e1"))  # followed its memory to another node
    assert not frame.detected
    frames.learn(outcome(chain, DETECT, "n1-detect", reply="e2"))
    assert frame.detected
    assert frame.ids(DETECT) == {"e1"}
    frames.learn(outcome("another", ALARM, "n1-alarm", reply=None))
    assert frame.decided_s is None
    frames.learn(outcome(chain, ALARM, "n1-alarm", reply=None))
    assert frame.decided_s == pytest.approx(1_800_000_000.25)
    frames.begin(Frame(Event.new(DETECT, "/bench"), sending_s=49.0))  # skipped, being no request
    assert frames.first_since(48.0) is frames.first_since(50.0) is frame
    assert frames.first_since(50.1) is None


def test_the_last_words_of_a_frame_tell_where_it_is(frame: Frame) -> None:
    assert last_words([frame]) == ["frame f3: no journal has it"]
    accepted = Accepted("e1", "/s", DETECT, frame.event.chain, None, ("default/n1-detect",), TIME)
    frame.journey.add(Step("n1", accepted))
    assert last_words([frame]) == [f"frame f3: n1: {DETECT} accepted for default/n1-detect"]
    frame.journey.add(outcome(frame.event.chain, DETECT, "n1-detect", reply="e2"))
    assert last_words([frame]) == [f"frame f3: n1: {DETECT} replied at default/n1-detect"]


@pytest.fixture
def both(stores: Stores) -> dict[str, Store]:
    return {node: stores.of(node) for node in ("here", "there", "gone")}


def own(store: Store, node: str, epoch: int) -> None:
    fields = {"phase": "owned", "node": node, "epoch": epoch}
    store.run(lambda client: client.hset(MemoryKeys(NAME).owner, mapping=fields))


def test_the_watch_notices_two_owners_at_a_time(both: dict[str, Store]) -> None:
    own(both["here"], "here", 7)
    own(both["there"], "there", 8)
    with OwnerWatch(both, NAME) as watch:
        assert watch.wait_for(lambda: bool(watch.doubles), 20)
    assert watch.doubles == {frozenset({"here", "there"})}
    assert watch.double_owned == 1  # however often it was seen


def test_the_watch_notices_an_epoch_that_two_claim_one_after_the_other(both: dict[str, Store]) -> None:
    own(both["here"], "here", 7)
    with OwnerWatch(both, NAME) as watch:
        assert watch.wait_for(lambda: watch.owner == "here", 20)
        both["here"].run(lambda client: client.delete(MemoryKeys(NAME).owner))
        own(both["there"], "there", 7)
        assert watch.wait_for(lambda: watch.owner == "there", 20)
    assert watch.claims == {7: {"here", "there"}}
    assert watch.double_owned == 1


def test_a_handover_is_watched_through_its_phases(both: dict[str, Store], stores: Stores) -> None:
    ownership = Ownership("here", stores, lambda: "here")
    ownership.find(NAME, 7)
    handover = Handover(NAME, "here", "there", stores.local, stores.of("there"))
    watch = HandoverWatch(both, NAME, "here", "there", "here")
    phases: list[Any] = [watch.phase()]
    for step in (lambda: handover.fence(8), handover.commit, lambda: handover.retire(8)):
        step()
        phases.append(watch.phase())
    handover.register(ownership, 8)
    assert [*phases, watch.phase()] == ["copy", "fence", "commit", "register", "done"]


def test_a_phase_is_heard_of_when_it_begins(both: dict[str, Store], stores: Stores) -> None:
    Ownership("here", stores, lambda: "here").find(NAME, 7)
    handover = Handover(NAME, "here", "there", stores.local, stores.of("there"))
    watch, heard = HandoverWatch(both, NAME, "here", "there", "here"), list[bool]()
    waiting = threading.Thread(target=lambda: heard.append(watch.wait_for("fence", 20)))
    waiting.start()
    while not both["here"].run(lambda client: client.pubsub_channels()):
        waiting.join(0.01)
    handover.fence(8)
    waiting.join()
    assert heard == [True]
    assert not watch.wait_for("commit", 0.1)


REPORT: dict[str, Any] = {
    "faults": 2,
    "frames_sent": 9,
    "frames_decided": 9,
    "lost": 0,
    "memory_updates_lost": 0,
    "double_owned": 0,
    "duplicates_applied": 0,
    "recovery_ms": {
        "broker": {"count": 1, "median": 700.0, "max": 700.0},
        "cut-copy": {"count": 1, "median": 2100.4, "max": 2100.4},
    },
    "cuts_in_phase": {"cut-copy": 1},
    "cuts_meant": {"cut-copy": 1},
    "handovers": 4,
    "unrecovered": [],
    "undecided": [],
    "seed": 5,
}


@pytest.mark.parametrize(
    "fault", [{}, {"lost": 1, "undecided": ["frame 4: n1"]}, {"double_owned": 1}, {"unrecovered": ["broker n1-broker"]}]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table_and_fails_where_something_was_lost(
    monkeypatch: pytest.MonkeyPatch, write: Any, tmp_path: Path, as_json: bool, fault: dict[str, Any]
) -> None:
    asked: list[FaultOptions] = []

    class Bench:
        strikes = ({"number": 1, "kind": "cut-copy", "recovery_ms": 2100.0},)

        def __init__(self, project: object, options: FaultOptions, say: object) -> None:
            asked.append(options)

        def run(self) -> dict[str, Any]:
            return REPORT | fault

    write("functions/count/function.py", function_py())
    monkeypatch.setattr(fault_bench, "FaultBench", Bench)
    arguments = ["--faults", "2", "--tick", "2s", "--seed", "5", "--rate", "0.5/s", "--network", "127.9"]
    arguments += ["--results", str(tmp_path / "kept")]
    command = ["bench", "faults", *arguments, "--project", str(tmp_path), *(["--json"] if as_json else [])]
    ran = CliRunner().invoke(cli, command)
    assert ran.exit_code == (1 if fault else 0), ran.output
    assert asked == [FaultOptions(2, 2.0, 5, 0.5, "127.9")]
    assert Results(tmp_path / "kept").read_raw("faults") == list(Bench.strikes)
    assert (tmp_path / "kept/faults.csv").is_file()
    if as_json:
        assert json.loads(ran.stdout) == REPORT | fault
    else:
        row = next(line for line in ran.stdout.splitlines() if line.strip().startswith("cut-copy"))
        assert row.split() == ["cut-copy", "1", "2,100", "2,100", "1", "of", "1"]
        assert all(line in ran.stdout for line in fault.get("undecided", []))


@pytest.mark.parametrize("text", ["1", "0/s", "often", "-1/s"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    ran = CliRunner().invoke(cli, ["bench", "faults", "--rate", text])
    assert ran.exit_code == 2
    assert "expected so many a second, such as 1/s" in ran.stderr
