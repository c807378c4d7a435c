"""The HTTP binding of CloudEvents in all its forms, on attributes and bytes: the one module that knows the SDK.

`event` comes here with what is in structured mode, in an encoding, or at fault; it sees to plain messages itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from libskylark.errors import InvalidEvent

_STRUCTURED: Final = "application/cloudevents+json"
_REQUIRED: Final = ("specversion", "id")  # the SDK makes these up where they are missing; it refuses the others
# What the CloudEvents type system forbids in strings; in a header it would end the header.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


class _OpaqueFormat(JSONFormat):
    """Leaves a binary-mode body as the bytes it is; the SDK would guess at its type."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        return body


_FORMAT: Final = _OpaqueFormat()


def read_message(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """(attributes, data) of a message in binary or structured mode; raises InvalidEvent naming every fault.

    The names of `headers` are in lower case.
    """
    media_type = headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if media_type == "application/cloudevents+json":
            return _from_structured(headers["content-type"], body)
        if media_type.startswith("application/cloudevents"):
            raise InvalidEvent({"content-type": f"found {media_type!r}, expected one event in {_STRUCTURED!r}"})
        if any(name.startswith("ce-") for name in headers):
            return _from_binary(headers, body)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, BaseCloudEventException) as error:
        if isinstance(error, InvalidEvent):
            raise
        raise InvalidEvent({"message": f"cannot be read: {error}"}) from None
    raise InvalidEvent(
        {"message": f"found neither ce- headers (binary mode) nor content type {_STRUCTURED} (structured mode)"}
    )


def write_message(attributes: Mapping[str, str], data: bytes, structured: bool) -> tuple[dict[str, str], bytes]:
    """(headers, body) in structured JSON mode, or in binary mode; raises InvalidEvent."""
    if faults := _text_faults(attributes):
        raise InvalidEvent(faults)
    if not structured:
        message = to_binary(_sdk_event(attributes, data), _FORMAT)
        return message.headers, message.body
    content: Any = data or None
    if content is not None and is_json(attributes.get("datacontenttype")):
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = data  # what only claims to be JSON goes as the bytes that it is
    message = to_structured(_sdk_event(attributes, content), _FORMAT)
    return message.headers, message.body


def is_json(content_type: str | None) -> bool:
    """Whether a content type means JSON; CloudEvents takes none at all for JSON."""
    media_type = (content_type or "application/json").split(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def moment(time: Any) -> datetime:
    """The instant of an RFC 3339 text, to the microsecond; raises ValueError."""
    try:
        if _TIME.fullmatch(time):
            return datetime.fromisoformat(time.upper())
    except (ValueError, TypeError):
        pass
    raise ValueError(f"found {time!r}, expected an RFC 3339 time with its zone")


def _sdk_event(attributes: Mapping[str, Any], data: Any) -> CloudEvent:
    """The SDK's event, but with its time as the text that it is; raises InvalidEvent.

    The SDK takes a datetime only, which has neither nanoseconds nor small letters, and adds one where there is none.
    """
    typed, faults = dict(attributes), dict[str, str]()
    time = typed.pop("time", None)
    try:
        if "time" in attributes:
            moment(time)
    except ValueError as error:
        faults["time"] = str(error)
    try:
        event = CloudEvent(typed, data)
    except CloudEventValidationError as error:
        faults = {**_faults(error), **faults}
    if faults:
        raise InvalidEvent(faults)
    if "time" in attributes:
        event.get_attributes()["time"] = time
    else:
        event.get_attributes().pop("time", None)
    return event


def _received(time: Any, attributes: dict[str, Any], data: Any) -> CloudEvent:
    """The SDK's event of a message, whose `time` is a text or None; raises InvalidEvent with all its faults."""
    faults = {name: "is required" for name in _REQUIRED if name not in attributes}
    try:
        event = _sdk_event(attributes if time is None else {**attributes, "time": time}, data)
    except InvalidEvent as error:
        faults |= error.faults
    if faults:
        raise InvalidEvent(faults)
    return event


def _from_binary(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    headers, faults = dict(headers), dict[str, str]()
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
    parsed = from_binary(HTTPMessage(encoded, body), _FORMAT, factory)
    return _texts(parsed.get_attributes()), body


def _decoded(value: str) -> str:
    """The text of an attribute's header, quoted or not; raises UnicodeError for what stands for no text.

    Bytes beyond ASCII should come in percent-encoding; those who send them as they are send UTF-8.
    """
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote_to_bytes(value.encode("latin-1")).decode()


def _from_structured(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise InvalidEvent({"message": f"found a JSON {type(document).__name__}, expected an object"})
    nulls = [name for name, value in document.items() if value is None and name != "data"]
    for name in nulls:  # the JSON format takes null for unset
        del document[name]
    if "data_base64" in document:
        _check_base64(document)
    factory = partial(_received, document.pop("time", None))
    checked = json.dumps(document, allow_nan=False).encode()  # Python would read NaN, which is no JSON
    parsed = from_structured(HTTPMessage({"content-type": content_type}, checked), _FORMAT, factory)
    attributes = _texts(parsed.get_attributes())
    data: Any = parsed.get_data()
    if isinstance(data, bytes):
        return attributes, data
    if "data" not in document:
        return attributes, b""
    attributes.setdefault("datacontenttype", "application/json")
    if is_json(attributes["datacontenttype"]):
        return attributes, json.dumps(data, separators=(",", ":")).encode()
    if not isinstance(data, str):
        found = f"a JSON {type(data).__name__} under content type {attributes['datacontenttype']}"
        raise InvalidEvent({"data": f"found {found}, expected a string, or data_base64"})
    return attributes, data.encode()


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
        if isinstance(value, bool):
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
