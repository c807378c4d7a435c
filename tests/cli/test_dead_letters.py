"""`skylark dead-letters` on letters as a broker stores them in real stores; the brokers' answers are made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import responses
from click.testing import CliRunner, Result

from libskylark.cli.main import cli
from libskylark.client import read_event
from libskylark.errors import DocumentError, LabError
from libskylark.event import Event
from libskylark.eventing.entry import Content, Entry
from libskylark.eventing.keys import DEAD_LETTERS, SIZES
from libskylark.eventing.loading import Objects, load_objects
from libskylark.eventing.writes import Letter, Settlement, settle_operations
from libskylark.store import Store
from tests.cli.conftest import RecordLab
from tests.conftest import RedisNode, Write

PORT = 8099
COUNT = f"http://127.0.0.1:{PORT}/default/default/count"  # where `here` is handed an event for the Trigger `count`
LOG = f"http://127.0.0.2:{PORT}/default/default/log"
TRIGGERS = """\
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: count}
spec:
  broker: default
  subscriber: {ref: {apiVersion: v1, kind: Service, name: count}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: log}
spec:
  broker: default
  subscriber: {uri: 'http://log.example/'}
"""
ORDER = Event.new("com.example.order", "/shop", {"book": 1}, id="order[1]", priority="high")
FRAME = Event.new("dev.skylark.frame.captured", "/camera", b"II*\x00" + bytes(range(200)), id="frame-1")
NOTE = Event.new("com.example.noted", "/shop", "täglich\n" * 400, id="4558c56e-0a9b-5c8d-8e7f-1a2b3c4d5e6f")

ARRIVED_S = 1_795_507_200.25

Keep = Callable[..., str]


def store_letter(store: Store, event: Event, second: int, trigger: str, **changes: Any) -> str:
    """A letter with the fields that a broker's writer gives it; its id."""
    fields: dict[str, Any] = {"reason": "answered 400", "status": 400, "attempts": 1, **changes}
    content = Content(event, fields.pop("ttl", 255), ARRIVED_S, fields.pop("headers", {}), event.chain)
    receivers = tuple(f"default/{name}" for name in fields.pop("receivers", [trigger]))
    letter = Letter(content, receivers, f"default/{trigger}", time=f"2026-11-24T08:00:{second:02}.000Z", **fields)
    entry = Entry("0-1", None, {letter.trigger}, content, content.size_bytes)
    operations = settle_operations(Settlement(entry, letter.trigger, "", letters=[letter]))
    values = ["size", *operations[2 : 2 + operations[1]]]
    kept = dict(zip(values[::2], values[1::2], strict=True))
    return store_fields(store, kept)


def store_fields(store: Store, kept: dict[Any, Any]) -> str:
    stored: Any = store.run(lambda client: client.xadd(DEAD_LETTERS, kept))
    return str(stored.decode())


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLARK_BROKER_PORT", str(PORT))
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def keep(redis_node: RedisNode, other_node: RedisNode) -> Iterator[Keep]:
    """`keep("here", ORDER, 5, "count")`: the id in the list of a letter that is now stored on that node."""
    with ExitStack() as stack:
        stores = {
            name: stack.enter_context(closing(Store(node.host, node.port)))
            for name, node in (("here", redis_node), ("there", other_node))
        }

        def make(node: str, event: Event, second: int, trigger: str, **changes: Any) -> str:
            return f"{node}/{store_letter(stores[node], event, second, trigger, **changes)}"

        yield make


@pytest.fixture
def project(record_lab: RecordLab, write: Write) -> str:
    folder = record_lab()
    write("triggers/all.yaml", TRIGGERS)
    return folder


@pytest.fixture
def three(keep: Keep) -> list[str]:
    """The ids of three letters, of which the second in time is on the other node."""
    last = keep("here", NOTE, 30, "log", status=0, attempts=4, reason="no answer within 5 s")
    return [keep("here", ORDER, 10, "count"), keep("there", FRAME, 20, "count"), last]


def dead_letters(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dead-letters", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    result = dead_letters(*arguments, "--json")
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def left(project: str) -> list[str]:
    return [letter["id"] for letter in report("list", "--project", project)["letters"]]


def test_the_letters_of_all_nodes_are_listed_with_the_oldest_first(project: str, three: list[str]) -> None:
    result = dead_letters("list", "--project", project)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"1  {three[0]}  2026-11-24 08:00:10  count  400 after 1 attempt",
        "   com.example.order order[1]: answered 400",
        f"2  {three[1]}  2026-11-24 08:00:20  count  400 after 1 attempt",
        "   dev.skylark.frame.captured frame-1: answered 400",
        f"3  {three[2]}  2026-11-24 08:00:30  log  no answer after 4 attempts",
        "   com.example.noted 4558c56e…: no answer within 5 s",
        "3 dead letters",
    ]


def test_how_many_gave_way_is_told(project: str, three: list[str], redis_node: RedisNode) -> None:
    with closing(Store(redis_node.host, redis_node.port)) as store:
        store.run(lambda client: client.hset(SIZES, "dropped", 7))
    told = dead_letters("list", "--project", project).stdout.splitlines()
    assert told[-1] == "7 older ones gave way: a node keeps so many (SKYLARK_BROKER_DEAD_LETTERS_MAX)"
    assert [report("list", "--project", project, "--node", node)["dropped"] for node in ("here", "there")] == [7, 0]


def test_the_list_is_told_as_json(project: str, three: list[str]) -> None:
    told = report("list", "--project", project)
    assert (told["total"], told["silent"]) == (3, {})
    assert told["letters"][1] == {
        "number": 2,
        "id": three[1],
        "node": "there",
        "time": "2026-11-24T08:00:20.000Z",
        "trigger": "default/count",
        "type": "dev.skylark.frame.captured",
        "event": "frame-1",
        "source": "/camera",
        "status": 400,
        "attempts": 1,
        "reason": "answered 400",
        "size_bytes": 204,
        "receivers": ["default/count"],
        "chain": FRAME.chain,
        "arrived": "2026-11-24T08:00:00.250Z",
        "ttl": 255,
        "headers": {},
    }


def test_the_list_may_be_cut_to_a_node_or_a_count(project: str, three: list[str]) -> None:
    assert [m["number"] for m in report("list", "--project", project, "--node", "here")["letters"]] == [1, 3]
    cut = dead_letters("list", "--project", project, "--count", "1").stdout.splitlines()
    assert (cut[0].split()[:2], cut[-1]) == (["3", three[2]], "3 dead letters, the latest 1 of them above")
    nowhere = dead_letters("list", "--project", project, "--node", "nowhere")
    assert nowhere.exit_code == 2
    assert "found 'nowhere', expected a node of the constellation: here, there" in nowhere.stderr


def test_a_list_is_read_in_pages(project: str, keep: Keep) -> None:
    ids = [keep("here", ORDER, number % 60, "count") for number in range(70)]
    told = report("list", "--project", project, "--count", "100")
    assert sorted(letter["id"] for letter in told["letters"]) == sorted(ids)


def test_a_lab_without_dead_letters_says_so(project: str) -> None:
    assert dead_letters("list", "--project", project).stdout == "0 dead letters\n"
    assert dead_letters("replay", "--all", "--project", project).stdout == "there are no dead letters\n"
    result = dead_letters("show", "1", "--project", project)
    assert result.exit_code == 2
    assert "found '1', expected none: there are no dead letters" in result.stderr


def test_a_letter_is_shown_whole(project: str, keep: Keep) -> None:
    name = keep("here", ORDER, 10, "count", ttl=7, headers={"traceparent": "00-1-2-01", "x-request-id": "r"})
    assert dead_letters("show", "1", "--project", project).stdout.splitlines() == [
        "number           1",
        f"id               {name}",
        "time             2026-11-24T08:00:10.000Z",
        "trigger          default/count",
        "outcome          400 after 1 attempt: answered 400",
        "arrived          2026-11-24T08:00:00.250Z",
        f"chain            {ORDER.chain}",
        "ttl              7",
        "",
        "attributes",
        "specversion      1.0",
        "id               order[1]",
        "source           /shop",
        "type             com.example.order",
        "datacontenttype  application/json",
        "priority         high",
        "",
        "headers",
        "traceparent      00-1-2-01",
        "x-request-id     r",
        "",
        "10 bytes of data",
        '{"book":1}',
    ]


def test_data_that_is_no_text_is_shown_as_numbers(project: str, three: list[str]) -> None:
    lines = dead_letters("show", three[1], "--project", project).stdout.splitlines()
    start = lines.index("204 bytes of data")
    assert lines[start + 1] == "49 49 2a 00 00 01 02 03 04 05 06 07 08 09 0a 0b  II*............."
    assert len(lines[start + 1 :]) == 5
    assert lines[-1] == "…"


def test_long_text_is_cut_and_no_data_is_said(project: str, three: list[str], keep: Keep) -> None:
    lines = dead_letters("show", "3", "--project", project).stdout.splitlines()
    assert lines[lines.index("3,600 bytes of data") + 1 :] == ["täglich"] * 250 + ["…"]
    keep("here", Event.new("t", "/s"), 40, "count")
    assert dead_letters("show", "4", "--project", project).stdout.splitlines()[-1] == "0 bytes of data"


def test_a_shown_event_can_be_sent_as_it_is(project: str, three: list[str], tmp_path: Path) -> None:
    for number, event in ((1, ORDER), (2, FRAME), (3, NOTE)):
        told = report("show", str(number), "--project", project)
        assert (told["number"], told["event"]) == (number, event.id)
        file = tmp_path / "event.json"
        file.write_text(json.dumps(told["cloudevent"]))
        assert read_event(file) == event


@responses.activate
def test_a_letter_is_handed_over_for_its_own_trigger_and_removed(project: str, three: list[str]) -> None:
    responses.post(COUNT, status=202)
    result = dead_letters("replay", "1", "--project", project)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"taken {three[0]}: event order[1] for default/count by here\n"
    (call,) = responses.calls
    assert call.request.body == ORDER.data
    assert call.request.headers["ce-id"] == "order[1]"
    assert call.request.headers["ce-priority"] == "high"
    assert left(project) == three[1:]


@responses.activate
def test_a_letter_goes_to_the_node_of_the_subscriber(project: str, three: list[str]) -> None:
    responses.post(COUNT, status=202)
    result = dead_letters("replay", three[1], "--project", project)
    assert result.stdout == f"taken {three[1]}: event frame-1 for default/count by here\n"


@responses.activate
def test_a_subscriber_that_is_on_no_node_is_reached_from_where_the_letter_is(project: str, keep: Keep) -> None:
    responses.post(LOG, status=202)
    name = keep("there", NOTE, 10, "log")
    assert dead_letters("replay", name, "--project", project).stdout.endswith(" for default/log by there\n")


@responses.activate
def test_numbers_are_those_of_the_list_for_all_that_are_named(project: str, three: list[str]) -> None:
    responses.post(COUNT, status=202)
    result = dead_letters("replay", "1", "2", "1", "--project", project)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert left(project) == three[2:]


@responses.activate
def test_what_a_broker_refuses_stays_and_the_others_go(project: str, three: list[str]) -> None:
    responses.post(COUNT, status=202)
    responses.post(f"http://127.0.0.1:{PORT}/default/default/log", status=404, json={"detail": "no Trigger log"})
    result = dead_letters("replay", "--all", "--project", project)
    assert result.exit_code == 1
    assert result.stderr == (
        f"{three[2]} stays: http://127.0.0.1:{PORT}/default/default/log refused the event with 404: no Trigger log\n"
    )
    assert left(project) == three[2:]
    assert dead_letters("replay", three[0], "--project", project).exit_code == 2  # it is not in the list any more


@responses.activate
def test_a_broker_that_does_not_answer_is_not_asked_for_every_letter(project: str, keep: Keep) -> None:
    responses.post(COUNT, body=requests.ConnectionError("refused"))
    names = [keep("here", ORDER, second, "count") for second in range(4)]
    result = dead_letters("replay", "--all", "--project", project)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 4
    assert len(responses.calls) == 5  # the attempts for the first
    assert left(project) == names


@responses.activate
def test_a_letter_that_somebody_else_has_replayed_is_not_sent_again(
    project: str, three: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_meanwhile(paths: Iterable[Path]) -> Objects:
        store.run(lambda client: client.delete(DEAD_LETTERS))
        return load_objects(paths)

    responses.post(COUNT, status=202)
    monkeypatch.setattr("libskylark.cli.mailbox.load_objects", load_meanwhile)
    result = dead_letters("replay", "1", "--project", project)
    assert (result.exit_code, result.stdout) == (0, f"{three[0]} is no longer there\n")
    assert len(responses.calls) == 0


def test_an_event_that_has_expired_stays(project: str, keep: Keep) -> None:
    expired = ORDER.with_attributes(expirytime="2020-01-01T00:00:00Z")
    name = keep("here", expired, 10, "count")
    result = dead_letters("replay", "1", "--project", project)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{name} stays: the event has expired at 2020-01-01T00:00:00Z")


def test_a_letter_for_a_trigger_that_is_gone_stays(project: str, keep: Keep) -> None:
    name = keep("here", ORDER, 10, "gone")
    result = dead_letters("replay", "1", "--project", project)
    assert result.stderr == f"{name} stays: no file defines Trigger default/gone any more\n"
    assert left(project) == [name]


@responses.activate
def test_a_letter_keeps_its_headers_and_its_ttl_on_its_way(project: str, keep: Keep) -> None:
    responses.post(COUNT, status=202)
    for arguments, ttl in (([], "7"), (["--ttl", "9"], "9")):
        keep("here", ORDER, 10, "count", ttl=7, headers={"traceparent": "00-1-2-01"})
        assert dead_letters("replay", "1", *arguments, "--project", project).exit_code == 0
        sent = responses.calls[-1].request.headers
        assert (sent["traceparent"], sent["ce-knativebrokerttl"], sent["ce-id"]) == ("00-1-2-01", ttl, ORDER.id)


@responses.activate
def test_an_answer_without_ttl_gets_another_one_or_stays(project: str, keep: Keep) -> None:
    for url in (COUNT, f"http://127.0.0.1:{PORT}/default/default/log"):
        responses.post(url, status=202)
    changes = {"status": 508, "reason": "the reply has no TTL left: a loop of Triggers"}
    name = keep("here", ORDER, 10, "answerer", ttl=0, receivers=["count", "log"], **changes)
    shown = dead_letters("show", "1", "--project", project).stdout.splitlines()
    assert [line for line in shown if line.startswith(("for ", "ttl "))] == [
        "for              default/count, default/log",
        "ttl              0  spent: replay it with --ttl N",
    ]
    refused = dead_letters("replay", "1", "--project", project)
    assert (refused.exit_code, len(responses.calls)) == (1, 0)
    assert refused.stderr == (
        f"{name} stays: it is an answer of default/answerer that had no TTL left, in what may be a loop of Triggers; "
        "with --ttl N it goes on for up to N more answers\n"
    )
    result = dead_letters("replay", "1", "--ttl", "3", "--project", project)
    assert result.stdout == f"taken {name}: event order[1] for default/count by here, default/log by here\n"
    assert [call.request.headers["ce-knativebrokerttl"] for call in responses.calls] == ["3", "3"]
    assert left(project) == []


@responses.activate
def test_a_letter_of_a_broker_that_kept_less_is_shown_and_replayed(project: str, store: Store) -> None:
    responses.post(COUNT, status=202)
    told = {"trigger": "default/count", "reason": "answered 400", "status": 400, "attempts": 1, "time": "2026"}
    store_fields(store, {"attributes": json.dumps(dict(ORDER.attributes)), "data": ORDER.data, **told})
    shown = dead_letters("show", "1", "--project", project).stdout.splitlines()
    assert shown[5:7] == ["", "attributes"]
    assert dead_letters("replay", "1", "--project", project).exit_code == 0
    assert "ce-knativebrokerttl" not in responses.calls[0].request.headers


def test_a_letter_that_its_trigger_takes_no_more_stays(project: str, keep: Keep, write: Write) -> None:
    only_t = "metadata: {name: loop}\nspec:\n  filter: {attributes: {type: t}}"
    write("triggers/loop.yaml", TRIGGERS.partition("---")[0].replace("metadata: {name: count}\nspec:", only_t))
    name = keep("here", ORDER, 10, "loop")
    result = dead_letters("replay", "1", "--project", project)
    words = "attributes.type is 'com.example.order', the filter wants exactly 't'"
    assert result.stderr == f"{name} stays: Trigger default/loop takes no such event: {words}\n"
    assert left(project) == [name]


def test_faulty_files_end_a_replay_before_it_begins(project: str, three: list[str], write: Write) -> None:
    write("triggers/faulty.yaml", "kind: Trigger\n")
    assert isinstance(dead_letters("replay", "--all", "--project", project).exception, DocumentError)
    assert left(project) == three


@pytest.mark.parametrize("arguments", [[], ["1", "--all"]])
def test_letters_are_named_or_all_are_meant(project: str, arguments: list[str]) -> None:
    result = dead_letters("replay", *arguments, "--project", project)
    assert result.exit_code == 2
    assert "expected N, or --all" in result.stderr


@pytest.mark.parametrize("name", ["0", "4", "here/1-1", "here", "first"])
def test_a_name_that_no_letter_has_is_a_usage_error(project: str, three: list[str], name: str) -> None:
    for command in ("show", "replay"):
        result = dead_letters(command, name, "--project", project)
        assert result.exit_code == 2
        assert f"found '{name}', expected a number from 1 to 3, or an id: see `skylark dead-letters list`" in (
            result.stderr
        )


@responses.activate
def test_while_a_node_is_silent_letters_are_replayed_by_id_only(
    record_lab: RecordLab, write: Write, keep: Keep
) -> None:
    responses.post(COUNT, status=202)
    name = keep("here", ORDER, 10, "count")
    project = record_lab(there_is_gone=True)
    write("triggers/all.yaml", TRIGGERS)
    listed = dead_letters("list", "--project", project)
    assert listed.exit_code == 0
    assert listed.stderr.startswith("there does not tell its dead letters: ")
    assert "; try again in a moment" in listed.stderr
    assert listed.stdout.splitlines()[-1] == "1 dead letter"
    by_number = dead_letters("replay", "1", "--project", project)
    assert isinstance(by_number.exception, LabError)
    assert "numbers may be others while there cannot be read; name the letter by its id" in str(by_number.exception)
    assert dead_letters("replay", name, "--project", project).exit_code == 0
    assert left(project) == []
    assert dead_letters("replay", "--all", "--project", project).exit_code == 1  # those of `there` are left


def test_a_letter_that_is_none_is_told_like_a_node_that_does_not_answer(
    project: str, three: list[str], store: Store
) -> None:
    store.run(lambda client: client.xadd(DEAD_LETTERS, {"reason": "none"}))
    result = dead_letters("list", "--project", project)
    assert result.exit_code == 0
    assert result.stderr.startswith("here does not tell its dead letters: entry ")
    assert result.stdout.splitlines()[-1] == "1 dead letter"


def test_letters_are_listed_page_by_page_without_their_data(
    project: str, keep: Keep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libskylark.eventing.letters._PAGE_BYTES", 2**20)
    pictures = [Event.new("t", "/s", b"x" * size, id=str(size)) for size in (2**20, 2**21, 0, 1, 2**19)]
    names = [keep("here", event, second, "count") for second, event in enumerate(pictures)]

    def sent_bytes() -> int:
        return int(store.run(lambda client: client.info("stats"))["total_net_output_bytes"])

    before = sent_bytes()
    letters = report("list", "--project", project)["letters"]
    assert [(letter["id"], letter["size_bytes"]) for letter in letters] == [
        (name, len(event.data)) for name, event in zip(names, pictures, strict=True)
    ]
    assert sent_bytes() - before < 2**19


def test_without_a_lab_there_are_no_dead_letters(tmp_path: Path) -> None:
    assert isinstance(dead_letters("list", "--project", str(tmp_path)).exception, LabError)
