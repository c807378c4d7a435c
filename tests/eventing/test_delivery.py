"""What an answer means, how long is waited, and that one slow subscriber delays no other."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from libskylark.event import Event
from libskylark.eventing.delivery import read_answer
from libskylark.eventing.objects import Delivery
from libskylark.eventing.retry import RetryPolicy
from libskylark.eventing.values import parse_iso_duration_s
from tests.eventing.conftest import ACCEPT, Journal, Lab, Reply, trigger
from tests.eventing.conftest import Delivery as Received


@pytest.mark.parametrize(
    ("status", "failed", "retryable"),
    [
        (200, False, False),
        (204, False, False),
        (301, True, False),
        (400, True, False),
        (401, True, False),
        (404, True, True),
        (408, True, True),
        (409, True, True),
        (413, True, False),
        (429, True, True),
        (500, True, True),
        (503, True, True),
    ],
)
def test_a_status_decides(status: int, failed: bool, retryable: bool) -> None:
    answer = read_answer(status, [], b"")
    assert (answer.failed, answer.retryable) == (failed, retryable)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert read_answer(429, [("retry-after", "7")], b"").retry_after_s == 7
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    assert read_answer(429, [("retry-after", in_a_minute)], b"").retry_after_s == pytest.approx(60, abs=2)
    assert read_answer(429, [("retry-after", "later")], b"").retry_after_s is None


def test_the_default_policy_is_knatives() -> None:
    policy = RetryPolicy.of(None)
    assert policy.retries == 10
    assert [policy.delay_s(n) for n in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.8])
    assert policy.delay_s(1, retry_after_s=5) == 5
    assert policy.delay_s(10_000) == 3600


def test_a_delivery_sets_its_policy() -> None:
    fields = {"retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.5S", "timeout": "PT2S", "format": "json"}
    policy = RetryPolicy.of(Delivery.model_validate(fields))
    assert (policy.retries, policy.timeout_s, policy.structured) == (2, 2, True)
    assert [policy.delay_s(n) for n in (1, 2, 3)] == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(("text", "seconds"), [("PT0.2S", 0.2), ("PT1M30S", 90), ("P1DT1H", 90000), ("P1W", 604800)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_iso_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "1S", "PT1", "P1Y", "P1M", "-PT1S", "PT1H1"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_iso_duration_s(text)


def test_a_dead_and_a_slow_subscriber_delay_no_other(lab: Lab) -> None:
    release = threading.Event()

    def hang(delivery: Received) -> Reply:
        release.wait(20)
        return ACCEPT

    slow, quick = lab.subscriber(hang), lab.subscriber()
    objects = trigger("slow", slow.url, type="t") + trigger("quick", quick.url, type="t")
    objects += trigger("dead", "http://127.0.0.1:9/", "delivery: {retry: 1, backoffDelay: PT0.01S}", type="t")
    store = lab.redis()
    broker = lab.broker(store, objects, SKYLARK_BROKER_IN_FLIGHT="2")
    for number in range(20):
        assert broker.send(Event.new("t", "/x", id=str(number)))[0] == 202
    assert {quick.next().event.id for _ in range(20)} == {str(number) for number in range(20)}
    outcomes = Journal(store).outcomes("19", count=2)
    assert {(outcome.trigger, outcome.outcome) for outcome in outcomes} == {
        ("default/quick", "delivered"),
        ("default/dead", "dead-lettered"),
    }
    assert slow.received.empty()
    release.set()
    assert Journal(store).outcomes("19", count=3)[2].trigger == "default/slow"


def test_a_timeout_is_a_failure_that_is_tried_again(lab: Lab) -> None:
    release = threading.Event()
    first = iter([True])

    def hang_once(delivery: Received) -> Reply:
        if next(first, False):
            release.wait(20)
        return ACCEPT

    subscriber = lab.subscriber(hang_once)
    store = lab.redis()
    broker = lab.broker(store, trigger("t", subscriber.url, "delivery: {timeout: PT0.2S, backoffDelay: PT0.01S}"))
    assert broker.send(Event.new("t", "/x", id="1"))[0] == 202
    (outcome,) = Journal(store).outcomes("1")
    assert (outcome.outcome, outcome.attempts) == ("delivered", 2)
    release.set()


def test_the_events_of_a_partition_come_in_order_though_one_is_retried(lab: Lab) -> None:
    failures = iter([True, True, True])

    def answer(delivery: Received) -> Reply:
        return (503, {}, b"") if delivery.event.id == "a0" and next(failures, False) else ACCEPT

    subscriber = lab.subscriber(answer)
    store = lab.redis()
    broker = lab.broker(store, trigger("t", subscriber.url, "delivery: {backoffPolicy: linear, backoffDelay: PT0.05S}"))
    for number in range(5):
        for key in "ab":
            assert broker.send(Event.new("t", "/x", id=f"{key}{number}", partitionkey=key))[0] == 202
    received = [subscriber.next().event.id for _ in range(13)]
    assert [event for event in received if event[0] == "b"] == ["b0", "b1", "b2", "b3", "b4"]
    assert [event for event in received if event[0] == "a"] == ["a0", "a0", "a0", "a0", "a1", "a2", "a3", "a4"]
    assert received.index("b4") < received.index("a1"), "another partition does not wait"
