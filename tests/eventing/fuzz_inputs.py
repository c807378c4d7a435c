"""Requests that no sender should make, and files that nobody should write, as hypothesis draws them."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

from libskylark.eventing.objects import Delivery, Dialect, Metadata, Reference, TriggerSpec
from libskylark.eventing.sources import PingSourceSpec

_ATTRIBUTES: Final = {"specversion": "1.0", "id": "1", "source": "/s", "type": "any"}

# Values and names of headers: mostly what the parser lets through, so that the rest is reached.
_TEXTS: Final = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
_VALUES: Final = st.one_of(
    _TEXTS.map(lambda text: text.encode("latin-1")),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"%", b"%00", b"%ED%A0%80", b'"', b'"\\"', b"1.0", b"0.3", b"-1", b"--5", b"9" * 400, b"NaN"]),
    st.binary(max_size=30),
)
_EXTENSIONS: Final = st.sampled_from(
    [
        "time",
        "subject",
        "datacontenttype",
        "dataschema",
        "data",
        "partitionkey",
        "correlationid",
        "causationid",
        "knativebrokerttl",
        "knativearrivaltime",
        "expirytime",
        "skylarknode",
        "skylarkowner",
        "skylarkepoch",
    ]
)
_ODD_NAMES: Final = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
_NAMES: Final = st.one_of(
    st.one_of(st.sampled_from([*_ATTRIBUTES]), _EXTENSIONS, _ODD_NAMES).map(lambda name: f"ce-{name}".encode()),
    st.sampled_from(
        (
            b"Content-Type Content-Length Transfer-Encoding Expect Connection Upgrade Host Authorization "
            b"traceparent Knative-x X-Request-Id X_Under Prefer Trailer TE"
        ).split()
    ),
    _ODD_NAMES.map(str.encode),
    st.binary(max_size=10),
)
_CONTENT_TYPES: Final = st.sampled_from(
    [
        *(
            f"application/cloudevents{kind}".encode()
            for kind in ("+json", "+json; charset=utf-16", "-batch+json", "+xml", "")
        ),
        *(b"application/json", b"a/b", b";", b""),
    ]
)
_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_STRUCTURED: Final = st.one_of(
    st.dictionaries(
        st.one_of(
            st.sampled_from([*_ATTRIBUTES, "data", "data_base64", "datacontenttype", "subject"]),
            _EXTENSIONS,
            st.text(max_size=6),
        ),
        _JSON,
        max_size=2,
    ).map(lambda changes: json.dumps({**_ATTRIBUTES, **changes}).encode()),
    _JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from([b"[" * 20_000, b'{"a":' * 20_000, b'{"specversion": 1e999}', b'"\\ud800"']),
)
_METHODS: Final = st.sampled_from([b"POST"] * 8 + [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"CONNECT", b"P*ST"])
_TARGETS: Final = st.one_of(
    st.sampled_from([b"/default/default"] * 8 + [b"/default/default/all", b"/health", b"/ready", b"*", b"/", b"//"]),
    st.sampled_from([b"http://x/default/default", b"/default/default?a=%00", b"/default/%ZZ", b"/%00/x", b"/a/b/c/d"]),
    st.binary(max_size=40).map(lambda tail: b"/" + tail),
)


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """The pieces in which a request is written: a good one with some things changed, or no request at all."""
    if draw(st.integers(0, 19)) == 19:
        return [draw(st.binary(min_size=1, max_size=200))]
    pairs = [(b"Host", b"fuzz"), *((f"ce-{name}".encode(), value.encode()) for name, value in _ATTRIBUTES.items())]
    structured = draw(st.booleans())
    if structured or draw(st.integers(0, 3)) == 3:
        pairs = pairs[:1] if structured else pairs
        pairs.append((b"Content-Type", b"application/cloudevents+json" if structured else draw(_CONTENT_TYPES)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        if pairs and draw(st.integers(0, 5)) == 5:
            del pairs[draw(st.integers(0, len(pairs) - 1))]
        name = draw(st.one_of(*[_EXTENSIONS.map(lambda name: f"ce-{name}".encode())] * 2, _NAMES))
        pairs.append((name, draw(_VALUES)))
    framing, body = draw(_framed(draw(_STRUCTURED if structured else st.binary(max_size=300))))
    head = b"%b %b %b\r\n" % (draw(_METHODS), draw(_TARGETS), draw(st.sampled_from([b"HTTP/1.1"] * 9 + [b"HTTP/1.0"])))
    lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    return draw(_in_pieces(head + lines + framing + b"\r\n" + body))


@st.composite
def _framed(draw: st.DrawFn, body: bytes) -> tuple[bytes, bytes]:
    """(header, bytes) that say where a body ends, for the most part rightly."""
    kind = draw(st.integers(0, 11))
    if kind < 7:
        return b"Content-Length: %d\r\n" % len(body), body
    if kind < 10:
        cut = draw(st.integers(0, len(body)))
        parts = [part for part in (body[:cut], body[cut:]) if part]
        ends = draw(
            st.sampled_from([b"0\r\n\r\n"] * 3 + [b"0\r\na: b\r\n\r\n", b"0;x=y\r\n\r\n", b"ffffffff\r\n", b"-1\r\n"])
        )
        return b"Transfer-Encoding: chunked\r\n", b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + ends
    return draw(st.sampled_from([b"", b"Content-Length: %d\r\n" % (len(body) + 1), b"Content-Length: x\r\n"])), body


@st.composite
def _in_pieces(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    cuts = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=3)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


_YAML_SCALARS: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["default", "PT1S", "a"])
)
_MODELS: Final = (Metadata, TriggerSpec, Dialect, Delivery, Reference, PingSourceSpec)
_FIELDS: Final = st.sampled_from(
    [field.alias or name for model in _MODELS for name, field in model.model_fields.items()] + ["uri", "attributes"]
)
_VALUE: Final = st.recursive(
    _YAML_SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """The bytes of an objects' file: near to a right one, or anything."""
    if draw(st.integers(0, 4)) == 0:
        return draw(
            st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
        )
    kind = draw(st.sampled_from(["Trigger", "Broker", "PingSource", "EventType", "x"]))
    group = draw(st.sampled_from(["eventing.knative.dev/v1", "sources.knative.dev/v1", "eventing.knative.dev/v2"]))
    spec = {"broker": "default", "subscriber": {"uri": "http://x/"}, "sink": {"uri": "http://x/"}}
    document: dict[str, Any] = {"apiVersion": group, "kind": kind, "metadata": {"name": "a"}}
    document["spec"] = {**draw(st.sampled_from([spec, {}])), **draw(st.dictionaries(_FIELDS, _VALUE, max_size=4))}
    for name in draw(st.sets(st.sampled_from([*document]), max_size=1)):
        document[name] = draw(_VALUE)
    text = json.dumps(document).encode()  # JSON is YAML, but for what is broken below
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(st.sampled_from([b"&a ", b"*a", b"!!x ", b"\n---\n", b"\t", b"<<: ", b"\xff", b"|"]))
            + text[place:]
        )
    return text
