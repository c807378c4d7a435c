"""One process' deliveries, with a stream that a test can see into: memory, missing Triggers, and faults of ours."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider
from yarl import URL

from libskylark import tracing
from libskylark.event import Event
from libskylark.eventing.delivery import Courier
from libskylark.eventing.dispatch import Dispatcher
from libskylark.eventing.entry import Content, Entry
from libskylark.eventing.intake import Intake
from libskylark.eventing.loading import load_objects
from libskylark.eventing.metrics import BrokerMetrics
from libskylark.eventing.readdressing import Readdresser
from libskylark.eventing.resolve import Target
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.stream import Stream
from libskylark.eventing.subscriptions import Subscription
from libskylark.eventing.writes import Settlement
from libskylark.testing import FakeClock
from tests.eventing.conftest import free_port, trigger

WAIT_S = 20.0
BODY_BYTES = 256 * 1024
ANSWERS = {
    200: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
    202: b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
}
REPLY = b"HTTP/1.1 203 Reply\r\nContent-Length: 0\r\nce-specversion: 1.0\r\nce-id: r\r\nce-source: /f\r\nce-type: u\r\n"
TRACE = f"00-{'a' * 32}-"


class Body(bytes):
    """A body that is counted as long as anybody holds it."""

    alive = 0

    def __init__(self, *_: Any) -> None:
        Body.alive += 1

    def __del__(self) -> None:
        Body.alive -= 1


class Shelf:
    """A stream that has every event, and keeps what is settled."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[Settlement] = asyncio.Queue()
        self.most_bodies = 0
        self.stored: list[asyncio.Future[list[str]]] = []
        self.stores = True
        self.faults: list[Exception] = []
        self.attributes: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    async def content(self, entry: Entry) -> Content | None:
        await asyncio.sleep(0)
        event = Event(Event.new("t", "/s", id=entry.id, **self.attributes).attributes, Body(BODY_BYTES))
        self.most_bodies = max(self.most_bodies, Body.alive)
        return Content(event, 255, 0.0, self.headers, "chain")

    def settle(self, settlement: Settlement) -> asyncio.Future[list[str]]:
        settlement.entry.remaining.discard(settlement.trigger)
        if self.faults:
            raise self.faults.pop()
        stored: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        if self.stores:
            stored.set_result([])
        self.stored.append(stored)
        self.ends.put_nowait(settlement)
        return stored

    async def next(self) -> tuple[str, str, str]:
        """(event, outcome, reason) of the next end."""
        record = json.loads((await self.ends.get()).record)
        return record["event"], record["outcome"], record.get("reason", "")


class Subscriber:
    """Answers with the statuses of a script, then with the last of them; `gate` lets the answers go."""

    def __init__(self, *statuses: int, reply: bytes = b"") -> None:
        """`reply` are further headers of the event that a 203 answers with."""
        self.statuses = [*statuses]
        self.answers = {**ANSWERS, 203: REPLY + reply + b"\r\n"}
        self.received = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.got: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while size:
                    size -= len(await reader.read(min(size, 65536)))
                self.received += 1
                self.got.put_nowait(head)
                await self.gate.wait()
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                writer.write(self.answers.get(status, f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the broker has ended, or the test
        finally:
            writer.close()


class Lab:
    """A dispatcher, its stream, and a subscriber."""

    def __init__(self, shelf: Shelf, dispatcher: Dispatcher, subscriber: Subscriber, url: str) -> None:
        self.shelf, self.dispatcher, self.subscriber, self.url = shelf, dispatcher, subscriber, url

    def subscription(self, name: str, **policy: Any) -> Subscription:
        backoff = {"backoff_s": 0.001, "exponential": False, **policy}
        return Subscription(f"default/{name}", "default", Target(URL(self.url)), RetryPolicy(**backoff))

    def offer(self, name: str, *triggers: str, partition: str | None = None) -> Entry:
        entry = Entry(name, partition, {f"default/{each}" for each in triggers}, None, BODY_BYTES)
        self.dispatcher.dispatch(entry)
        return entry


@asynccontextmanager
async def opened(folder: Path, subscriber: Subscriber, **options: Any) -> AsyncIterator[Lab]:
    file = folder / "objects.yaml"
    file.write_text(trigger("t", "http://127.0.0.1/"))
    clock = FakeClock()
    shelf, intake = Shelf(), Intake(load_objects([file]), clock)
    listening = await asyncio.start_server(subscriber.serve, "127.0.0.1", 0)
    async with listening, Courier() as courier:
        readdresser = Readdresser(URL("http://127.0.0.1:9/"), courier, intake, clock, 5.0, 5.0)
        dispatcher = Dispatcher([], intake, courier, readdresser, clock, BrokerMetrics("here"), **options)
        dispatcher.attach(cast(Stream, shelf))
        yield Lab(shelf, dispatcher, subscriber, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/")
        await dispatcher.close(0.0)


def run(folder: Path, subscriber: Subscriber, test: Callable[[Lab], Awaitable[None]], **options: Any) -> None:
    async def limited() -> None:
        async with opened(folder, subscriber, **options) as lab:
            await asyncio.wait_for(test(lab), WAIT_S)

    asyncio.run(limited())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def no_collection() -> Any:
    """What is held in a cycle counts as held."""
    gc.collect()
    gc.disable()
    before, Body.alive = Body.alive, 0
    yield
    gc.enable()
    assert before == 0


@pytest.mark.parametrize("statuses", [(503,) * 150 + (202,), (503,)])
def test_bodies_of_failing_deliveries_stay_within_the_bound(
    tmp_path: Path, statuses: tuple[int, ...], no_collection: None
) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("t", retries=3), lab.subscription("u", retries=3)])
        for number in range(60):
            lab.offer(str(number), "t", "u")
        outcomes = {(await lab.shelf.next())[1] for _ in range(120)}
        assert outcomes <= {"delivered", "dead-lettered"}
        await settle()
        assert lab.subscriber.received >= 270
        # Settlements that the test has taken are gone; what is left would be held by nobody but us.
        assert Body.alive == 0
        assert 4 <= lab.shelf.most_bodies <= 8 + 2, "the limit, and one for each Trigger"

    run(tmp_path, Subscriber(*statuses), check, lent_bytes=8 * BODY_BYTES)


def test_nothing_is_held_while_deliveries_wait_for_their_next_attempt(tmp_path: Path, no_collection: None) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("t", backoff_s=3600.0)])
        for number in range(40):
            lab.offer(str(number), "t")
        for _ in range(40):
            await lab.subscriber.got.get()
        while Body.alive:
            await asyncio.sleep(0.001)
        assert lab.shelf.ends.empty()

    run(tmp_path, Subscriber(503), check)


def test_nothing_of_an_attempt_that_breaks_off_is_held(tmp_path: Path, no_collection: None) -> None:
    async def check(lab: Lab) -> None:
        refused = lab.subscription("refused", backoff_s=3600.0)
        refused = replace(refused, target=Target(URL(f"http://127.0.0.1:{free_port()}/")))
        late = lab.subscription("late", backoff_s=3600.0, timeout_s=0.01)
        lab.dispatcher.exchange([refused, late])
        lab.subscriber.gate.clear()
        for name in ("1", "2"):
            lab.offer(name, "refused", "late")
        while not lab.shelf.most_bodies or Body.alive:
            await asyncio.sleep(0.001)
        assert lab.subscriber.received == 2

    run(tmp_path, Subscriber(503), check)


def test_long_answers_are_read_no_faster_than_they_are_stored(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        data = bytes(9 * 1024 * 1024)
        lab.subscriber.answers[203] = REPLY.replace(b"Length: 0", b"Length: %d" % len(data)) + b"\r\n" + data
        lab.shelf.stores = False
        lab.dispatcher.exchange([lab.subscription("t")])
        for number in range(10):
            lab.offer(str(number), "t")
        for _ in range(8):  # what has room, and one beyond
            assert (await lab.shelf.next())[1] == "replied"
        assert lab.dispatcher._answers.held_bytes > 8 * len(data)
        await settle()
        assert lab.shelf.ends.empty()
        lab.shelf.stores = True
        for stored in lab.shelf.stored:
            stored.set_result([])
        for _ in range(2):
            assert (await lab.shelf.next())[1] == "replied"

    run(tmp_path, Subscriber(203), check)


def test_letters_count_until_they_are_stored(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.shelf.stores = False
        lab.dispatcher.exchange([lab.subscription("t", retries=0)])
        for number in range(20):
            lab.offer(str(number), "t")
        for _ in range(2):
            await lab.shelf.next()
        await settle()
        assert lab.shelf.ends.empty()
        lab.shelf.stores = True
        for stored in [*lab.shelf.stored]:
            stored.set_result([])
        for _ in range(18):
            await lab.shelf.next()

    run(tmp_path, Subscriber(400), check, lent_bytes=4 * BODY_BYTES)


def test_an_event_for_a_trigger_that_is_not_read_yet_waits_for_it(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("other")])
        for name in ("1", "2"):
            lab.offer(name, "new", partition="p")
        lab.offer("3", "other")
        assert await lab.shelf.next() == ("3", "delivered", "")
        assert lab.shelf.ends.empty()
        lab.dispatcher.begin_anew()
        for name in ("1", "2"):
            lab.offer(name, "new", partition="p")
        lab.dispatcher.exchange([lab.subscription("other"), lab.subscription("new")])
        assert [await lab.shelf.next() for _ in range(2)] == [("1", "delivered", ""), ("2", "delivered", "")]

    run(tmp_path, Subscriber(202), check, patience_s=3600.0)


def test_a_trigger_that_does_not_come_is_waited_for_once(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        dead = ("dead-lettered", "no Trigger default/new any more")
        for name in ("1", "2"):
            lab.offer(name, "new")
        assert {await lab.shelf.next() for _ in range(2)} == {("1", *dead), ("2", *dead)}
        lab.offer("3", "new")
        await settle()
        assert await lab.shelf.next() == ("3", *dead)
        lab.dispatcher.exchange([lab.subscription("new")])
        lab.offer("4", "new")
        assert await lab.shelf.next() == ("4", "delivered", "")

    run(tmp_path, Subscriber(202), check, patience_s=0.01)


def test_a_stop_does_not_wait_for_triggers_nor_for_room(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("t")])
        lab.subscriber.gate.clear()
        lab.offer("1", "new")
        for name in ("2", "3"):
            lab.offer(name, "t")
        await lab.subscriber.got.get()
        closing = asyncio.create_task(lab.dispatcher.close(3600.0))
        await settle()
        lab.subscriber.gate.set()
        await closing
        assert await lab.shelf.next() == ("2", "delivered", "")
        assert lab.shelf.ends.empty()

    run(tmp_path, Subscriber(202), check, patience_s=3600.0, lent_bytes=BODY_BYTES)


def test_a_removed_trigger_ends_its_deliveries_after_the_attempt_or_in_the_pause(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("t", backoff_s=3600.0)])
        lab.offer("paused", "t")
        await lab.subscriber.got.get()
        await asyncio.sleep(0)
        lab.subscriber.gate.clear()
        lab.offer("under way", "t")
        await lab.subscriber.got.get()
        lab.dispatcher.exchange([])
        reason = "no Trigger default/t any more"
        assert await lab.shelf.next() == ("paused", "dead-lettered", reason)
        lab.subscriber.gate.set()
        settlement = await lab.shelf.ends.get()
        record = json.loads(settlement.record)
        assert (record["attempts"], record["status"], record["reason"]) == (1, 503, reason)
        assert len(settlement.letters[0].content.event.data) == BODY_BYTES

    run(tmp_path, Subscriber(503), check)


def test_an_end_that_cannot_be_written_becomes_a_dead_letter(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("t")])
        lab.shelf.faults = [TypeError("no JSON")]
        entry = lab.offer("1", "t")
        assert await lab.shelf.next() == ("1", "dead-lettered", "broker fault: TypeError('no JSON')")
        assert not entry.remaining

    run(tmp_path, Subscriber(202), check)


def test_an_event_whose_end_cannot_be_stored_at_all_stays_and_holds_up_nobody(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([lab.subscription("t")])
        lab.shelf.faults = [TypeError("no JSON"), TypeError("none at all")]
        first = lab.offer("1", "t", partition="p")
        lab.offer("2", "t", partition="p")
        assert await lab.shelf.next() == ("2", "delivered", "")
        assert first.remaining == {"default/t"}, "a restart delivers it"

    run(tmp_path, Subscriber(202), check, in_flight=1)


def with_sink(lab: Lab, **policy: Any) -> Subscription:
    """A subscription whose dead letters go where its events go."""
    return replace(lab.subscription("t", **policy), sink=Target(URL(lab.url)))


def test_a_dead_letter_sink_may_answer_what_it_likes(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([with_sink(lab)])
        lab.offer("1", "t")
        settlement = await lab.shelf.ends.get()
        assert json.loads(settlement.record)["outcome"] == "dead-lettered"
        assert settlement.letters == []
        assert lab.subscriber.received == 2

    run(tmp_path, Subscriber(400, 200), check)


@pytest.mark.parametrize("retries", [0, 5])
def test_a_dead_letter_sink_is_tried_as_often_as_the_subscriber(tmp_path: Path, retries: int) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([with_sink(lab, retries=retries)])
        lab.offer("1", "t")
        assert len((await lab.shelf.ends.get()).letters) == 1
        assert lab.subscriber.received == 1 + 1 + retries

    run(tmp_path, Subscriber(400, 503), check)


def test_changed_objects_use_up_no_tries_of_a_dead_letter_sink(tmp_path: Path) -> None:
    async def check(lab: Lab) -> None:
        lab.dispatcher.exchange([with_sink(lab, backoff_s=3600.0)])
        lab.offer("dead", "t")
        for _ in range(2):
            await lab.subscriber.got.get()
        while lab.dispatcher.queues()["default/t"].waiting != 1:
            await asyncio.sleep(0.001)
        for retries in range(2, 8):
            lab.dispatcher.exchange([with_sink(lab, retries=retries)])
        for name in ("1", "2"):
            lab.offer(name, "t")
            assert await lab.shelf.next() == (name, "delivered", "")
        assert lab.subscriber.received == 4
        assert lab.dispatcher.queues()["default/t"].waiting == 1

    run(tmp_path, Subscriber(400, 503, 202), check)


@pytest.mark.parametrize(
    ("reply", "sent", "passed"),
    [
        (f"ce-traceparent: {TRACE}{'2' * 16}-01", "", "2"),
        (f"ce-traceparent: {TRACE}{'2' * 16}-01\r\ntraceparent: {TRACE}{'3' * 16}-01", "", "3"),
        (f"ce-traceparent: {TRACE}{'4' * 16}-01", f"{TRACE}{'4' * 16}-01", "1"),
        ("ce-traceparent: soon", "", "1"),
        ("ce-a: b", "", "1"),
    ],
)
def test_a_reply_hangs_under_the_span_that_it_names_else_under_the_requests(
    tmp_path: Path, reply: str, sent: str, passed: str
) -> None:
    async def check(lab: Lab) -> None:
        lab.shelf.headers = {"traceparent": f"{TRACE}{'1' * 16}-01"}
        lab.shelf.attributes = {"traceparent": sent} if sent else {}
        lab.dispatcher.exchange([lab.subscription("t")])
        lab.offer("1", "t")
        answer = (await lab.shelf.ends.get()).reply
        assert answer is not None
        assert answer.content.headers == {"traceparent": f"{TRACE}{passed * 16}-01"}

    run(tmp_path, Subscriber(203, reply=f"{reply}\r\n".encode()), check)


def test_a_reply_without_a_span_hangs_under_its_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(lab: Lab) -> None:
        lab.shelf.headers = {"traceparent": f"{TRACE}{'1' * 16}-01"}
        lab.dispatcher.exchange([lab.subscription("t")])
        lab.offer("1", "t")
        answer = (await lab.shelf.ends.get()).reply
        assert answer is not None
        under = answer.content.headers["traceparent"]
        assert f"traceparent: {under}\r\n" in (await lab.subscriber.got.get()).decode()
        assert under.startswith(TRACE)
        assert "1" * 16 not in under

    monkeypatch.setattr(tracing, "_tracer", TracerProvider().get_tracer("test"))
    run(tmp_path, Subscriber(203), check)
