"""Sending events to a broker, and waiting for the end of the chain that they start."""

from __future__ import annotations

import json
import mimetypes
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from libskylark.errors import BrokerUnavailable, InvalidEvent, SendError
from libskylark.event import Event, from_http
from libskylark.eventing.journey import JournalTail, Journey
from libskylark.sender import Sender
from libskylark.store import Store

IMAGE_TYPE: Final = "dev.skylark.frame.captured"

_ATTEMPTS = 5


def read_event(path: Path, event_type: str | None = None, source: str = "/skylark/client") -> Event:
    """The event that a file means: an event in JSON format, or else the file's bytes as the data of one.

    Raises InvalidEvent, naming the file, where it is faulty or its type cannot be guessed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidEvent({str(path): f"cannot be read: {error.strerror}"}) from None
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if content_type == "application/json":
        try:
            document = json.loads(content)
            if isinstance(document, dict) and "specversion" in document:
                return from_http([("content-type", "application/cloudevents+json")], content)
        except ValueError as error:
            raise InvalidEvent({str(path): str(error)}) from None
    if event_type is None and not content_type.startswith("image/"):
        raise InvalidEvent({str(path): f"is {content_type} and no event; name the event's type with --type"})
    return Event.new(event_type or IMAGE_TYPE, source, content, datacontenttype=content_type, subject=path.name)


class Client:
    """Sends to the broker at `url` (with namespace and name); `journals` are the stores of all nodes, to wait by."""

    def __init__(self, url: str, journals: Mapping[str, Store] | None = None, token: str | None = None) -> None:
        self._sender = Sender(url, token)
        self._journals = journals

    @property
    def url(self) -> str:
        return self._sender.url

    def send(self, event: Event, passed: Mapping[str, str] | None = None) -> None:
        """Returns once the broker has stored the event; repeats what failed in passing (the id stays the same).

        `passed` are headers that the broker passes on to subscribers, such as `traceparent`.
        Raises SendError with the broker's own words where it refuses the event, or cannot be reached.
        """
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            retry=retry_if_exception_type(BrokerUnavailable),
            reraise=True,
        )
        retrying(self._sender.post, event, passed)

    def send_and_wait(self, event: Event, timeout_s: float) -> Journey:
        """Sends, and returns the journey once every event of the chain has its outcome.

        Raises SendError where that takes longer than `timeout_s`, or no journals were given.
        """
        if self._journals is None:
            raise SendError("waiting needs the journals of the embedded brokers; there are none on a cluster")
        journey = Journey(event.chain)
        with JournalTail(self._journals) as tail:
            self.send(event)
            for step in tail.steps(time.monotonic() + timeout_s):
                if step.record.chain == journey.chain:
                    journey.add(step)
                    if journey.ended:
                        return journey
        raise SendError(f"chain {journey.chain} did not end within {timeout_s:g} s, after {len(journey.steps)} steps")
