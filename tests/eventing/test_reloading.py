"""Changed files under a running broker: every kind of change, with events on their way, and nothing lost."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libskylark.clock import Ticks
from libskylark.errors import ConfigError, DocumentError
from libskylark.event import Event, to_http
from libskylark.eventing.journal import Accepted, Outcome, Record
from libskylark.eventing.loading import Objects, load_objects
from libskylark.eventing.reloading import Reloader
from libskylark.eventing.resolve import Here, NoServices
from libskylark.eventing.watching import Stand, Watch, deserted, emptied, stand_of
from libskylark.eventing.wiring import Wiring, wire
from tests.eventing.conftest import (
    ACCEPT,
    Broker,
    Delivery,
    Journal,
    Lab,
    RedisServer,
    Reply,
    eventually,
    trigger,
)

FAST = "delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.02S}"
BROKER = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: NAME}\n"


BRISK = str(Path(__file__).with_name("brisk.py"))


class Running:
    """A broker whose objects are the files of a folder; it looks at them often, unless it is to be patient."""

    def __init__(
        self, lab: Lab, folder: Path, files: dict[str, str], patient: bool = False, **environment: str
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        for name, text in files.items():
            (folder / name).write_text(text)
        self.store: RedisServer = lab.redis()
        config = "" if patient else BRISK
        self.broker: Broker = lab.broker(
            self.store, "", True, SKYLARK_OBJECTS=str(folder), config=config, **environment
        )
        self.journal = Journal(self.store)
        self._told = 0

    def put(self, name: str, text: str) -> None:
        """Writes a file as editors do: beside it, and renamed."""
        beside = self.folder / f".{name}.tmp"
        beside.write_text(text)
        beside.rename(self.folder / name)

    def until_told(self, text: str) -> str:
        """The rest of the message's line, once the broker has logged `text` anew."""

        def found() -> str | None:
            messages = self.messages()
            for number in range(self._told, len(messages)):
                if text in messages[number]:
                    self._told = number + 1
                    return messages[number].partition(text)[2].partition("\n")[0]
            return None

        return str(eventually(found, f"the broker logs {text!r}"))

    def messages(self) -> list[str]:
        """What the broker has logged, apart from what its server has."""
        lines = self.broker.log.read_text().splitlines(keepends=True)
        return [json.loads(line)["message"] for line in lines if line.startswith("{") and line.endswith("\n")]

    def until_reloaded(self) -> str:
        return self.until_told("objects reloaded: ")

    def send(self, kind: str, identity: str, path: str = "/default/default", **attributes: str) -> None:
        event = Event.new(kind, "/test", id=identity, **attributes)
        assert self.broker.send(event, path)[0] == 202

    def outcomes(self, identity: str, count: int = 1) -> list[tuple[str, str]]:
        found = self.journal.outcomes(identity, count)
        return sorted((each.trigger.removeprefix("default/"), each.outcome) for each in found)


Start = Callable[..., Running]


@pytest.fixture
def start(lab: Lab, tmp_path: Path) -> Start:
    def start(files: dict[str, str], folder: Path = tmp_path / "objects", **options: Any) -> Running:
        return Running(lab, folder, files, **options)

    return start


class Gate:
    """A subscriber's answer that waits until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, delivery: Delivery) -> Reply:
        self.entered.set()
        assert self.opened.wait(20)
        return ACCEPT


class Load:
    """Sends events of every kind without a pause, and counts those that were accepted."""

    def __init__(self, running: Running, *kinds: str) -> None:
        self.accepted: list[str] = []
        self.refused: list[int] = []
        self._running, self._kinds = running, kinds
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        number = 0
        while not self._ends.is_set():
            kind = self._kinds[number % len(self._kinds)]
            event = Event.new(kind, "/load", id=f"load-{number}", partitionkey=f"p{number % 5}", sequence=str(number))
            if (status := self._running.broker.send(event)[0]) == 202:
                self.accepted.append(event.id)
            else:
                self.refused.append(status)
            number += 1

    def until_more(self, count: int = 50) -> None:
        goal = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= goal, f"{goal} events are accepted")

    def end(self) -> list[str]:
        self._ends.set()
        self._thread.join()
        assert self.refused == []
        return self.accepted


def until_all_end(running: Running, identities: list[str]) -> dict[str, list[Outcome]]:
    """The outcomes of every event, one for each Trigger that it was accepted for; fails where one has two."""
    wanted = set(identities)

    def ended(seen: list[Record]) -> dict[str, list[Outcome]] | None:
        to = {each.event: each.to for each in seen if isinstance(each, Accepted) and each.event in wanted}
        found: dict[str, list[Outcome]] = {identity: [] for identity in to}
        for each in seen:
            if isinstance(each, Outcome) and each.event in found:
                found[each.event].append(each)
        complete = len(to) == len(wanted) and all(len(found[each]) >= len(to[each]) for each in to)
        return found if complete else None

    outcomes: dict[str, list[Outcome]] = running.journal.until(ended)
    accepted = {each.event: each for each in running.journal.seen if isinstance(each, Accepted)}
    for identity, found in outcomes.items():
        assert sorted(each.trigger for each in found) == sorted(accepted[identity].to)
    return outcomes


def test_triggers_come_change_and_go_under_load_and_every_event_ends_once(start: Start, lab: Lab) -> None:
    steady, first, second, added = (lab.subscriber() for _ in range(4))
    running = start({"steady.yaml": trigger("steady", steady.url, type="a"), "b.yaml": trigger("b", first.url, FAST)})
    load = Load(running, "a", "b")
    load.until_more()
    running.put("b.yaml", trigger("b", second.url, FAST))
    assert running.until_reloaded() == "changed Trigger default/b"
    load.until_more()
    running.put("new.yaml", trigger("new", added.url, type="a"))
    assert running.until_reloaded() == "added Trigger default/new"
    load.until_more()
    (running.folder / "b.yaml").unlink()
    assert running.until_reloaded() == "removed Trigger default/b"
    load.until_more()
    outcomes = until_all_end(running, load.end())
    ends = {(each.trigger, each.outcome) for found in outcomes.values() for each in found}
    assert {("default/steady", "delivered"), ("default/b", "delivered"), ("default/new", "delivered")} <= ends
    assert ends <= {(f"default/{name}", "delivered") for name in ("steady", "b", "new")} | {
        ("default/b", "dead-lettered")
    }
    got = [delivery.event for delivery in [*steady.received.queue]]
    assert len(got) == sum(each.trigger == "default/steady" for found in outcomes.values() for each in found)
    for key in {event.attributes["partitionkey"] for event in got}:
        order = [int(event.attributes["sequence"]) for event in got if event.attributes["partitionkey"] == key]
        assert order == sorted(order), f"events of {key} were overtaken"
    assert not added.received.empty()
    assert not second.received.empty()


def test_a_new_subscriber_gets_what_waits_for_the_next_attempt_in_order(start: Start, lab: Lab) -> None:
    broken = lab.subscriber(lambda delivery: (503, {}, b""))
    running = start({"t.yaml": trigger("t", broken.url, FAST)})
    identities = [f"e{number}" for number in range(30)]
    for identity in identities:
        running.send("t", identity, partitionkey="one")
    broken.next()
    good = lab.subscriber()
    running.put("t.yaml", trigger("t", good.url, FAST))
    assert [good.next().event.id for _ in identities] == identities
    outcomes = until_all_end(running, identities)
    assert {each.outcome for found in outcomes.values() for each in found} == {"delivered"}
    assert outcomes["e0"][0].attempts > 1
    assert {event.event.id for event in [*broken.received.queue]} <= {"e0"}


def test_a_changed_policy_and_sink_hold_for_what_waits(start: Start, lab: Lab) -> None:
    broken, sink = lab.subscriber(lambda delivery: (503, {}, b"")), lab.subscriber()
    running = start({"t.yaml": trigger("t", broken.url, FAST)})
    running.send("t", "1")
    broken.next()
    delivery = f"delivery: {{retry: 0, deadLetterSink: {{uri: '{sink.url}'}}}}"
    running.put("t.yaml", trigger("t", broken.url, delivery))
    assert running.until_reloaded() == "changed Trigger default/t"
    assert sink.next().event.id == "1"
    assert running.outcomes("1") == [("t", "dead-lettered")]


def test_what_waits_for_a_removed_trigger_is_kept_and_what_is_under_way_ends(start: Start, lab: Lab) -> None:
    gate, replies = Gate(), lab.subscriber()
    slow = lab.subscriber(lambda delivery: (gate(delivery), (200, *_reply()))[1])
    files = {"slow.yaml": trigger("slow", slow.url), "back.yaml": trigger("back", replies.url)}
    running = start(files)
    running.send("slow", "under-way", partitionkey="one")
    assert gate.entered.wait(15)
    running.send("slow", "waiting", partitionkey="one")
    (running.folder / "slow.yaml").unlink()
    assert running.until_reloaded() == "removed Trigger default/slow"
    running.send("slow", "later")
    gate.opened.set()
    assert running.outcomes("under-way") == [("slow", "replied")]
    assert replies.next().event.id == "back"
    assert running.outcomes("waiting") == [("slow", "dead-lettered")]
    letter = running.store.last_dead_letter()
    assert (letter["trigger"], letter["reason"]) == ("default/slow", "no Trigger default/slow any more")
    assert running.journal.accepted("later").to == ()
    assert slow.received.qsize() == 1


def _reply() -> tuple[dict[str, str], bytes]:
    headers = {"ce-specversion": "1.0", "ce-type": "back", "ce-source": "/slow", "ce-id": "back"}
    return headers, b""


def test_an_accepted_event_keeps_its_triggers_and_a_new_one_gets_new_events_only(start: Start, lab: Lab) -> None:
    gate, other = Gate(), lab.subscriber()
    held = lab.subscriber(gate)
    running = start({"t.yaml": trigger("t", held.url, type="x")})
    for number in range(20):
        running.send("x", f"old{number}")
    assert gate.entered.wait(15)
    # The filter of a Trigger changes, too: what it was accepted for goes there all the same.
    running.put("t.yaml", trigger("t", held.url, type="y") + trigger("u", other.url, type="x"))
    assert running.until_reloaded() == "added Trigger default/u; changed Trigger default/t"
    running.send("x", "new")
    gate.opened.set()
    assert running.outcomes("new") == [("u", "delivered")]
    for number in range(20):
        assert running.outcomes(f"old{number}") == [("t", "delivered")]
    assert other.received.qsize() == 1


def test_a_broker_comes_and_goes(start: Start, lab: Lab) -> None:
    subscriber = lab.subscriber()
    running = start({"b.yaml": BROKER.replace("NAME", "default")})
    assert running.broker.send(Event.new("t", "/test"), "/default/other")[0] == 404
    other = trigger("t", subscriber.url).replace("broker: default", "broker: other")
    running.put("other.yaml", f"{BROKER.replace('NAME', 'other')}{other}")
    assert running.until_reloaded() == "added Broker default/other; added Trigger default/t"
    running.send("t", "1", "/default/other")
    assert subscriber.next().event.id == "1"
    headers, body = to_http(Event.new("t", "/test", data={"a": 1}))
    with closing(http.client.HTTPConnection(running.broker.host, running.broker.port, timeout=10)) as connection:
        connection.putrequest("POST", "/default/other")
        for name, value in {**headers, "content-length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(body[:1])
        (running.folder / "other.yaml").unlink()
        assert running.until_reloaded() == "removed Broker default/other; removed Trigger default/t"
        connection.send(body[1:])
        assert connection.getresponse().status == 404
    assert running.broker.send(Event.new("t", "/test"), "/default/other")[0] == 404


FAULTY = {
    "t.yaml:2: not YAML": "kind: [Trigger\n",
    "t.yaml: has become empty, as if half written; to remove its objects, delete the file": "",
    "t.yaml:9: spec.delivery.retry: found -1": trigger("t", "http://127.0.0.1/", "delivery: {retry: -1}"),
    "t.yaml:8: spec.subscriber: Service 'nobody' cannot be found": trigger("t", "nobody"),
    "t.yaml:6: spec.broker: found 'two', was 'default', which cannot change": trigger("t", "http://127.0.0.1/").replace(
        "broker: default", "broker: two"
    ),
}


def test_faulty_files_are_told_once_and_change_nothing(start: Start, lab: Lab) -> None:
    subscriber = lab.subscriber()
    files = {"t.yaml": trigger("t", subscriber.url), "two.yaml": BROKER.replace("NAME", "two")}
    running = start({**files, "b.yaml": BROKER.replace("NAME", "default")})
    running.put("good.yaml", trigger("good", subscriber.url))  # refused with the rest: a change is taken whole
    for number, (fault, text) in enumerate(FAULTY.items()):
        running.put("t.yaml", text)
        assert running.until_told("changed files are faulty; ") == "the objects in force stay:"
        assert fault in running.messages()[-1]
        running.send("t", f"{number}")
        running.send("good", f"good{number}")
        assert running.outcomes(f"{number}") == [("t", "delivered")]
        assert running.journal.accepted(f"good{number}").to == ()
    running.put("t.yaml", files["t.yaml"])
    assert running.until_reloaded() == "added Trigger default/good"
    assert sum("changed files are faulty" in message for message in running.messages()) == len(FAULTY)


def test_a_file_that_is_written_bit_by_bit_is_read_when_it_is_whole(start: Start, lab: Lab) -> None:
    subscriber = lab.subscriber()
    running = start({"t.yaml": trigger("t", subscriber.url)}, patient=True)
    text = trigger("t", subscriber.url) + trigger("u", subscriber.url)
    pace = threading.Event()
    with (running.folder / "t.yaml").open("w") as file:
        for at in range(0, len(text), 10):
            file.write(text[at : at + 10])
            file.flush()
            pace.wait(0.05)
    assert running.until_reloaded() == "added Trigger default/u"
    assert "faulty" not in running.broker.log.read_text()


def test_a_mounted_config_map_is_followed(start: Start, lab: Lab, tmp_path: Path) -> None:
    """Kubernetes puts the files into a hidden folder, and swaps the link to it."""
    first, second = lab.subscriber(), lab.subscriber()
    volume = tmp_path / "volume"
    volume.mkdir()

    def publish(name: str, text: str) -> None:
        (volume / name).mkdir()
        (volume / name / "t.yaml").write_text(text)
        (volume / "..data_tmp").symlink_to(name)
        os.rename(volume / "..data_tmp", volume / "..data")

    publish("..2026_11_24_1", trigger("t", first.url))
    (volume / "t.yaml").symlink_to("..data/t.yaml")
    running = start({}, volume, patient=True)
    running.send("t", "1")
    assert first.next().event.id == "1"
    publish("..2026_11_24_2", trigger("t", second.url))
    assert running.until_reloaded() == "changed Trigger default/t"
    running.send("t", "2")
    assert second.next().event.id == "2"


def ping(name: str, data: str) -> str:
    return f"""---
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {{name: {name}}}
spec:
  data: {data}
  sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}}
"""


def test_ping_sources_change_and_stop_without_a_tick_too_many(start: Start, lab: Lab) -> None:
    ticks = lab.subscriber()
    files = {
        "t.yaml": trigger("tick", ticks.url, type="dev.knative.sources.ping"),
        "same.yaml": ping("same", "same"),
        "other.yaml": ping("other", "before"),
    }
    running = start(files, SKYLARK_PING_SOURCES="on", SKYLARK_TICK="500ms")
    got: list[tuple[str, str, int]] = []

    def take_until(source: str, data: str, count: int = 2) -> None:
        missing = count
        while missing:
            delivery = ticks.next()
            name = delivery.event.source.rpartition("/")[2]
            epoch = delivery.event.epoch
            assert epoch is not None
            got.append((name, delivery.body.decode(), epoch))
            missing -= got[-1][:2] == (source, data)

    take_until("other", "before")
    running.put("other.yaml", ping("other", "after"))
    assert running.until_reloaded() == "changed PingSource default/other"
    take_until("other", "after")
    (running.folder / "other.yaml").unlink()
    assert running.until_reloaded() == "removed PingSource default/other"
    removed = Ticks(0.5).epoch_at(time.time())
    while max(epoch for name, _, epoch in got if name == "same") < removed + 3:
        take_until("same", "same", 1)
    assert max(epoch for name, _, epoch in got if name == "other") <= removed
    fired = [(name, epoch) for name, _, epoch in got]
    assert len(fired) == len(set(fired)), "no source has two ticks in one epoch"


def test_a_worker_that_is_killed_after_a_change_starts_with_it(start: Start, lab: Lab) -> None:
    broken, good = lab.subscriber(lambda delivery: (503, {}, b"")), lab.subscriber()
    running = start({"t.yaml": trigger("t", broken.url, FAST)})
    running.send("t", "1")
    broken.next()
    running.put("t.yaml", trigger("t", good.url, FAST))
    running.broker.kill_worker()
    assert good.next().event.id == "1"


def test_emptied_files_are_those_that_had_something_in_them(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("x" if name == "a.yaml" else "")
    before = stand_of([tmp_path])
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "c.yaml").write_text("")
    assert emptied(before, stand_of([tmp_path])) == [str(tmp_path / "a.yaml")]


def test_a_file_is_another_though_its_size_and_time_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    before, status = stand_of([tmp_path]), file.stat()
    file.write_text("two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    written = stand_of([tmp_path])
    file.chmod(0o600)
    assert before != written != stand_of([tmp_path]) != before


def test_deserted_folders_are_those_that_had_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "deep").mkdir()
    (tmp_path / "a" / "deep" / "x.yaml").write_text("x")
    (tmp_path / "b" / "x.yaml").write_text("x")
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    before = stand_of(paths)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b" / "x.yaml").rename(tmp_path / "b" / "kustomization.yaml")
    assert deserted(paths, before, stand_of(paths)) == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_a_folder_that_is_empty_or_gone_changes_nothing(start: Start, lab: Lab) -> None:
    subscriber = lab.subscriber()
    files = {"t.yaml": trigger("t", subscriber.url), "u.yaml": trigger("u", subscriber.url)}
    running = start(files)
    unmounted = running.folder.with_name("unmounted")
    running.folder.rename(unmounted)
    running.until_told("changed files are faulty; ")
    assert f"{running.folder}: has no object files any more" in running.messages()[-1]
    running.folder.mkdir()
    running.send("t", "1")
    assert running.outcomes("1") == [("t", "delivered")]
    (unmounted / "u.yaml").unlink()
    running.folder.rmdir()
    unmounted.rename(running.folder)
    assert running.until_reloaded() == "removed Trigger default/u"
    (running.folder / "none.yaml").write_text("# None for now.\n")
    assert running.until_reloaded() == "none is different"
    (running.folder / "t.yaml").unlink()
    assert running.until_reloaded() == "removed Trigger default/t"


class Attempts:
    """A Reloader of a folder on a clock that stands still, whose first loads fail although no file is at fault."""

    def __init__(self, folder: Path, failing: str, failures: int) -> None:
        self.looks, self.reads, self.wires = 0, 0, 0
        self.exchanged = asyncio.Event()
        self._failing, self._failures = failing, failures
        self._folder = folder
        watch = Watch([folder], self._sleep)
        wiring = wire(load_objects([folder]), Here("here", "127.0.0.1", 8090), NoServices())
        self._reloader = Reloader(wiring, watch, self._read, self._wire, lambda wiring: self.exchanged.set())

    async def run(self) -> None:
        task = asyncio.create_task(self._reloader.run())
        await asyncio.wait_for(self.exchanged.wait(), 20)
        task.cancel()

    async def _sleep(self, delay_s: float) -> None:
        self.looks += 1

    def _read(self) -> Objects:
        self.reads += 1
        self._fail("read")
        return load_objects([self._folder])

    def _wire(self, objects: Objects) -> Wiring:
        self.wires += 1
        self._fail("wire")
        return wire(objects, Here("here", "127.0.0.1", 8090), NoServices())

    def _fail(self, step: str) -> None:
        if self._failing == step and self._failures:
            self._failures -= 1
            raise ConfigError("too many open files")


@pytest.mark.parametrize(("failing", "reads", "wires"), [("read", 4, 1), ("wire", 1, 4)])
def test_what_failed_for_another_reason_is_tried_again_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, failing: str, reads: int, wires: int
) -> None:
    (tmp_path / "t.yaml").write_text(trigger("t", "http://127.0.0.1:9/"))
    attempts = Attempts(tmp_path, failing, failures=3)
    (tmp_path / "u.yaml").write_text(trigger("u", "http://127.0.0.1:9/"))
    with caplog.at_level("INFO", "skylark.broker"):
        asyncio.run(attempts.run())
    assert (attempts.reads, attempts.wires) == (reads, wires)
    assert [record.getMessage() for record in caplog.records] == [
        "changed files are faulty; the objects in force stay:\ntoo many open files",
        "objects reloaded: added Trigger default/u",
    ]
    assert (attempts.looks > 90) is (failing == "read"), "files are read again seldom, addresses are looked up often"


def test_a_change_is_told_when_two_looks_in_a_row_agree(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    texts = iter(["one", "longer", "longest of all"])
    looks: list[str] = []

    async def sleep(delay_s: float) -> None:
        text = next(texts, None)
        looks.append(text or "")
        if text is not None:
            file.write_text(text)

    watch = Watch([tmp_path, tmp_path / "not-there"], sleep)
    stand = asyncio.run(watch.changed())
    assert looks == ["one", "longer", "longest of all", ""]
    assert stand == stand_of([tmp_path])


def test_where_nobody_can_look_for_now_the_change_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = iter([True, False, True])

    def look(paths: list[Path]) -> Stand:
        if next(fails, False):
            raise RuntimeError("can't start new thread")
        return stand_of(paths)

    (tmp_path / "t.yaml").write_text(trigger("t", "http://127.0.0.1:9/"))
    attempts = Attempts(tmp_path, failing="", failures=0)
    (tmp_path / "u.yaml").write_text(trigger("u", "http://127.0.0.1:9/"))
    monkeypatch.setattr("libskylark.eventing.watching.stand_of", look)
    asyncio.run(attempts.run())
    assert attempts.looks >= 5, "two in a row are to agree"
    assert caplog.text.count("cannot be watched; the objects in force stay") == 2


def test_the_error_of_a_folder_that_is_gone_names_it(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file or folder"):
        load_objects([tmp_path / "gone"])
