"""Events for a node that is gone: elect is asked for another one, and nothing is lost or overtaken meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from yarl import URL

from libskylark.clock import SystemClock, rfc3339
from libskylark.event import Event, to_http
from libskylark.eventing.delivery import Answer, Courier, Request
from libskylark.eventing.entry import Content, NewEntry
from libskylark.eventing.intake import Intake
from libskylark.eventing.journey import Journey, Step
from libskylark.eventing.loading import load_objects
from libskylark.eventing.readdressing import Elsewhere, Readdresser
from libskylark.eventing.retry import RetryPolicy
from libskylark.testing import FakeClock
from tests.eventing.conftest import (
    ACCEPT,
    Broker,
    Delivery,
    Journal,
    Lab,
    RedisServer,
    Reply,
    Subscriber,
    eventually,
    free_port,
    outcomes_of,
    trigger,
)

HOSTS = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4"}
FAST = "delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.01S}"
TRIGGERS = "".join(trigger(f"{node}-detect", f"{node}-detect", FAST, "frame", node) for node in "bc")

Answering = Callable[[Delivery], Reply]


def readdressed(delivery: Delivery, node: str = "c") -> Reply:
    """What elect answers: the event itself, addressed to another node."""
    return 200, *to_http(delivery.event.with_attributes(skylarknode=node))


@dataclass
class Nodes:
    """Node `a` with its elect; `b` and `c`, where detect runs, are started when a test asks for them."""

    lab: Lab
    port: str
    function_port: int
    elect: Subscriber
    environment: dict[str, str]
    stores: dict[str, RedisServer] = field(default_factory=dict)
    brokers: dict[str, Broker] = field(default_factory=dict)

    def start(self, node: str) -> None:
        """The broker of a node."""
        self.stores[node] = store = self.lab.redis(HOSTS[node])
        environment = {**self.environment, "NODE_NAME": node}
        self.brokers[node] = self.lab.broker(store, TRIGGERS, True, host=HOSTS[node], port=self.port, **environment)

    def detect(self, node: str, answer: Answering | None = None) -> Subscriber:
        """The broker of a node, and detect there."""
        function = self.lab.subscriber(answer, host=HOSTS[node], port=self.function_port)
        self.start(node)
        return function

    def send(self, number: int = 1, **attributes: str) -> Event:
        """An event for `b` that `a` has taken."""
        event = Event.new("frame", "/camera", id=str(number), skylarknode="b", correlationid="chain", **attributes)
        assert self.brokers["a"].send(event)[0] == 202
        return event

    def journal(self, node: str) -> Journal:
        return Journal(self.stores[node])

    def outcomes(self, node: str, event: Event, count: int = 1) -> list[tuple[str, str]]:
        """(outcome, trigger) of an event on a node, once there are so many."""
        return [(o.outcome, o.trigger.removeprefix("default/")) for o in self.journal(node).outcomes(event.id, count)]

    def journey(self) -> Journey:
        """The journey of the chain, once it has ended."""

        def ended() -> Journey | None:
            journey = Journey("chain")
            for node, store in self.stores.items():
                journal = Journal(store)
                journal.until(lambda seen: seen)
                for record in journal.seen:
                    journey.add(Step(node, record))
            return journey if journey.ended else None

        journey = eventually(ended, "the chain has ended")
        assert isinstance(journey, Journey)
        return journey

    def until_logged(self, text: str) -> None:
        eventually(lambda: text in self.brokers["a"].log.read_text(), f"a's broker logs {text!r}")


Start = Callable[..., Nodes]


@pytest.fixture
def start(lab: Lab, tmp_path: Path) -> Start:
    """`start(after)`: node `a`, which asks elect once a node was not reached for so long."""

    def start(after: str = "300ms") -> Nodes:
        function_port = free_port(HOSTS["b"])
        nodes = "".join(f"- {{name: {node}, type: Sat, ip: {host}}}\n" for node, host in HOSTS.items())
        constellation = tmp_path / "constellation.yaml"
        constellation.write_text(f"nodes:\n{nodes}functions:\n  detect: {{nodes: [b, c], port: {function_port}}}\n")
        service = lab.subscriber(readdressed, host=HOSTS["a"])
        environment = {
            "SKYLARK_CONSTELLATION": str(constellation),
            "SKYLARK_ELECT_PORT": str(service.port),
            "SKYLARK_ELECT_TIMEOUT": "5s",
            "SKYLARK_READDRESS_AFTER": after,
        }
        started = Nodes(lab, str(free_port(HOSTS["a"])), function_port, service, environment)
        started.start("a")
        return started

    return start


def test_an_event_whose_node_is_gone_is_delivered_on_another(start: Start) -> None:
    nodes = start()
    there = nodes.detect("c")
    event = nodes.send(skylarkkey="chain:b:camera")
    arrived = there.next().event
    assert arrived.attributes["skylarknode"] == "c"
    assert {**arrived.attributes, "skylarknode": "b", "knativearrivaltime": ""} == {
        **event.attributes,
        "knativearrivaltime": "",
    }
    asked = nodes.elect.next()
    assert (asked.path, asked.event.id) == ("/address?avoid=b", event.id)
    assert nodes.outcomes("a", event, 2) == [("readdressed", "b-detect"), ("forwarded", "c-detect")]
    (first, _) = nodes.journal("a").outcomes(event.id, 2)
    assert (first.status, first.reply) == (0, event.id)
    assert first.reason.startswith("b is gone: ")
    assert nodes.outcomes("c", event) == [("delivered", "c-detect")]
    assert nodes.journey().dead_lettered == []


def test_a_node_that_is_back_in_time_gets_its_event(start: Start) -> None:
    nodes = start(after="60s")
    event = nodes.send()
    nodes.until_logged("default/b-detect: http://127.0.0.3")
    assert nodes.detect("b").next().event.id == event.id
    assert nodes.outcomes("a", event) == [("forwarded", "b-detect")]
    assert nodes.elect.received.empty()


def test_while_elect_knows_nobody_the_event_is_tried_where_it_was(start: Start) -> None:
    nodes = start()
    nodes.elect.answer = lambda delivery: (503, {}, b"")
    event = nodes.send()
    nodes.until_logged("event 1 stays with b: elect: answered 503")
    assert nodes.detect("b").next().event.id == event.id
    assert nodes.outcomes("a", event) == [("forwarded", "b-detect")]


def test_without_elect_the_event_is_tried_where_it_was(start: Start) -> None:
    nodes = start()
    nodes.elect.close()
    event = nodes.send()
    nodes.until_logged("event 1 stays with b: elect: ")
    assert nodes.detect("b").next().event.id == event.id


def test_a_broker_that_is_killed_while_it_asks_elect_loses_nothing(start: Start) -> None:
    nodes = start()
    there = nodes.detect("c")
    first = iter([True])

    def kill_once(delivery: Delivery) -> Reply:
        if next(first, False):
            nodes.brokers["a"].kill_worker()
        return readdressed(delivery)

    nodes.elect.answer = kill_once
    event = nodes.send()
    assert there.next().event.id == event.id
    assert nodes.outcomes("a", event, 2) == [("readdressed", "b-detect"), ("forwarded", "c-detect")]
    assert [nodes.elect.next().event.id for _ in range(2)] == [event.id, event.id]
    assert nodes.journey().dead_lettered == []
    eventually(lambda: nodes.stores["a"].client.xlen("broker:events") == 0, "the stream is empty")


def test_the_order_of_a_partition_holds_across_the_change(start: Start) -> None:
    nodes = start()
    there = nodes.detect("c")
    sent = [nodes.send(number, partitionkey="p").id for number in range(6)]
    assert [there.next().event.id for _ in sent] == sent


def test_an_event_that_its_subscriber_readdresses_goes_there_and_back_again(start: Start) -> None:
    """As an event does that follows its memory to another owner."""
    nodes = start()
    away = iter([True])
    here = nodes.detect("b", lambda delivery: readdressed(delivery, "c") if next(away, False) else ACCEPT)
    there = nodes.detect("c", lambda delivery: readdressed(delivery, "b"))
    event = nodes.send()
    for function, node in ((here, "b"), (there, "c"), (here, "b")):
        arrived = function.next().event
        assert (arrived.id, arrived.source, arrived.attributes["skylarknode"]) == (event.id, event.source, node)
    assert nodes.outcomes("b", event, 3) == [
        ("replied", "b-detect"),
        ("forwarded", "c-detect"),
        ("delivered", "b-detect"),
    ]
    assert nodes.outcomes("c", event, 2) == [("replied", "c-detect"), ("forwarded", "b-detect")]
    journey = nodes.journey()
    assert len(outcomes_of([step.record for step in journey.steps], event.id)) == 6
    assert {step.record.cause for step in journey.steps if hasattr(step.record, "cause")} == {None}


Check = Callable[[Callable[[], Elsewhere], FakeClock], Awaitable[NewEntry | None]]
REFUSED = Answer(0, "refused", retryable=True)


def watched(lab: Lab, answer: Answering, check: Check) -> tuple[NewEntry | None, Subscriber]:
    """What `check` finds about deliveries to node `b` that it begins; elect is asked after 5 s."""
    file = lab.folder / "objects.yaml"
    file.write_text(TRIGGERS)
    elect, clock = lab.subscriber(answer), FakeClock()

    async def run() -> NewEntry | None:
        intake = Intake(load_objects([file]), clock)
        content = intake.arrived("default/default", Event.new("frame", "/camera", id="1", skylarknode="b"), {}).content
        async with Courier() as courier:
            readdresser = Readdresser(URL(f"{elect.url}address"), courier, intake, clock, 5.0, 5.0)
            attributes = content.event.attributes

            async def load() -> Content:
                return content

            assert readdresser.watch("default/c-detect", "c", attributes, load) is None, "it is not for that node"
            follows = {**attributes, "skylarkowner": "b"}
            assert readdresser.watch("default/b-detect", "b", follows, load) is None, (
                "only the owner of its memory can take it"
            )

            def begin() -> Elsewhere:
                elsewhere = readdresser.watch("default/b-detect", "b", attributes, load)
                assert elsewhere is not None
                return elsewhere

            return await check(begin, clock)

    return asyncio.run(run()), elect


async def late(begin: Callable[[], Elsewhere], clock: FakeClock) -> NewEntry | None:
    elsewhere = begin()
    clock.advance(5)
    return await elsewhere(REFUSED)


def test_elect_is_asked_after_the_time_and_not_before(lab: Lab) -> None:
    async def check(begin: Callable[[], Elsewhere], clock: FakeClock) -> NewEntry | None:
        elsewhere = begin()
        for _ in range(2):
            assert await elsewhere(REFUSED) is None
            clock.advance(4.9)
            assert await elsewhere(REFUSED) is None
            assert await elsewhere(Answer(503, "answered 503", retryable=True)) is None, "it is there: a new start"
        clock.advance(5)
        return await elsewhere(REFUSED)

    found, elect = watched(lab, readdressed, check)
    assert found is not None
    assert found.triggers == ("default/c-detect",)
    elect.next()
    assert elect.received.empty()


def test_once_a_node_is_gone_its_next_event_does_not_wait_until_it_is_reached_again(lab: Lab) -> None:
    async def check(begin: Callable[[], Elsewhere], clock: FakeClock) -> NewEntry | None:
        assert await begin()(REFUSED) is None
        assert await late(begin, clock) is not None
        assert await begin()(REFUSED) is not None
        assert await begin()(Answer(503, "answered 503", retryable=True)) is None
        return await begin()(REFUSED)

    assert watched(lab, readdressed, check)[0] is None


@pytest.mark.parametrize(
    "answer",
    [
        lambda delivery: (404, {}, b"{}"),
        lambda delivery: (204, {}, b""),
        lambda delivery: (200, {"ce-specversion": "1.0"}, b""),
        lambda delivery: readdressed(delivery, "b"),
        lambda delivery: readdressed(delivery, "mars"),
        lambda delivery: (200, *to_http(delivery.event.with_attributes(skylarknode=None))),
        lambda delivery: (200, *to_http(delivery.event.with_attributes(skylarknode="c", id="2"))),
        lambda delivery: (200, *to_http(delivery.event.with_attributes(skylarknode="c", expirytime="soon"))),
    ],
)
def test_an_answer_of_elects_that_is_no_other_address_changes_nothing(lab: Lab, answer: Answering) -> None:
    found, elect = watched(lab, answer, late)
    assert found is None
    elect.next()
    assert elect.received.empty()


def test_an_event_that_has_expired_is_not_readdressed() -> None:
    async def elsewhere(answer: Answer) -> NewEntry | None:
        raise AssertionError("asked for an event that has expired")

    async def pause(delay_s: float) -> None:
        raise AssertionError("waits for an event that has expired")

    async def write() -> Request:
        return Request(URL(f"http://127.0.0.1:{free_port()}/"), {}, b"")

    async def run() -> None:
        async with Courier() as courier:
            result = await courier.deliver(write, RetryPolicy(), pause, lambda _: None, lambda: 0.0, elsewhere)
        assert (result.expired, result.attempts) == (True, 1)

    asyncio.run(run())


def test_the_expiry_time_goes_with_the_event(start: Start) -> None:
    nodes = start()
    there = nodes.detect("c")
    expiry = rfc3339(SystemClock().now_s() + 60)
    nodes.send(expirytime=expiry)
    assert there.next().event.attributes["expirytime"] == expiry
