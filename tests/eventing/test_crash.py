"""What is killed loses nothing that was acknowledged, and keeps the order of a partition."""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict

from libskylark.event import Event
from libskylark.eventing.journal import Outcome, Record
from tests.eventing.conftest import ACCEPT, Broker, Delivery, Journal, Lab, Reply, eventually, trigger

FAST = "delivery: {retry: 100, backoffPolicy: linear, backoffDelay: PT0.02S}"


class Senders:
    """Threads that send numbered events, each to its own partition, and note those that were acknowledged."""

    def __init__(self, broker: Broker, count: int = 8) -> None:
        self.acknowledged: set[str] = set()
        self.sent = 0
        self._broker = broker
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, count: int) -> None:
        eventually(lambda: len(self.acknowledged) >= count, f"{count} events acknowledged")

    def _run(self, sender: int) -> None:
        number = 0
        while not self._stop.is_set():
            event = Event.new("load", f"/{sender}", id=f"{sender}-{number:06}", partitionkey=f"p{sender}")
            if self._broker.send(event)[0] == 202:
                self.acknowledged.add(event.id)
            else:
                self._stop.wait(0.02)
            number += 1


def finished(journal: Journal, events: set[str]) -> list[Outcome]:
    """The outcomes, once every one of the events has one."""

    def done(seen: list[Record]) -> list[Outcome]:
        outcomes = [record for record in seen if isinstance(record, Outcome)]
        return outcomes if events <= {outcome.event for outcome in outcomes} else []

    return list(journal.until(done, wait_s=30))


def assert_in_order(received: list[str]) -> None:
    """First deliveries of each sender's events come in the order in which they were sent.

    Only events that were acknowledged have a place in it: of one that was answered 503, the sender knows nothing,
    and it may turn out to be stored after the next.
    """
    firsts = defaultdict(list)
    for event in dict.fromkeys(received):
        firsts[event.split("-")[0]].append(event)
    for events in firsts.values():
        assert events == sorted(events)


def test_killing_the_worker_under_load_loses_nothing(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, trigger("load", subscriber.url, FAST))
    with Senders(broker) as senders:
        senders.until(200)
        broker.kill_worker()
        senders.until(600)
        broker.kill_worker()
        senders.until(1000)
    outcomes = finished(Journal(store), senders.acknowledged)
    assert {outcome.outcome for outcome in outcomes} == {"delivered"}
    assert len({outcome.event for outcome in outcomes}) == len(outcomes), "an event has one outcome"
    received = [subscriber.received.get_nowait().event.id for _ in range(subscriber.received.qsize())]
    assert senders.acknowledged <= set(received)
    assert_in_order([event for event in received if event in senders.acknowledged])
    eventually(lambda: store.client.xlen("broker:events") == 0, "the stream is empty")


def test_killing_redis_under_load_loses_nothing(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, trigger("load", subscriber.url, FAST))
    with Senders(broker) as senders:
        senders.until(200)
        store.kill()
        eventually(lambda: broker.send(Event.new("load", "/x"))[0] == 503, "refused while Redis is away")
        status, headers, _ = broker.send(Event.new("load", "/x"))
        assert (status, headers["retry-after"]) == (503, "1")
        assert broker.request("GET", "/ready")[0] == 503
        assert broker.request("GET", "/health")[0] == 200
        store.start()
        senders.until(600)
    outcomes = finished(Journal(store), senders.acknowledged)
    assert len({outcome.event for outcome in outcomes}) == len(outcomes), "an event has one outcome"
    received = [subscriber.received.get_nowait().event.id for _ in range(subscriber.received.qsize())]
    assert senders.acknowledged <= set(received)
    assert_in_order([event for event in received if event in senders.acknowledged])
    eventually(lambda: store.client.xlen("broker:events") == 0, "the stream is empty")


def test_a_redis_that_hangs_is_waited_for(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, trigger("load", subscriber.url, FAST), SKYLARK_STORE_TIMEOUT="300ms")
    os.kill(store.pid, signal.SIGSTOP)
    assert broker.send(Event.new("load", "/x", id="hangs"))[0] == 503
    os.kill(store.pid, signal.SIGCONT)
    eventually(lambda: broker.request("GET", "/ready")[0] == 200, "ready again")
    assert broker.send(Event.new("load", "/x", id="works"))[0] == 202
    finished(Journal(store), {"works"})
    # The first one was refused, yet it may have been stored; then it is delivered, and not left behind.
    eventually(lambda: store.client.xlen("broker:events") == 0, "the stream is empty")


def test_a_broker_starts_without_redis_and_takes_events_when_it_comes(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    store.kill()
    broker = lab.broker(store, trigger("load", subscriber.url), wait=False)
    eventually(lambda: broker.request("GET", "/health")[0] == 200, "alive")
    assert broker.send(Event.new("load", "/x"))[0] == 503
    store.start()
    broker.until_ready()
    assert broker.send(Event.new("load", "/x"))[0] == 202
    subscriber.next()


def test_what_waits_at_a_stop_is_delivered_after_the_start(lab: Lab) -> None:
    failing = True

    def answer(delivery: Delivery) -> Reply:
        return (503, {}, b"") if failing and delivery.path == "/slow" else ACCEPT

    store, subscriber = lab.redis(), lab.subscriber(answer)
    objects = trigger("slow", f"{subscriber.url}slow", "delivery: {retry: 5, backoffDelay: PT30S}", type="t")
    objects += trigger("quick", f"{subscriber.url}quick", type="t")
    broker = lab.broker(store, objects, SKYLARK_BROKER_GRACE="1s")
    event = Event.new("t", "/x", id="1")
    assert broker.send(event)[0] == 202
    assert {subscriber.next().path, subscriber.next().path} == {"/slow", "/quick"}
    assert Journal(store).outcomes("1")[0].trigger == "default/quick"
    assert broker.stop() == 0
    assert "1 events stay in the stream" in broker.log.read_text()
    failing = False
    broker.start()
    assert subscriber.next().path == "/slow"
    outcomes = Journal(store).outcomes("1", count=2)
    assert [outcome.trigger for outcome in outcomes] == ["default/quick", "default/slow"]
    assert subscriber.received.empty(), "what was delivered before the stop is not delivered again"
    assert store.client.hlen("broker:done") == 0


def test_a_trigger_that_is_gone_leaves_its_events_to_the_dead_letters(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber(lambda delivery: (503, {}, b""))
    broker = lab.broker(store, trigger("t", subscriber.url, "delivery: {retry: 1, backoffDelay: PT30S}"))
    assert broker.send(Event.new("t", "/x", id="1"))[0] == 202
    subscriber.next()
    broker.close()
    lab.broker(store, trigger("other", subscriber.url))
    (outcome,) = Journal(store).outcomes("1")
    assert (outcome.outcome, outcome.reason) == ("dead-lettered", "no Trigger default/t any more")
    assert store.client.xlen("broker:dead-letters") == 1


def test_a_full_stream_refuses_more(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber(lambda delivery: (503, {}, b""))
    objects = trigger("t", subscriber.url, "delivery: {retry: 1, backoffDelay: PT30S}")
    broker = lab.broker(store, objects, SKYLARK_BROKER_STREAM_MAX="3")
    for _ in range(3):
        assert broker.send(Event.new("t", "/x"))[0] == 202
    status, headers, _ = broker.send(Event.new("t", "/x"))
    assert (status, headers["retry-after"]) == (429, "1")
