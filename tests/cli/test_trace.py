"""`skylark trace` on journals in real stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.text import Text

from libskylark.cli.journey_tree import JourneyTree
from libskylark.cli.main import cli
from libskylark.errors import LabError
from libskylark.eventing import journal
from libskylark.eventing.generations import Generations, generation_operations
from libskylark.eventing.journal import Accepted, Duplicate, Outcome, OutcomeName, Record
from libskylark.eventing.journey import Step
from libskylark.eventing.keys import GENERATIONS
from libskylark.eventing.lineage import grow
from libskylark.store import Store
from libskylark.timing import Timing
from tests.cli.conftest import RecordLab
from tests.conftest import RedisNode

CHAIN = "0c9f7a52-8f4e-5d2b-9a3f-3f1f5b0c6d7e"
FRAME, IMAGE = "dev.skylark.frame.captured", "dev.skylark.image.preprocessed"
FIRST, REPLY = "7b1e2d3c-0a9b-5c8d-8e7f-1a2b3c4d5e6f", "4558c56e-0a9b-5c8d-8e7f-1a2b3c4d5e6f"


def at(ms: int) -> str:
    return f"2026-11-24T08:00:{ms // 1000:02}.{ms % 1000:03}Z"


def accepted(ms: int, event: str, *triggers: str, hop: bool = False, **changes: Any) -> Accepted:
    fields: dict[str, Any] = {"source": "/camera", "type": FRAME, "chain": CHAIN, "cause": None, **changes}
    return Accepted(event=event, to=tuple(f"default/{t}" for t in triggers), time=at(ms), hop=hop, **fields)


def ended(ms: int, event: str, trigger: str, outcome: OutcomeName, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {"chain": CHAIN, "status": 200, "attempts": 1, "reply": None, "duration_ms": 12.4}
    fields |= {"type": FRAME, "trigger": f"default/{trigger}", "time": at(ms), **changes}
    return Outcome(event=event, outcome=outcome, **fields)


TIMINGS = (
    Timing("memory", 0.4, "local", "there", 300),
    Timing("state", 234.0, "waited", "there", 1024),
    Timing("state", 0.5, "waited", "there", 3072),
    Timing("state", 3.2, "remote", "here", 1024),
    Timing("commit", 1.1),
)
HERE: list[Record] = [
    accepted(123, FIRST, "unaddressed"),
    accepted(130, FIRST, "there-preprocess"),
    ended(131, FIRST, "unaddressed", "replied", reply=FIRST),
    ended(140, FIRST, "there-preprocess", "forwarded", status=202),
    accepted(9_000, "1", "count", chain="another-chain", type="com.example.order"),
]
THERE: list[Record] = [
    accepted(139, FIRST, "there-preprocess", hop=True),
    accepted(1_200, REPLY, "detect", "watch", type=IMAGE, source="/nodes/there/functions/preprocess", cause=FIRST),
    ended(1_200, FIRST, "there-preprocess", "replied", reply=REPLY, attempts=3, duration_ms=1_060.0, timings=TIMINGS),
    ended(1_300, REPLY, "detect", "dead-lettered", status=400, reason="no picture", dead_letter_to=""),
    accepted(1_400, "1", chain="one-more-chain", type="com.example.order"),
]

Stores = tuple[Store, Store]


def keep(store: Store, records: list[Record]) -> None:
    for record in records:
        fields: dict[Any, Any] = {"record": journal.encode(record)}
        store.run(lambda client, fields=fields: client.xadd(journal.KEY, fields))  # type: ignore[misc]


def trace(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["trace", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    result = trace("--json", *arguments)
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def both(redis_node: RedisNode, other_node: RedisNode) -> Iterator[Stores]:
    with ExitStack() as stack:
        here, there = (stack.enter_context(closing(Store(n.host, n.port))) for n in (redis_node, other_node))
        yield here, there


@pytest.fixture
def project(record_lab: RecordLab, both: Stores) -> str:
    keep(both[0], HERE)
    keep(both[1], THERE)
    return record_lab()


def test_a_journey_over_two_nodes_is_a_tree_by_cause(project: str) -> None:
    result = trace(FIRST, "--project", project)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"chain {CHAIN}",
        "2026-11-24, 2 events in 1.2 s, not ended yet",
        f"└── {FRAME} 7b1e2d3c…  08:00:00.123  here",
        "    from /camera",
        "    ▸ unaddressed replied 200 in 12 ms",
        "    └── the same event  08:00:00.130  here",
        "        ▸ there-preprocess → there in 12 ms, replied 200 after 3 attempts in 1.1 s",
        "          state 4.0 KiB on there, once its push was there, in 234 ms (2 reads)",
        "          state 1.0 KiB over the link from here in 3 ms",
        "          memory 300 B on there in 0.4 ms, commit in 1 ms",
        f"        └── {IMAGE} 4558c56e…  08:00:01.200  there",
        "            ├── detect dead-lettered 400 after 1 attempt in 12 ms, kept in the dead letters: no picture",
        "            └── watch no outcome yet",
    ]


def test_the_tree_fits_a_screen_of_eighty_columns(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trace(CHAIN, "--project", project).stdout.splitlines()
    monkeypatch.setenv("COLUMNS", "80")
    lines = trace(CHAIN, "--project", project).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(whole) + 2  # two of them are broken


def test_triggers_that_filter_an_event_are_counted_and_named(project: str, both: Stores) -> None:
    triggers = {"default/default": ["default/a", "default/b", "default/c"], "default/other": ["default/d"]}
    for store in both:
        operation, _, generation, kept, _ = generation_operations("g1", triggers)
        assert operation == "generation"
        fields: dict[Any, Any] = {"generation": generation, "triggers": kept}
        store.run(lambda client, fields=fields: client.xadd(GENERATIONS, fields))  # type: ignore[misc]
    broker: dict[str, Any] = {"broker": "default/default", "generation": "g1", "chain": "filtered"}
    records: list[Record] = [
        accepted(1_000, "some", "b", **broker),
        accepted(1_001, "all", **broker, cause="some"),
        accepted(1_002, "old", **{**broker, "generation": "g0"}, cause="some"),
    ]
    keep(both[0], records)
    lines = trace("filtered", "--project", project).stdout.splitlines()
    assert [line.strip("│ ") for line in lines if "filter" in line][1:] == [
        "filtered by 2 Triggers",
        "filtered by all 3 Triggers",
    ]
    assert [line.strip("│ ") for line in lines if "no Trigger" in line] == ["no Trigger takes it"]
    named = trace("filtered", "--filtered", "--project", project).stdout
    assert "filtered by 2 Triggers: a, c\n" in named
    assert "filtered by all 3 Triggers: a, b, c\n" in named
    told = {visit["event"]: visit["filtered"] for visit in report("filtered", "--project", project)["visits"]}
    assert told == {"some": ["default/a", "default/c"], "all": triggers["default/default"], "old": None}


def test_a_duplicate_is_told_with_the_first(project: str, both: Stores) -> None:
    again = Duplicate("twice", "/camera", FRAME, "twice-chain", "default/default", at(2_000))
    keep(both[0], [accepted(1_000, "twice", "count", chain="twice-chain", broker="default/default"), again])
    lines = trace("twice-chain", "--project", project).stdout.splitlines()
    assert [line.strip() for line in lines[2:]] == [
        f"└── {FRAME} twice  08:00:01.000  here",
        "from /camera",
        "came again at 08:00:02.000, suppressed as a duplicate",
        "▸ count no outcome yet",
    ]
    (visit,) = report("twice-chain", "--project", project)["visits"]
    assert visit["duplicates"] == [at(2_000)]


def test_a_duplicate_whose_first_is_no_longer_there_is_told(project: str, both: Stores) -> None:
    keep(both[0], [Duplicate("twice", "/camera", FRAME, "twice-chain", "default/default", at(2_000))])
    result = trace("twice-chain", "--project", project).stdout.splitlines()
    assert result[1].endswith(", ended")
    assert [line.strip() for line in result[3:5]] == [
        "accepted before the journal begins",
        "came again at 08:00:02.000, suppressed as a duplicate",
    ]


def test_an_answer_that_begins_a_chain_of_its_own_leads_there_and_back(project: str, both: Stores) -> None:
    records: list[Record] = [
        accepted(1_000, "tick", "camera", chain="tick-chain"),
        accepted(1_010, "frame", chain="frame-chain", cause="tick"),
        ended(1_010, "tick", "camera", "replied", reply="frame", reply_chain="frame-chain", chain="tick-chain"),
    ]
    keep(both[0], records)
    lines = trace("tick-chain", "--project", project).stdout.splitlines()
    assert lines[1].endswith(", ended")
    assert lines[-1].strip() == "▸ camera replied 200 in 12 ms, began chain frame-chain"
    assert "caused by tick in chain tick-chain" in trace("frame-chain", "--project", project).stdout
    assert report("frame-chain", "--project", project)["complete"] is True


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("dead-lettered", "▸ count dead-lettered to http://sink/ after 1 attempt in 12 ms: answered 400"),
        ("expired", "▸ count expired, dead-lettered to http://sink/ after 1 attempt in 12 ms: answered 400"),
    ],
)
def test_a_dead_letter_that_a_sink_took_is_told_with_its_address(
    record_lab: RecordLab, store: Store, outcome: OutcomeName, told: str
) -> None:
    end = ended(200, "e", "count", outcome, status=400, reason="answered 400", dead_letter_to="http://sink/")
    keep(store, [accepted(100, "e", "count"), end])
    project = record_lab()
    assert trace("e", "--project", project).stdout.splitlines()[-1].strip() == told
    assert report("e", "--project", project)["visits"][0]["deliveries"][0]["dead_letter_to"] == "http://sink/"


def test_a_long_reason_is_cut_in_the_tree_and_whole_in_json(project: str, both: Stores) -> None:
    records: list[Record] = [
        accepted(1_000, "e", "count", chain="long-chain"),
        ended(1_010, "e", "count", "dead-lettered", chain="long-chain", reason="answered 400: " + "x" * 900),
    ]
    keep(both[0], records)
    assert "x" * 900 not in trace("long-chain", "--project", project).stdout
    (visit,) = report("long-chain", "--project", project)["visits"]
    assert len(visit["deliveries"][0]["reason"]) == 914


@pytest.mark.parametrize("name", [CHAIN, CHAIN[:8], FIRST, FIRST[:6], REPLY])
def test_a_chain_is_named_by_its_id_or_that_of_one_of_its_events(project: str, name: str) -> None:
    assert report(name, "--project", project)["chain"] == CHAIN


def test_json_says_what_came_of_what_by_places_in_the_list(project: str) -> None:
    told = report(CHAIN, "--project", project)
    assert (told["ended"], told["complete"], told["silent"]) == (False, True, {})
    visits = told["visits"]
    assert [(v["event"], v["node"], v["parent"], v["handed_over"]) for v in visits] == [
        (FIRST, "here", None, False),
        (FIRST, "here", 0, False),
        (FIRST, "there", 1, True),
        (REPLY, "there", 2, False),
    ]
    assert visits[3]["cause"] == FIRST
    assert visits[2]["deliveries"][0]["timings"][3] == {
        "what": "state", "ms": 3.2, "place": "remote", "node": "here", "size_bytes": 1024
    }  # fmt: skip
    assert [v["deliveries"][0]["handed_over_as"] for v in visits] == [[], [2], [], []]
    assert [v["deliveries"][0]["replied_as"] for v in visits] == [1, None, 3, None]
    assert visits[3]["deliveries"] == [
        {
            "trigger": "default/detect",
            "outcome": "dead-lettered",
            "status": 400,
            "attempts": 1,
            "duration_ms": 12.4,
            "time": at(1_300),
            "reason": "no picture",
            "reply": None,
            "reply_chain": "",
            "dead_letter_to": "",
            "timings": [],
            "handed_over_as": [],
            "replied_as": None,
        },
        {"trigger": "default/watch", "outcome": None, "handed_over_as": [], "replied_as": None},
    ]


def test_an_id_that_several_chains_have_is_a_usage_error_that_names_them(project: str) -> None:
    result = trace("1", "--project", project)
    assert result.exit_code == 2
    assert "2 chains have '1'; name one of them:" in result.stderr
    assert f"  another-chain  {at(9_000)} com.example.order on here" in result.stderr
    assert f"  one-more-chain  {at(1_400)} com.example.order on there" in result.stderr


def test_an_event_that_no_trigger_takes_says_so(project: str) -> None:
    lines = trace("one-more-chain", "--project", project).stdout.splitlines()
    assert lines[1].endswith("1 event in 0 ms, ended")
    assert lines[2].endswith("com.example.order 1  08:00:01.400  there")
    assert [line.strip() for line in lines[3:]] == ["from /camera", "no Trigger takes it"]


def test_an_id_that_no_journal_has_is_told(project: str) -> None:
    result = trace("nowhere", "--project", project)
    assert isinstance(result.exception, LabError)
    assert str(result.exception) == (
        "no journal of the lab's nodes has 'nowhere'; name an event or chain as `skylark send` prints them"
    )


def test_a_node_that_does_not_answer_is_named_and_its_part_is_missing(record_lab: RecordLab, both: Stores) -> None:
    keep(both[0], HERE)
    project = record_lab(there_is_gone=True)
    result = trace(CHAIN, "--project", project)
    assert result.exit_code == 0
    assert result.stderr.startswith("there does not tell its journal: ")
    assert len(result.stderr.splitlines()) == 1
    assert "there-preprocess forwarded 202 in 12 ms, no journal tells what came of it" in result.stdout
    assert list(report(CHAIN, "--project", project)["silent"]) == ["there"]


def test_what_was_handed_over_by_a_silent_node_has_no_beginning(record_lab: RecordLab, both: Stores) -> None:
    keep(both[1], THERE[:1])
    project = record_lab()
    assert "from /camera, handed over, no journal tells by whom" in trace(CHAIN, "--project", project).stdout
    assert report(CHAIN, "--project", project)["complete"] is False


def test_a_beginning_that_the_journal_has_dropped_is_told(record_lab: RecordLab, both: Stores) -> None:
    keep(both[1], THERE[2:])
    project = record_lab()
    lines = trace(CHAIN, "--project", project).stdout.splitlines()
    assert lines[3].endswith("accepted before the journal begins")
    since = f"some 20,000 records are kept, on there those since {at(1_200)}"
    assert lines[-1] == f"the beginning is no longer there: {since}"
    assert report(CHAIN, "--project", project)["complete"] is False


def test_a_full_journal_says_since_when_it_has_records(
    project: str, both: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libskylark.eventing.journey.CAP", 4)
    caused = accepted(2_000, "late", cause="unknown", chain="late-chain")
    keep(both[0], [caused])
    result = trace("nowhere", "--project", project)
    assert f"; some 20,000 records are kept, the first of them of {at(123)}; " in str(result.exception)
    lines = trace("late", "--project", project).stdout.splitlines()
    assert "caused by unknown, which is not in the journals" in lines[3]
    assert [line.split(", on ")[1] for line in lines[-2:]] == [
        f"here those since {at(123)}",
        f"there those since {at(139)}",
    ]


def test_a_record_that_is_none_is_told_like_a_node_that_does_not_answer(project: str, both: Stores) -> None:
    both[1].run(lambda client: client.xadd(journal.KEY, {"record": '{"kind": "accepted"}'}))
    result = trace(CHAIN, "--project", project)
    assert result.exit_code == 0
    assert result.stderr.startswith("there does not tell its journal: found what is no record of a journal")


def test_replays_and_events_with_a_cause_are_in_the_tree(record_lab: RecordLab, store: Store) -> None:
    records: list[Record] = [
        accepted(100, "e", "count"),
        ended(200, "e", "count", "dead-lettered", status=0, attempts=2, duration_ms=0.25, reason="no answer"),
        accepted(300, "e", "count", hop=True),
        ended(400, "e", "count", "delivered"),
        accepted(500, "later", type=IMAGE, cause="e"),
    ]
    keep(store, records)
    assert trace("later", "--project", record_lab()).stdout.splitlines()[2:] == [
        f"└── {FRAME} e  08:00:00.100  here",
        "    from /camera",
        "    ▸ count dead-lettered after 2 attempts in 0.2 ms: no answer",
        "    └── replayed  08:00:00.300  here",
        "        ▸ count delivered 200 in 12 ms",
        f"        └── {IMAGE} later  08:00:00.500  here",
        "            no Trigger takes it",
    ]


def test_a_chain_that_is_deeper_than_a_screen_is_wide_goes_on_below() -> None:
    records: list[Record] = [accepted(1, "0", "x")]
    for number in range(600):
        reply = str(number + 1)
        records += [accepted(1, reply, "x"), ended(1, str(number), "x", "replied", reply=reply)]
    roots = grow([Step("here", record) for record in records])
    tree = JourneyTree(Text("chain"), roots, Generations().filtered, {}).tree
    drawn = StringIO()
    Console(file=drawn, width=100).print(tree)
    lines = drawn.getvalue().splitlines()
    assert [line for line in lines if "goes on below, at (7)" in line]
    assert [line for line in lines if f"├── (7) {FRAME} 84  08:00:00.001  here" in line]
    assert [line for line in lines if f" {FRAME} 600  " in line]


def test_without_a_lab_there_is_nothing_to_trace(tmp_path: Path) -> None:
    assert isinstance(trace(CHAIN, "--project", str(tmp_path)).exception, LabError)
