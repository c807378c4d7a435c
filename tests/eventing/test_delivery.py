"""What an answer means, how long is waited, and that one slow subscriber delays no other."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libskylark.event import Event
from libskylark.eventing.delivery import read_answer
from libskylark.eventing.objects import Delivery
from libskylark.eventing.retry import RetryPolicy
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


@pytest.mark.parametrize(
    ("status", "headers", "body", "failed"),
    [
        (200, [("content-type", "text/plain")], b"ok", False),
        (200, [("ce-specversion", "1.0"), ("ce-id", "")], b"", False),
        (202, [], None, False),
        (301, [], b"", True),
        (400, [], b"ok", True),
        (503, [], b"ok", True),
        (500, [], None, True),
    ],
)
def test_where_no_reply_is_taken_every_2xx_is_good(
    status: int, headers: list[tuple[str, str]], body: bytes | None, failed: bool
) -> None:
    answer = read_answer(status, headers, body, takes_reply=False)
    assert answer.failed == failed
    assert answer.reply is None


@given(st.text() | st.from_regex(r"[A-Za-z]{3}, \d\d? [A-Za-z]{3} \d{2,6} \d\d:\d\d:\d\d [+-]?\w*", fullmatch=True))
@example("Tue, 01 Jan 2030 00:00:00 +99999999999999999999")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("9" * 400)
def test_whatever_a_retry_after_says_is_a_pause_or_none(value: str) -> None:
    answer = read_answer(503, [("retry-after", value)], b"")
    assert answer.retryable
    assert answer.retry_after_s is None or answer.retry_after_s >= 0
    assert 0.2 <= RetryPolicy().delay_s(1, answer.retry_after_s) <= 300


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (503, []),
        (400, []),
        (200, []),
        (200, [("ce-specversion", "1.0"), ("ce-id", "")]),
    ],
)
def test_of_a_failure_no_more_is_kept_than_a_dead_letter_sink_is_told(
    status: int, headers: list[tuple[str, str]]
) -> None:
    answer = read_answer(status, headers, b"said" * 10_000)
    assert answer.failed
    assert answer.body == b"said" * 256


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


@pytest.mark.parametrize("fields", [{}, {"retry": 0}, {"backoffPolicy": "exponential", "backoffDelay": "PT0.2S"}])
def test_a_delivery_without_retry_has_none(fields: dict[str, str]) -> None:
    assert RetryPolicy.of(Delivery.model_validate(fields)).retries == 0


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
    broker = lab.broker(
        store, trigger("t", subscriber.url, "delivery: {retry: 1, timeout: PT0.2S, backoffDelay: PT0.01S}")
    )
    assert broker.send(Event.new("t", "/x", id="1"))[0] == 202
    (outcome,) = Journal(store).outcomes("1")
    assert (outcome.outcome, outcome.attempts) == ("delivered", 2)
    release.set()


def test_the_events_of_a_partition_come_in_order_though_one_is_retried(lab: Lab) -> None:
    others_are_done = threading.Event()

    def answer(delivery: Received) -> Reply:
        if delivery.event.id == "b4":
            others_are_done.set()
        return (503, {}, b"") if delivery.event.id == "a0" and not others_are_done.is_set() else ACCEPT

    subscriber = lab.subscriber(answer)
    store = lab.redis()
    policy = "delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.01S}"
    broker = lab.broker(store, trigger("t", subscriber.url, policy))
    for number in range(5):
        for key in "ab":
            assert broker.send(Event.new("t", "/x", id=f"{key}{number}", partitionkey=key))[0] == 202
    received = [subscriber.next().event.id]
    while received[-1] != "a4":
        received.append(subscriber.next().event.id)
    assert [event for event in received if event[0] == "b"] == ["b0", "b1", "b2", "b3", "b4"]
    retried = [event for event in received if event[0] == "a"]
    assert retried[-5:] == ["a0", "a1", "a2", "a3", "a4"]
    assert {*retried[:-4]} == {"a0"}
    assert len(retried) > 5, "another partition does not wait"
