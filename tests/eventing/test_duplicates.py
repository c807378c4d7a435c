"""A broker that is told to takes an event once: by its source and id, for as long as its annotation says."""

from __future__ import annotations

from libskylark.event import Event
from libskylark.eventing.journal import Duplicate, Record
from tests.eventing.conftest import Broker, Journal, Lab, Subscriber, eventually, outcomes_of, trigger


def annotated(window: str, name: str = "default") -> str:
    metadata = f"{{name: {name}, annotations: {{skylark.dev/duplicate-window: {window}}}}}"
    return f"---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {metadata}\n"


def delivered(subscriber: Subscriber, broker: Broker) -> list[str]:
    """Ids of what was delivered before an event that is sent now."""
    assert broker.send(Event.new("t", "/last", id="last"))[0] == 202
    found = []
    while (event := subscriber.next().event).id != "last":
        found.append(event.id)
    return found


def duplicates(journal: Journal, count: int) -> list[Duplicate]:
    def enough(seen: list[Record]) -> list[Duplicate]:
        found = [record for record in seen if isinstance(record, Duplicate)]
        return found if len(found) >= count else []

    return list(journal.until(enough))


def test_duplicates_pass_unless_the_broker_is_told_otherwise(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, trigger("t", subscriber.url), SKYLARK_BROKER_IN_FLIGHT="1")
    for _ in range(3):
        assert broker.send(Event.new("t", "/s", id="1"))[0] == 202
    assert delivered(subscriber, broker) == ["1", "1", "1"]


def test_an_event_is_taken_once_and_each_repetition_recorded(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    objects = annotated("PT10M") + trigger("t", subscriber.url)
    broker = lab.broker(store, objects, SKYLARK_BROKER_IN_FLIGHT="1")
    for source, event_id in (("/s", "1"), ("/s", "1"), ("/other", "1"), ("/s", "2"), ("/s", "1")):
        assert broker.send(Event.new("t", source, id=event_id))[0] == 202
    assert delivered(subscriber, broker) == ["1", "1", "2"]
    journal = Journal(store)
    assert [(record.event, record.source, record.broker) for record in duplicates(journal, 2)] == [
        ("1", "/s", "default/default"),
        ("1", "/s", "default/default"),
    ]
    journal.outcomes("last")
    assert len(outcomes_of(journal.seen, "1")) == 2, "a repetition has no outcome of its own"


def test_brokers_do_not_share_what_they_have_seen(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    second = trigger("other", subscriber.url, type="t").replace("broker: default", "broker: second")
    objects = annotated("PT10M") + annotated("PT10M", "second") + trigger("t", subscriber.url) + second
    broker = lab.broker(store, objects)
    event = Event.new("t", "/s", id="1")
    for path in ("/default/default", "/default/second", "/default/second"):
        assert broker.send(event, path)[0] == 202
    assert len(duplicates(Journal(store), 1)) == 1
    assert [subscriber.next().event.id for _ in range(2)] == ["1", "1"]


def test_what_is_handed_over_to_one_trigger_is_never_a_duplicate(lab: Lab) -> None:
    """Another node's broker hands over what it must not lose, and so does whoever replays a dead letter."""
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, annotated("PT10M") + trigger("t", subscriber.url))
    event = Event.new("t", "/s", id="1")
    for path in ("/default/default", "/default/default/t", "/default/default/t"):
        assert broker.send(event, path)[0] == 202
    assert [subscriber.next().event.id for _ in range(3)] == ["1", "1", "1"]


def test_the_window_ends_and_what_was_seen_is_forgotten(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, annotated("PT0.2S") + trigger("t", subscriber.url))
    event = Event.new("t", "/s", id="1")
    assert broker.send(event)[0] == 202
    assert subscriber.next().event.id == "1"
    eventually(lambda: broker.send(event)[0] == 202 and not subscriber.received.empty(), "it is taken again")
    assert broker.send(Event.new("t", "/s", id="2"))[0] == 202
    eventually(
        lambda: broker.send(Event.new("x", "/s", id="3"))[0] == 202 and store.client.zcard("broker:seen") <= 1,
        "old ones go",
    )


def test_a_killed_broker_remembers_what_it_has_taken(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    broker = lab.broker(store, annotated("PT10M") + trigger("t", subscriber.url), SKYLARK_BROKER_IN_FLIGHT="1")
    assert broker.send(Event.new("t", "/s", id="1"))[0] == 202
    worker = broker.worker()
    broker.kill_worker()
    eventually(lambda: broker.request("GET", "/ready")[0] == 200 and broker.worker() != worker, "the next worker")
    assert broker.send(Event.new("t", "/s", id="1"))[0] == 202
    assert set(delivered(subscriber, broker)) == {"1"}
    assert len(duplicates(Journal(store), 1)) == 1


def test_a_tick_is_stored_once_where_duplicates_are_suppressed_too(lab: Lab) -> None:
    store, ticks = lab.redis(), lab.subscriber()
    source = "---\napiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: tick}\n"
    source += "spec: {sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}\n"
    objects = annotated("PT10M") + trigger("tick", ticks.url, type="dev.knative.sources.ping") + source
    broker = lab.broker(store, objects, workers="2", SKYLARK_PING_SOURCES="on", SKYLARK_TICK="500ms")
    eventually(lambda: len({broker.worker() for _ in range(8)}) == 2, "two workers answer")
    got = [ticks.next().event.id for _ in range(6)]
    assert len(set(got)) == len(got)
