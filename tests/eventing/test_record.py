"""What a broker records of every event: Triggers that filtered it, reads of state, and dead letters that keep all."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from libskylark.event import Event, to_http
from libskylark.eventing.entry import TTL
from libskylark.eventing.generations import Generations, generation_operations, read_generations
from libskylark.eventing.keys import GENERATIONS
from libskylark.eventing.letters import list_letters
from libskylark.problem import CONTENT_TYPE, problem
from libskylark.store import Store
from libskylark.timing import Timing
from tests.eventing.conftest import Broker, Delivery, Journal, Lab, RedisServer, Reply, eventually, trigger

TRACE_ID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def event(type: str = "wanted", **attributes: str) -> Event:
    return Event.new(type, "/test", {"n": 1}, **attributes)


def generations_of(store: RedisServer) -> Generations:
    with closing(Store(store.host, store.port)) as opened:
        return read_generations({"here": opened}, ["here"])


def kept(store: RedisServer) -> list[Any]:
    entries: Any = store.client.xrange(GENERATIONS)
    return [(fields["generation"], json.loads(fields["triggers"])) for _, fields in entries]


def test_the_triggers_that_filtered_an_event_are_known_whatever_becomes_of_them(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    names = ("wanted", "other", "further")
    broker = lab.broker(store, "".join(trigger(name, subscriber.url) for name in names))
    journal, first, second = Journal(store), event(), event("nobody's")
    for each in (first, second):
        assert broker.send(each)[0] == 202
    accepted = [journal.accepted(each.id) for each in (first, second)]
    assert {record.broker for record in accepted} == {"default/default"}
    broker.stop()
    restarted = lab.broker(store, trigger("wanted", subscriber.url))
    third = event()
    assert restarted.send(third)[0] == 202
    accepted.append(journal.accepted(third.id))
    generations = generations_of(store)
    assert [generations.filtered("here", record) for record in accepted] == [
        ["default/other", "default/further"],
        ["default/wanted", "default/other", "default/further"],
        [],
    ]
    assert generations.filtered("there", accepted[0]) is None


def test_a_generation_is_kept_once_for_each_time_it_came_into_force(lab: Lab) -> None:
    store, subscriber = lab.redis(), lab.subscriber()
    one = trigger("wanted", subscriber.url)
    both = one + trigger("other", subscriber.url)
    for objects in (one, one, both):
        broker = lab.broker(store, objects)
        eventually(lambda: kept(store), "the generation is kept")
        broker.close()
    assert [triggers for _, triggers in kept(store)] == [
        {"default/default": ["default/wanted"]},
        {"default/default": ["default/wanted", "default/other"]},
    ]


def test_a_generation_is_there_again_after_redis_has_lost_it(lab: Lab) -> None:
    store = lab.redis()
    lab.broker(store, trigger("wanted", lab.subscriber().url))
    before = eventually(lambda: kept(store), "the generation is kept")
    store.kill()
    for file in store.folder.iterdir():
        if file.is_dir():
            for part in file.iterdir():
                part.unlink()
    store.start()
    assert eventually(lambda: kept(store), "the generation is kept again") == before


def test_what_a_function_says_of_its_reads_is_in_the_outcome(lab: Lab) -> None:
    def answer(delivery: Delivery) -> Reply:
        timings = 'app;dur=3, skylark-state;dur=0.8;desc="remote there";size=2048, skylark-commit;dur=1'
        return 202, {"server-timing": timings}, b""

    store = lab.redis()
    broker, sent = lab.broker(store, trigger("wanted", lab.subscriber(answer).url)), event()
    broker.send(sent)
    (outcome,) = Journal(store).outcomes(sent.id)
    assert outcome.timings == (Timing("state", 0.8, "remote", "there", 2048), Timing("commit", 1.0))


def test_a_dead_letter_keeps_everything_and_its_reason_what_the_subscriber_said(lab: Lab) -> None:
    said = "data is no picture\x1b[2J of mine"
    refuse = lab.subscriber(lambda delivery: (400, {"content-type": CONTENT_TYPE}, problem(400, said)))
    store = lab.redis()
    broker = lab.broker(store, trigger("wanted", refuse.url))
    sent = event(**{TTL: "7", "correlationid": "chain-1"})
    assert broker.send(sent, traceparent=TRACE_ID, **{"x-request-id": "r-1", "x-other": "no"})[0] == 202
    (outcome,) = Journal(store).outcomes(sent.id)
    reason = r"answered 400: data is no picture\x1b[2J of mine"
    assert (outcome.outcome, outcome.reason) == ("dead-lettered", reason)
    with closing(Store(store.host, store.port)) as opened:
        (letter,) = list_letters(opened)
    assert (letter.reason, letter.receivers) == (reason, ("default/wanted",))
    assert (letter.ttl, letter.chain, letter.is_spent) == (7, "chain-1", False)
    assert letter.headers == {"traceparent": TRACE_ID, "x-request-id": "r-1"}
    moments = [datetime.fromisoformat(time) for time in (letter.arrived or "", letter.attributes["knativearrivaltime"])]
    assert abs(moments[0] - moments[1]) <= timedelta(milliseconds=1)  # one is rounded, the other cut
    lines = [json.loads(line) for line in broker.log.read_text().splitlines() if line.startswith("{")]
    (told,) = [line for line in lines if line["message"].endswith(f"is dead after 1 attempts: {reason}")]
    assert (told["chain"], told["event_id"], told["trigger"]) == ("chain-1", sent.id, "default/wanted")
    assert (told["node"], told["role"], told["level"]) == ("here", "broker", "warning")


def test_an_answer_without_ttl_is_kept_for_those_that_would_have_taken_it(lab: Lab) -> None:
    def answer(delivery: Delivery) -> Reply:
        headers, body = to_http(event("back"))
        return 200, headers, body

    store, subscriber = lab.redis(), lab.subscriber()
    objects = trigger("wanted", lab.subscriber(answer).url) + trigger("back", subscriber.url)
    broker, sent = lab.broker(store, objects), event(**{TTL: "1"})
    broker.send(sent)
    (outcome,) = Journal(store).outcomes(sent.id)
    assert (outcome.outcome, outcome.status) == ("expired", 508)
    with closing(Store(store.host, store.port)) as opened:
        (letter,) = list_letters(opened)
    assert (letter.trigger, letter.receivers, letter.is_spent) == ("default/wanted", ("default/back",), True)
    assert subscriber.received.empty()


def test_an_answer_without_ttl_that_nobody_wants_ends_no_loop(lab: Lab) -> None:
    def answer(delivery: Delivery) -> Reply:
        headers, body = to_http(event("nobody's"))
        return 200, headers, body

    store = lab.redis()
    broker: Broker = lab.broker(store, trigger("wanted", lab.subscriber(answer).url))
    sent = event(**{TTL: "1"})
    broker.send(sent)
    (outcome,) = Journal(store).outcomes(sent.id)
    assert outcome.outcome == "replied"
    assert store.client.xlen("broker:dead-letters") == 0


def test_an_answer_that_begins_a_chain_says_which(lab: Lab) -> None:
    def answer(delivery: Delivery) -> Reply:
        headers, body = to_http(event("frame", correlationid="frame-chain"))
        return 200, headers, body

    store = lab.redis()
    broker, sent = lab.broker(store, trigger("wanted", lab.subscriber(answer).url)), event()
    broker.send(sent)
    (outcome,) = Journal(store).outcomes(sent.id)
    assert (outcome.chain, outcome.reply_chain) == (sent.chain, "frame-chain")


def test_the_operation_that_keeps_a_generation_bounds_how_many_there_are() -> None:
    name, count, generation, triggers, cap = generation_operations("g", {"default/default": ["default/a"]})
    assert (name, count, generation, json.loads(triggers), cap) == (
        "generation", 3, "g", {"default/default": ["default/a"]}, 100
    )  # fmt: skip
