"""What a broker counts for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from libskylark.event import Event
from libskylark.eventing.metrics import BrokerMetrics, Queue
from tests.eventing.conftest import ACCEPT, Broker, Delivery, Journal, Lab, Reply, eventually, trigger

LABELS = 'broker="default/default",node="here"'


def lines(broker: Broker) -> list[str]:
    status, _, body = broker.request("GET", "/metrics")
    assert status == 200
    return body.decode().splitlines()


def test_events_deliveries_and_queues_are_counted(lab: Lab) -> None:
    store = lab.redis()
    fails: Iterator[Reply] = iter([(503, {}, b""), (503, {}, b"")])
    subscriber = lab.subscriber(lambda delivery: next(fails, ACCEPT))
    spec = "delivery: {retry: 5, backoffPolicy: linear, backoffDelay: PT0.05S}"
    held = trigger("held", "http://127.0.0.1:9/", "delivery: {retry: 5, backoffDelay: PT30S}")
    broker = lab.broker(store, trigger("taken", subscriber.url, spec) + held)
    assert broker.send(Event.new("taken", "/s", id="1"))[0] == 202
    assert broker.send(Event.new("nobody", "/s", id="2"))[0] == 202
    assert broker.request("POST", "/default/none")[0] == 404
    Journal(store).outcomes("1")
    assert broker.send(Event.new("held", "/s", b"x" * 10_000, id="3"))[0] == 202
    eventually(
        lambda: 'skylark_broker_waiting_deliveries{node="here",trigger="default/held"} 1.0' in lines(broker),
        "it pauses",
    )
    told = lines(broker)
    delivered = 'node="here",outcome="delivered",trigger="default/taken",type="taken"'
    for line in (
        f'skylark_broker_events_total{{{LABELS},outcome="accepted",type="taken"}} 1.0',
        f'skylark_broker_events_total{{{LABELS},outcome="unwanted",type="nobody"}} 1.0',
        'skylark_broker_refused_requests_total{node="here",status="404"} 1.0',
        f"skylark_broker_deliveries_total{{{delivered}}} 1.0",
        'skylark_broker_delivery_attempts_total{node="here",trigger="default/taken"} 3.0',
        'skylark_broker_delivery_seconds_count{node="here",trigger="default/taken"} 1.0',
        'skylark_broker_stream_events{node="here"} 1.0',
        'skylark_broker_in_flight_deliveries{node="here",trigger="default/taken"} 0.0',
    ):
        assert line in told, line
    (size,) = (line for line in told if line.startswith("skylark_broker_stream_bytes"))
    assert float(size.split()[1]) > 10_000


def test_answers_and_ticks_are_events_of_their_broker(lab: Lab) -> None:
    answers = iter(["wanted", "unwanted"])

    def answer(delivery: Delivery) -> Reply:
        headers = {"ce-specversion": "1.0", "ce-type": next(answers), "ce-source": "/s", "ce-id": delivery.event.id}
        return 200, headers, b""

    store = lab.redis()
    asked, sink = lab.subscriber(answer), lab.subscriber()
    ping = """---
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: ping}
spec:
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
"""
    objects = trigger("asked", asked.url) + trigger("wanted", sink.url) + ping
    broker = lab.broker(store, objects, SKYLARK_PING_SOURCES="on", SKYLARK_TICK="500ms")
    for identity in ("1", "2"):
        assert broker.send(Event.new("asked", "/s", id=identity))[0] == 202
        Journal(store).outcomes(identity)
    told = lines(broker)
    for outcome, kind, count in (("accepted", "asked", 2), ("accepted", "wanted", 1), ("unwanted", "unwanted", 1)):
        assert f'skylark_broker_events_total{{{LABELS},outcome="{outcome}",type="{kind}"}} {count}.0' in told
    ticks = f'skylark_broker_events_total{{{LABELS},outcome="unwanted",type="dev.knative.sources.ping"}} '
    eventually(lambda: any(line.startswith(ticks) for line in lines(broker)), "ticks are counted")


def test_a_sender_cannot_fill_the_memory_with_types() -> None:
    metrics = BrokerMetrics("here")
    for number in range(3000):
        metrics.count_event("default/default", f"type-{number}", "accepted")
        metrics.note_delivery("default/t", f"type-{number}", "delivered", 1, 0.01)
    told = metrics.text(0, 0, {"default/t": Queue(0, 0)}).decode().splitlines()
    events = [line for line in told if line.startswith("skylark_broker_events_total")]
    assert len(events) == 201
    other = 'broker="default/default",node="here",outcome="accepted",type="other"'
    assert f"skylark_broker_events_total{{{other}}} 2800.0" in events
    assert 'skylark_broker_delivery_attempts_total{node="here",trigger="default/t"} 3000.0' in told
