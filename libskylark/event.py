"""CloudEvents: the one module that knows the CloudEvents SDK and the HTTP binding.

An Event keeps its data as bytes: a broker never parses a body, a handler asks for `event.json()`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha1
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from libskylark.errors import BadInput, InvalidEvent

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

_STRUCTURED: Final = "application/cloudevents+json"
_REQUIRED: Final = ("specversion", "id")  # the SDK makes these up where they are missing; it refuses the others
_MANDATORY: Final = frozenset({"specversion", "id", "source", "type"})
_NOT_EMPTY: Final = ("id", "source", "type", "subject", "dataschema", "datacontenttype")
# What the CloudEvents type system forbids in strings; in a header it would end the header.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_EPOCH_DIGITS: Final = 15
_FUNCTION_SOURCE: Final = re.compile(r"/nodes/(?P<node>[^/]+)/functions/[^/]+")
_NAMESPACE: Final = uuid.UUID("6ce7ae5e-45f4-5d10-9d3a-6b1d0e5f1a11").bytes  # of ids that are derived from others


class _OpaqueFormat(JSONFormat):
    """Leaves a binary-mode body as the bytes it is; the SDK would guess at its type."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body


_FORMAT: Final = _OpaqueFormat()


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
        return datetime.fromisoformat(text) if text else None

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
    named = {name.lower(): value for name, value in headers}
    if (attributes := _read_plain(named)) is not None:
        return Event(attributes, body, plain=True)
    media_type = named.get("content-type", "").split(";")[0].strip().lower()
    try:
        if media_type == "application/cloudevents+json":
            return _from_structured(HTTPMessage({"content-type": named["content-type"]}, body))
        if media_type.startswith("application/cloudevents"):
            raise InvalidEvent({"content-type": f"found {media_type!r}, expected one event in {_STRUCTURED!r}"})
        if any(name.startswith("ce-") for name in named):
            return _from_binary(HTTPMessage(named, body))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, BaseCloudEventException) as error:
        if isinstance(error, InvalidEvent):
            raise
        raise InvalidEvent({"message": f"cannot be read: {error}"}) from None
    raise InvalidEvent(
        {"message": f"found neither ce- headers (binary mode) nor content type {_STRUCTURED} (structured mode)"}
    )


def to_http(event: Event, structured: bool = False) -> tuple[dict[str, str], bytes]:
    """(headers, body) of the event in binary mode, or in structured JSON mode; raises InvalidEvent."""
    if not structured and (headers := _write_plain(event)) is not None:
        return headers, event.data
    if faults := _text_faults(event.attributes):
        raise InvalidEvent(faults)
    attributes: dict[str, Any] = dict(event.attributes)
    try:
        if event.time is not None:
            attributes["time"] = event.time
    except ValueError as error:
        raise InvalidEvent({"time": str(error)}) from None
    had_time = "time" in attributes
    if not structured:
        message = to_binary(_sdk_event(attributes, event.data, had_time), _FORMAT)
        return message.headers, message.body
    data: Any = event.data or None
    if data is not None and is_json(event.content_type):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            data = event.data  # what only claims to be JSON goes as the bytes that it is
    message = to_structured(_sdk_event(attributes, data, had_time), _FORMAT)
    return message.headers, message.body


def is_json(content_type: str | None) -> bool:
    """Whether a content type means JSON; CloudEvents takes none at all for JSON."""
    media_type = (content_type or "application/json").split(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _read_plain(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The attributes of a plain message in binary mode; None for one that only the SDK can read."""
    content_type = headers.get("content-type")
    if content_type is not None and "application/cloudevents" in content_type.lower():
        return None
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    if "datacontenttype" in attributes:
        return None
    values = "".join(attributes.values())
    if "%" in values or '"' in values:  # these are written in an encoding
        return None
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    return _plain(attributes)


def _write_plain(event: Event) -> dict[str, str] | None:
    """The headers of a plain event in binary mode; None for one that the SDK must write."""
    plain = event.attributes if event.plain else _plain(event.attributes)
    if plain is None:
        return None
    headers = {f"ce-{name}": value for name, value in plain.items()}
    content_type = headers.pop("ce-datacontenttype", None)
    values = "".join(headers.values())
    if " " in values or '"' in values or "%" in values:  # these are written in percent-encoding
        return None
    if content_type is not None:
        headers["content-type"] = content_type
    return headers


def _plain(attributes: Mapping[str, str]) -> dict[str, str] | None:
    """A copy with `time` in its usual form; None unless it is certain that the SDK has nothing to object to."""
    try:
        names, values = "".join(attributes), "".join(attributes.values())
    except TypeError:  # not all are texts
        return None
    if not (names.isascii() and names.isalnum() and names.islower() and values.isascii() and values.isprintable()):
        return None
    if not _MANDATORY.issubset(attributes) or attributes["specversion"] != "1.0" or "data" in attributes:
        return None
    plain = dict(attributes)
    if "" in plain or not all(plain.get(name, "unset") for name in _NOT_EMPTY):
        return None
    time = plain.get("time")
    try:
        if time is not None:
            plain["time"] = _time_text(_moment(time))
    except ValueError:
        return None
    # Without its capitals, a time can be read but not written.
    return plain if time is None or time.isupper() else None


def _time_text(moment: datetime) -> str:
    text = moment.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _sdk_event(attributes: dict[str, Any], data: Any, had_time: bool) -> CloudEvent:
    try:
        event = CloudEvent(attributes, data)
    except CloudEventValidationError as error:
        raise InvalidEvent(_faults(error)) from None
    if not had_time:  # the SDK adds one; an event without time stays one
        event.get_attributes().pop("time", None)
    return event


def _received(time: Any, attributes: dict[str, Any], data: Any) -> CloudEvent:
    """The SDK's event of a message, whose `time` is a text or None; raises InvalidEvent with all its faults."""
    faults = {name: "is required" for name in _REQUIRED if name not in attributes}
    try:
        if time is not None:
            attributes = {**attributes, "time": _moment(time)}
    except ValueError as error:
        faults["time"] = str(error)
    try:
        event = _sdk_event(attributes, data, had_time=time is not None)
    except InvalidEvent as error:
        faults = {**error.faults, **faults}
    if faults:
        raise InvalidEvent(faults)
    return event


def _moment(time: Any) -> datetime:
    """The instant of an RFC 3339 text; raises ValueError."""
    try:
        moment = datetime.fromisoformat(time.upper())
    except (ValueError, AttributeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"found {time!r}, expected an RFC 3339 time with its zone")
    return moment


def _from_binary(message: HTTPMessage) -> Event:
    headers, faults = dict(message.headers), dict[str, str]()
    for header in [name for name in headers if name.startswith("ce-")]:
        try:
            headers[header] = _decoded(headers[header])
        except UnicodeError:
            faults[header[3:]] = f"found {headers[header]!r}, expected percent-encoded UTF-8"
    if faults:
        raise InvalidEvent(faults)
    # The SDK would not say that it is the time which it cannot read.
    factory = partial(_received, headers.pop("ce-time", None))
    encoded = {name: quote(value, safe="") if name.startswith("ce-") else value for name, value in headers.items()}
    parsed = from_binary(HTTPMessage(encoded, message.body), _FORMAT, factory)
    return Event(_texts(parsed.get_attributes()), message.body)


def _decoded(value: str) -> str:
    """The text of an attribute's header, quoted or not; raises UnicodeError for what stands for no text.

    Bytes beyond ASCII should come in percent-encoding; those who send them as they are send UTF-8.
    """
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote_to_bytes(value.encode("latin-1")).decode()


def _from_structured(message: HTTPMessage) -> Event:
    document = json.loads(message.body)
    if not isinstance(document, dict):
        raise InvalidEvent({"message": f"found a JSON {type(document).__name__}, expected an object"})
    nulls = [name for name, value in document.items() if value is None and name != "data"]
    for name in nulls:  # the JSON format takes null for unset
        del document[name]
    if "data_base64" in document:
        _check_base64(document)
    factory = partial(_received, document.pop("time", None))
    body = json.dumps(document, allow_nan=False).encode()  # Python would read NaN, which is no JSON
    parsed = from_structured(HTTPMessage(message.headers, body), _FORMAT, factory)
    attributes = _texts(parsed.get_attributes())
    data: Any = parsed.get_data()
    if isinstance(data, bytes):
        return Event(attributes, data)
    if "data" not in document:
        return Event(attributes)
    attributes.setdefault("datacontenttype", "application/json")
    if is_json(attributes["datacontenttype"]):
        return Event(attributes, json.dumps(data, separators=(",", ":")).encode())
    if not isinstance(data, str):
        found = f"a JSON {type(data).__name__} under content type {attributes['datacontenttype']}"
        raise InvalidEvent({"data": f"found {found}, expected a string, or data_base64"})
    return Event(attributes, data.encode())


def _check_base64(document: dict[str, Any]) -> None:
    if "data" in document:
        raise InvalidEvent({"data_base64": "found beside data; an event has one of them"})
    try:
        base64.b64decode(document["data_base64"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidEvent({"data_base64": "is not base64"}) from None


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The SDK's attributes as the strings that the CloudEvents type system gives them."""
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, value in attributes.items():
        if name == "time":
            texts[name] = _time_text(value)
        elif isinstance(value, bool):
            texts[name] = str(value).lower()
        elif isinstance(value, str | int):
            texts[name] = str(value)
        else:
            faults[name] = f"found a JSON {type(value).__name__}, expected a string, integer or boolean"
    if faults := {**_text_faults(texts), **faults}:
        raise InvalidEvent(faults)
    return texts


def _text_faults(texts: Mapping[str, str]) -> dict[str, str]:
    faults: dict[str, str] = {}
    for name, text in texts.items():
        if not name.isalnum():  # the SDK lets a last newline pass
            faults[name] = "attribute names are lower-case letters and digits"
        elif not str(text).isprintable() and (found := _FORBIDDEN.search(str(text))):
            faults[name] = f"found the character U+{ord(found[0]):04X}, which no attribute may have"
    if not str(texts.get("datacontenttype", "")).isascii():  # it goes into a header as it is
        faults["datacontenttype"] = f"found {texts['datacontenttype']!r}, expected ASCII"
    return faults


def _faults(error: CloudEventValidationError) -> dict[str, str]:
    faults: dict[str, str] = {}
    for name, problems in error.errors.items():
        faults[name] = "is required" if any("Missing" in type(p).__name__ for p in problems) else str(problems[0])
    return faults
