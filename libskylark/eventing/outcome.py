"""How a delivery ended, and what is stored of that: its journal record, with the answer or the dead letter."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from yarl import URL

from libskylark.event import Event
from libskylark.eventing import journal
from libskylark.eventing.delivery import Answer, Result
from libskylark.eventing.entry import ERROR_CODE, ERROR_DATA, ERROR_DEST, Content, Entry, NewEntry
from libskylark.eventing.writes import Letter, Settlement
from libskylark.timing import HEADER, read_timings

_ERROR_DATA_BYTES: Final = 1024
_TIMINGS: Final = HEADER.lower()


@dataclass(slots=True)
class End:
    """How a delivery ended, before it is recorded.

    The event of `letter` goes to the dead letters; `letter_for` are the Triggers that it is for, where it is not the
    one that it was delivered to. `sink` is the address of the dead letter sink that took it instead.
    """

    outcome: journal.OutcomeName
    result: Result
    reply: NewEntry | None = None
    letter: Content | None = None
    letter_for: tuple[str, ...] = ()
    sink: str | None = None
    reason: str = ""


def undelivered(reason: str, letter: Content | None) -> End:
    """The end of an event that was sent to nobody."""
    return End("dead-lettered", Result(Answer(0, reason), 0), letter=letter, reason=reason)


def settlement(
    trigger: str, entry: Entry, content: Content | None, end: End, duration_s: float, time: str
) -> Settlement:
    """What the stream stores of an end; `time` is RFC 3339."""
    answer, attempts = end.result.answer, end.result.attempts
    timings = answer.headers.get(_TIMINGS)
    chain = content.chain if content else ""
    began = end.reply.content.chain if end.reply else chain
    record = journal.Outcome(
        event=content.event.id if content else "",
        chain=chain,
        type=content.event.type if content else "",
        trigger=trigger,
        outcome=end.outcome,
        status=answer.status,
        attempts=attempts,
        reply=end.reply.content.event.id if end.reply else None,
        duration_ms=round(duration_s * 1000, 3),
        time=time,
        reason=end.reason,
        reply_chain=began if began != chain else "",
        timings=read_timings(timings) if timings else (),
        dead_letter_to="" if end.letter is not None else end.sink,
    )
    letters = []
    if end.letter is not None:
        receivers = end.letter_for or (trigger,)
        letters.append(Letter(end.letter, receivers, trigger, end.reason, answer.status, attempts, time))
    return Settlement(entry, trigger, journal.encode(record), end.reply, letters)


def for_sink(event: Event, subscriber: URL, answer: Answer) -> Event:
    """The event as a dead letter sink gets it: with what Knative tells of the failure."""
    data = answer.body[:_ERROR_DATA_BYTES] or f"dispatch error: {answer.reason}".encode()[:_ERROR_DATA_BYTES]
    told = {
        ERROR_DEST: str(subscriber),
        ERROR_CODE: str(answer.status or 500),  # as Knative says it where no answer came
        ERROR_DATA: base64.b64encode(data).decode(),
    }
    return event.with_attributes(**told)
