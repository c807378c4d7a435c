"""A Broker that a Trigger refers to, as its subscriber or dead letter sink: loops end, and no dead letter is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from libskylark.event import Event, to_http
from libskylark.eventing.journal import Duplicate, Outcome, Record
from libskylark.eventing.loading import load_objects
from libskylark.eventing.objects import Destination
from libskylark.eventing.resolve import Here, NoServices, resolve
from tests.eventing.conftest import Broker, Delivery, Journal, Lab, RedisServer, Reply, Subscriber, free_port

GROUP = "eventing.knative.dev/v1"


def broker(name: str, **annotations: str) -> str:
    metadata = {"name": name, "annotations": annotations}
    return f"---\n{json.dumps({'apiVersion': GROUP, 'kind': 'Broker', 'metadata': metadata})}\n"


def refers_to(name: str) -> dict[str, Any]:
    return {"ref": {"apiVersion": GROUP, "kind": "Broker", "name": name}}


def trigger(name: str, of: str, subscriber: dict[str, Any], type: str | None = None, **spec: Any) -> str:
    """A Trigger of a Broker for events of a type, or for all."""
    filtered = {"filter": {"attributes": {"type": type}}} if type else {}
    spec = {"broker": of, "subscriber": subscriber, **filtered, **spec}
    return f"---\n{json.dumps({'apiVersion': GROUP, 'kind': 'Trigger', 'metadata': {'name': name}, 'spec': spec})}\n"


class Site:
    """A broker with loops of all kinds, and what its one subscriber gets."""

    def __init__(self, lab: Lab) -> None:
        self.store: RedisServer = lab.redis()
        self.subscriber: Subscriber = lab.subscriber(self._answer)
        port, uri = free_port(), {"uri": self.subscriber.url}
        to_itself = {"retry": 0, "deadLetterSink": refers_to("default")}
        to_nobody = {"retry": 0, "deadLetterSink": {"uri": f"{self.subscriber.url}busy"}}
        objects = [
            broker("default", **{"skylark.dev/duplicate-window": "PT10M"}),
            broker("second"),
            broker("third"),
            trigger("refused", "default", uri, "refused", delivery=to_itself),
            trigger("answered", "default", uri, "answered", delivery=to_itself),
            trigger("unheard", "default", uri, "unheard", delivery=to_nobody),
            trigger("there", "second", refers_to("third"), "around"),
            trigger("back", "third", {"uri": f"http://127.0.0.1:{port}/default/second"}, "around"),
            trigger("seen", "second", uri, "around"),
        ]
        self.broker: Broker = lab.broker(self.store, "".join(objects), port=str(port))

    @staticmethod
    def _answer(delivery: Delivery) -> Reply:
        if delivery.path == "/busy":
            return 503, {}, b"too many of them"
        if delivery.event.type == "answered":
            return 200, *to_http(Event.new("answered", "/answers", id="answer"))
        return (202, {}, b"") if delivery.event.type == "around" else (400, {}, b"no good")

    def send(self, type: str, path: str, ttl: int) -> Event:
        event = Event.new(type, "/here", knativebrokerttl=str(ttl))
        assert self.broker.send(event, path)[0] == 202
        return event

    def end_of(self, event: str, reason: str) -> Outcome:
        """The one outcome of an event that has this in its reason, once there is one."""

        def found(seen: list[Record]) -> list[Outcome]:
            return [
                each for each in seen if isinstance(each, Outcome) and each.event == event and reason in each.reason
            ]

        (outcome,) = Journal(self.store).until(found)
        assert isinstance(outcome, Outcome)
        return outcome

    def letters_of(self, event: str) -> list[dict[str, str]]:
        letters: Any = self.store.client.xrange("broker:dead-letters")
        return [fields for _, fields in letters if json.loads(fields["attributes"])["id"] == event]

    def delivered(self) -> list[Delivery]:
        """What the subscriber got since it was asked last."""
        return [self.subscriber.next() for _ in range(self.subscriber.received.qsize())]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(Lab(tmp_path_factory.mktemp("site"), stack))


def test_a_dead_letter_that_comes_back_is_another_event_and_ends_in_one_letter(site: Site) -> None:
    event = site.send("refused", "/default/default", ttl=3)
    outcome = site.end_of(event.id, "a loop of Brokers")
    url = f"http://127.0.0.1:{site.broker.port}/default/default"
    told = f"answered 400: no good; dead letter sink {url}: the event has no TTL left: a loop of Brokers"
    assert (outcome.reason, outcome.outcome, outcome.status) == (told, "dead-lettered", 400)
    assert outcome.dead_letter_to == ""
    passes = site.delivered()
    assert [delivery.headers.get("ce-knativeerrorcode") for delivery in passes] == [None, "400", "400"]
    assert not any("ce-knativebrokerttl" in delivery.headers for delivery in passes)
    (letter,) = site.letters_of(event.id)
    assert (letter["trigger"], letter["reason"], letter["ttl"]) == ("default/refused", told, "1")
    sunk = [each.dead_letter_to or "" for each in Journal(site.store).outcomes(event.id, 3)]
    assert sorted(sunk) == ["", url, url]  # a sink may be through with a letter before its sender has noted that


def test_the_same_letter_twice_is_one_and_letters_of_two_subscribers_are_two(site: Site) -> None:
    event = Event.new("refused", "/here", knativebrokerttl="1", knativeerrorcode="500")
    sent = [event.with_attributes(knativeerrordest=f"http://{host}/") for host in ("a", "a", "b", "b", "a")]
    sent.append(sent[0].with_attributes(knativeerrorcode="404"))
    for each in sent:
        assert site.broker.send(each)[0] == 202
    journal = Journal(site.store)
    assert len(journal.outcomes(event.id, 3)) == 3
    assert sum(isinstance(each, Duplicate) and each.event == event.id for each in journal.seen) == 3
    assert len(site.delivered()) == 3


def test_brokers_that_refer_to_each_other_end_with_one_letter(site: Site) -> None:
    event = site.send("around", "/default/second", ttl=6)
    outcome = site.end_of(event.id, "a loop of Brokers")
    assert (outcome.outcome, outcome.status, outcome.trigger) == ("expired", 508, "default/back")
    assert outcome.reason == "the event has no TTL left: a loop of Brokers"
    (letter,) = site.letters_of(event.id)
    assert (letter["trigger"], letter["status"], letter["ttl"]) == ("default/back", "508", "0")
    assert len(Journal(site.store).outcomes(event.id, 9)) == 9
    passes = site.delivered()
    assert len(passes) == 3, "with a TTL of 6, 4 and 2"
    assert not any("ce-knativebrokerttl" in delivery.headers for delivery in passes)


def test_an_answer_without_ttl_does_not_begin_anew_by_way_of_the_sink(site: Site) -> None:
    event = site.send("answered", "/default/default", ttl=1)
    outcome = site.end_of(event.id, "a loop of Triggers; dead letter sink ")
    assert (outcome.outcome, outcome.status, outcome.dead_letter_to) == ("expired", 508, "")
    assert [letter["ttl"] for letter in site.letters_of("answer")] == ["0"]
    assert len(site.delivered()) == 1


def test_a_letter_that_its_sink_refused_says_so(site: Site) -> None:
    event = site.send("unheard", "/default/default", ttl=9)
    (outcome,) = Journal(site.store).outcomes(event.id)
    sink = f"{site.subscriber.url}busy"
    assert outcome.reason == f"answered 400: no good; dead letter sink {sink}: answered 503: too many of them"
    assert (outcome.status, outcome.dead_letter_to) == (400, "")
    assert [letter["reason"] for letter in site.letters_of(event.id)] == [outcome.reason]
    assert [delivery.headers.get("ce-knativebrokerttl") for delivery in site.delivered()] == [None, None]


class _Constellation(NoServices):
    """Two nodes without functions."""

    def __init__(self) -> None:
        self.ip = "10.0.0.2"

    @property
    def nodes(self) -> dict[str, Any]:
        return {"there": self}


@pytest.mark.parametrize(
    ("destination", "is_broker"),
    [
        (refers_to("second"), True),
        ({**refers_to("second"), "uri": "path"}, True),
        ({"uri": "http://10.0.0.1:8090/default/second"}, True),
        ({"uri": "http://10.0.0.2:8090/default/second"}, True),
        ({"uri": "http://10.0.0.2:8091/default/second"}, False),
        ({"uri": "http://10.0.0.3:8090/default/second"}, False),
    ],
)
def test_only_brokers_of_the_constellation_get_the_ttl(destination: dict[str, Any], is_broker: bool) -> None:
    here = Here("here", "10.0.0.1", 8090)
    assert resolve(Destination.model_validate(destination), "default", here, _Constellation()).is_broker is is_broker


LOOPS = {
    "subscriber": trigger("t", "default", refers_to("default")),
    "delivery.deadLetterSink": trigger(
        "t", "default", {"uri": "http://x/"}, delivery={"deadLetterSink": refers_to("default")}
    ),
}


@pytest.mark.parametrize("field", LOOPS)
def test_a_trigger_that_takes_everything_and_leads_to_its_own_broker_is_told(tmp_path: Path, field: str) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(LOOPS[field])
    (notice,) = load_objects([file]).notices
    assert (notice.line, notice.field) == (2, f"spec.{field}")
    assert notice.message.startswith("leads to the Trigger's own Broker, and no filter stops an event that comes back")
    file.write_text(LOOPS[field].replace('"broker"', '"filter": {"attributes": {"type": "t"}}, "broker"'))
    assert load_objects([file]).notices == []
