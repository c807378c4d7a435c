"""CloudEvents: attributes as texts, data as bytes, and the plain HTTP messages that nearly all of them are.

A broker never parses a body, a handler asks for `event.json()`. Messages that are not plain go to `binding`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha1
from typing import Any, Final

from libskylark.binding import moment, read_message, write_message
from libskylark.errors import BadInput

# The extension attributes that Skylark writes and reads; docs/reference/events.md is made from these comments.
#: The chain: a UUID that all events share which one event led to. An event without it starts a chain that is named
#: after its source and id.
CHAIN: Final = "correlationid"
#: The id of the event that caused this one.
CAUSE: Final = "causationid"
#: What the event is about: the broker delivers events of one key in turn, and a function has a memory for each key.
#: For the memory alone, `subject` stands in.
PARTITION: Final = "partitionkey"
#: The node where the state is, or will be: Triggers of that node take the event.
NODE: Final = "skylarknode"
#: The node that owns the memory which the event follows; no other can take it.
OWNER: Final = "skylarkowner"
#: Where the state is, where it is not in the event: `chain:node:task`.
KEY: Final = "skylarkkey"
#: The state itself, while it is small (`SKYLARK_INLINE_LIMIT_BYTES`): base64url of packed fields.
STATE: Final = "skylarkstate"
#: The epoch in which the event was made: the number of ticks since the Unix epoch.
EPOCH: Final = "skylarkepoch"
#: How the node was chosen: `skylark`, `random` or `stateless`.
POLICY: Final = "skylarkpolicy"
#: When the event ends, in RFC 3339: after that nobody takes it, and its state goes (`SKYLARK_STATE_TTL`).
EXPIRY: Final = "expirytime"
#: The W3C trace context, handed on unchanged.
TRACE: Final = "traceparent"

#: The type of a PingSource's events: the clock of a constellation.
TICK_TYPE: Final = "dev.knative.sources.ping"

_MANDATORY: Final = frozenset({"specversion", "id", "source", "type"})
_NOT_EMPTY: Final = ("id", "source", "type", "subject", "dataschema", "datacontenttype")
_EPOCH_DIGITS: Final = 15
_FUNCTION_SOURCE: Final = re.compile(r"/nodes/(?P<node>[^/]+)/functions/[^/]+")
_NAMESPACE: Final = uuid.UUID("6ce7ae5e-45f4-5d10-9d3a-6b1d0e5f1a11").bytes  # of ids that are derived from others


@dataclass(frozen=True, slots=True)
class Event:
    """One CloudEvent 1.0: attributes as strings (extensions among them), data as bytes."""

    attributes: Mapping[str, str]
    data: bytes = b""
    #: It is known that neither reading nor writing these attributes takes the SDK: a broker need not look twice.
    plain: bool = field(default=False, compare=False, repr=False, kw_only=True)

    @classmethod
    def new(cls, type: str, source: str, data: Any = None, **attributes: str | None) -> Event:
        """An event of `type` from `source`; `id` is random unless given. Attributes that are None stay unset.

        `data` is bytes, or text, or else JSON; the content type follows unless `datacontenttype` is given.
        """
        body, content_type = encode_data(data)
        given = {name: value for name, value in attributes.items() if value is not None}
        defaults = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": source, "type": type}
        if content_type:
            defaults["datacontenttype"] = content_type
        return cls({**defaults, **given}, body)

    @property
    def id(self) -> str:
        return self.attributes["id"]

    @property
    def source(self) -> str:
        return self.attributes["source"]

    @property
    def type(self) -> str:
        return self.attributes["type"]

    @property
    def subject(self) -> str | None:
        return self.attributes.get("subject")

    @property
    def content_type(self) -> str | None:
        return self.attributes.get("datacontenttype")

    @property
    def time(self) -> datetime | None:
        text = self.attributes.get("time")
        return moment(text) if text else None

    @property
    def chain(self) -> str:
        """The id of the chain: `correlationid`, else one derived from source and id."""
        return self.attributes.get(CHAIN) or derived_id(self.source, self.id)

    @property
    def partition(self) -> str | None:
        return self.attributes.get(PARTITION) or self.subject

    @property
    def epoch(self) -> int | None:
        text = self.attributes.get(EPOCH, "")
        return int(text) if text.isdecimal() and len(text) <= _EPOCH_DIGITS else None

    @property
    def origin(self) -> str | None:
        """The node whose function emitted this event, by its source; None for an event from elsewhere."""
        match = _FUNCTION_SOURCE.fullmatch(self.source)
        return match["node"] if match else None

    def json(self) -> Any:
        """The data as JSON; raises BadInput where it is something else."""
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError) as error:
            found = f"{len(self.data)} bytes of {self.content_type or 'unnamed type'}"
            raise BadInput(f"event {self.id}: data is no JSON ({error}): found {found}") from None

    def with_attributes(self, **changes: str | None) -> Event:
        """A copy with attributes set, or removed where the value is None."""
        merged: dict[str, str | None] = {**self.attributes, **changes}
        return Event({name: value for name, value in merged.items() if value is not None}, self.data)


def derived_id(*parts: str) -> str:
    """A UUID that depends only on `parts`, so that a run repeated after a crash names things alike."""
    # As uuid.uuid5 makes it, in a third of the time: a broker needs one for every event.
    digits = sha1(_NAMESPACE + "\x00".join(parts).encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def encode_data(data: Any) -> tuple[bytes, str | None]:
    """(body, content type) of what a handler returned; raises TypeError or ValueError for what is no JSON."""
    if data is None:
        return b"", None
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), "application/octet-stream"
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode(), "application/json"


def from_http(headers: Iterable[tuple[str, str]], body: bytes) -> Event:
    """The event of an HTTP message in binary or structured mode; raises InvalidEvent naming every fault."""
    return from_message({name.lower(): value for name, value in headers}, body)


def from_message(headers: Mapping[str, str], body: bytes) -> Event:
    """The same where the headers are in lower case already."""
    if (attributes := _read_plain(headers)) is not None:
        return Event(attributes, body, plain=True)
    return Event(*read_message(headers, body))


def to_http(event: Event, structured: bool = False) -> tuple[dict[str, str], bytes]:
    """(headers, body) of the event in binary mode, or in structured JSON mode; raises InvalidEvent."""
    if not structured and (headers := _write_plain(event)) is not None:
        return headers, event.data
    return write_message(event.attributes, event.data, structured)


def _read_plain(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The attributes of a plain message in binary mode; None for one that only the SDK can read."""
    content_type = headers.get("content-type")
    if content_type is not None and "application/cloudevents" in content_type.lower():
        return None
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    if "datacontenttype" in attributes:
        return None
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    values = _plain_values(attributes)
    if values is None or "%" in values or '"' in values:  # these are written in an encoding
        return None
    return attributes


def _write_plain(event: Event) -> dict[str, str] | None:
    """The headers of a plain event in binary mode; None for one that the SDK must write."""
    if not event.plain and _plain_values(event.attributes) is None:
        return None
    headers = {f"ce-{name}": value for name, value in event.attributes.items()}
    content_type = headers.pop("ce-datacontenttype", None)
    values = "".join(headers.values())
    if " " in values or '"' in values or "%" in values:  # these are written in percent-encoding
        return None
    if content_type is not None:
        headers["content-type"] = content_type
    return headers


def _plain_values(attributes: Mapping[str, str]) -> str | None:
    """All values in one text, where it is certain that the SDK has nothing to object to; else None."""
    try:
        names, values = "".join(attributes), "".join(attributes.values())
    except TypeError:  # not all are texts
        return None
    if not (names.isascii() and names.isalnum() and names.islower() and values.isascii() and values.isprintable()):
        return None
    if not _MANDATORY.issubset(attributes) or attributes["specversion"] != "1.0" or "data" in attributes:
        return None
    if "" in attributes or ("" in attributes.values() and any(attributes.get(name) == "" for name in _NOT_EMPTY)):
        return None
    try:
        if (time := attributes.get("time")) is not None:
            moment(time)
    except ValueError:
        return None
    return values
