"""The reader of a connection's requests: whatever the pieces, the same requests; and what is no request, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libskylark.eventing.bodies import BodyRoom
from libskylark.eventing.http_messages import Head, Refused, Response, Take
from libskylark.eventing.http_requests import PIECE_BYTES, Exchange, RequestReader
from libskylark.eventing.settings import BrokerSettings

POST = b"POST /a/b HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
Request = tuple[str, bytes, dict[str, str], dict[str, int], bytes]


class Reading:
    """A reader, the heads that it has asked about, and what it gave."""

    def __init__(self, room: BodyRoom | None = None, refuses: Refused | None = None, **limits: Any) -> None:
        self.settings = BrokerSettings(**limits)
        self.room = room or BodyRoom(self.settings)
        self.refuses = refuses
        self.heads: list[Head] = []
        self.exchanges: list[Exchange] = []
        self.reader = RequestReader(self.settings, self.room, self._admit, self.exchanges.append)

    def _admit(self, head: Head) -> Take:
        self.heads.append(head)
        if self.refuses is not None:
            raise self.refuses
        return lambda body, reply: None

    def feed(self, *pieces: bytes) -> Reading:
        for piece in pieces:
            for start in range(0, len(piece), PIECE_BYTES):
                if not self.reader.is_done:
                    self.reader.feed(piece[start : start + PIECE_BYTES])
        return self

    @property
    def requests(self) -> list[Request]:
        """Those that were admitted, and read to their end; their bodies are held no more."""
        requests = []
        for head, exchange in zip(self.heads, self.exchanges, strict=False):
            assert exchange.body is not None
            body = exchange.body.take()
            exchange.body.release()
            requests.append((head.method, head.target, head.headers, dict(head.repeated), body))
        return requests

    @property
    def refusal(self) -> tuple[int, str]:
        """(status, detail) of the last answer, after which nothing is read nor held."""
        assert self.reader.is_done
        assert self.room.held_bytes == 0
        return told(self.exchanges[-1].response)


def told(response: Response | None) -> tuple[int, str]:
    assert response is not None
    return response.status, json.loads(response.body)["detail"]


NAMES = st.sampled_from(["ce-id", "ce-type", "X-Long-Name", "a", "Accept"])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), min_size=1, max_size=20)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, Request]:
    """A request as it is sent, and as it is meant."""
    method = draw(st.sampled_from(["POST", "GET", "HEAD", "PUT", "OPTIONS"]))
    target = b"/" + draw(st.text("abc/?=%20", max_size=30)).encode()
    given = [("Host", "h"), *draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))]
    chunks = draw(st.lists(st.binary(min_size=1, max_size=50), max_size=4))
    body = b"".join(chunks)
    if draw(st.booleans()):
        given.append(("Transfer-Encoding", "chunked"))
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b;c"']))
        trailers = draw(st.sampled_from([b"", b"T: r\r\n", b"ce-id: other\r\nHost: other\r\n"]))
        sent = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        sent += b"0%b\r\n%b\r\n" % (extension, trailers)
    else:
        given += [("Content-Length", str(len(body)))] if body or draw(st.booleans()) else []
        sent = body
    if draw(st.integers(0, 3)) == 3:
        given += [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")]
    blank = draw(st.sampled_from(["", " ", "   "]))
    lines = "".join(f"{name}:{blank}{value}{blank}\r\n" for name, value in given).encode("latin-1")
    names = [name.lower() for name, _ in given]
    headers = {name.lower(): value for name, value in given}
    repeated = {name: names.count(name) for name in names if names.count(name) > 1}
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target, lines)
    return head + sent, (method, target, headers, repeated, body)


@settings(max_examples=50)
@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_requests_are_the_same_however_they_are_cut(sent: list[tuple[bytes, Request]], data: st.DataObject) -> None:
    whole = b"".join(message for message, _ in sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True) if start < end]
    for given_pieces in (pieces, [whole[at : at + 1] for at in range(len(whole))]):
        reading = Reading().feed(*given_pieces)
        assert [exchange.closes for exchange in reading.exchanges] == [False] * len(sent)
        assert reading.requests == [request for _, request in sent]
        assert reading.reader.reading is None
        assert reading.room.held_bytes == 0


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 3, 3\r\n\r\nabc",
        POST + b"Content-Length: +3\r\n\r\nabc",
        POST + b"Content-Length: \r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        POST + b"Transfer-Encoding: gzip\r\n\r\nabc",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"a: b\r\n c\r\n\r\n",
        POST + b"a: b\n\r\n",
        POST + b"a: b\rc: d\r\n\r\n",
        POST + b"a: b\0c\r\n\r\n",
        POST + b": b\r\n\r\n",
        POST + b"Host: other\r\n\r\n",
        b"POST /a/b HTTP/1.1\r\nce-id: 1\r\n\r\n",
        b"POST /a/b HTTP/1.1\r\n Host: h\r\n\r\n",
        b"POST /a/b HTTP/1.1\nHost: h\n\n",
        b"POST /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"post /a/b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /a/b HTTP/1.2\r\nHost: h\r\n\r\n",
        b"POST /a/b HTTP/2.0\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /a/b HTTP/0.9\r\nHost: h\r\n\r\n",
        b"GET /a/b\r\n\r\n",
        CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\na\r\n0\r\n\r\n",
        CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\naX0\r\n\r\n",
        CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_what_another_server_might_read_otherwise_is_refused(request_: bytes) -> None:
    hidden = b"POST /a/b HTTP/1.1\r\nHost: h\r\n\r\n"
    for pieces in ([request_ + hidden], [request_[at : at + 1] for at in range(len(request_))]):
        reading = Reading().feed(*pieces)
        assert reading.refusal[0] == 400
        assert len(reading.exchanges) == 1
        assert reading.exchanges[0].closes


def test_of_an_upgrade_with_a_body_the_body_is_no_request() -> None:
    hidden = b"POST /a/b HTTP/1.1\r\nHost: h\r\nce-id: hidden\r\n\r\n"
    upgrade = POST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    reading = Reading().feed(upgrade + hidden + hidden)
    assert [request[4] for request in reading.requests] == [hidden]
    assert reading.exchanges[0].closes
    old = Reading().feed(upgrade.replace(b"1.1", b"1.0").replace(b", close", b", keep-alive") + hidden + POST + b"\r\n")
    assert [(exchange.is_old, exchange.closes) for exchange in old.exchanges] == [(True, False), (False, False)]


def test_nothing_is_read_behind_a_connect() -> None:
    refuses = Refused(405, "events are sent with POST")
    reading = Reading(refuses=refuses).feed(b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n" + POST + b"\r\n")
    assert reading.refusal == (405, "events are sent with POST")
    assert len(reading.heads) == len(reading.exchanges) == 1


@pytest.mark.parametrize(
    ("lines", "old", "closes"),
    [
        (b"HTTP/1.1\r\n", False, False),
        (b"HTTP/1.1\r\nConnection: close\r\n", False, True),
        (b"HTTP/1.1\r\nConnection: x, Close\r\n", False, True),
        (b"HTTP/1.0\r\n", True, True),
        (b"HTTP/1.0\r\nConnection: keep-alive\r\n", True, False),
    ],
)
def test_who_closes_the_connection_is_told_by_the_request(lines: bytes, old: bool, closes: bool) -> None:
    (exchange,) = Reading().feed(b"GET /health " + lines + b"Host: h\r\n\r\n").exchanges
    assert (exchange.is_old, exchange.closes) == (old, closes)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (POST + b"".join(b"x-%d: v\r\n" % number for number in range(100)) + b"\r\n", 431),
        (POST + b"".join(b"x-%d: v\r\n" % number for number in range(99)) + b"\r\n", 0),
        (POST + b"x: " + b"v" * 33_000 + b"\r\n\r\n", 431),
        (POST + b"x: " + b"v" * 32_000 + b"\r\n\r\n", 0),
        (POST + b"x: " + b"v" * 200_000, 431),
        (POST + b"x" * 200_000, 431),
        (POST + b"x: v\r\n" * 100_000, 431),
        (b"POST /" + b"p" * 4095 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 0),
        (b"POST /" + b"p" * 4096 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"POST /" + b"p" * 1_000_000, 414),
        (b"P" * 1_000_000, 400),
        (CHUNKED + b"1\r\na\r\n0\r\nT: " + b"v" * 1_000_000, 431),
        (CHUNKED + b"1\r\na\r\n0\r\n" + b"T: v\r\n" * 100_000, 431),
        (CHUNKED + b"1;" + b"e" * 1_000_000, 431),
    ],
)
def test_all_but_the_body_has_limits(head: bytes, status: int) -> None:
    reading = Reading().feed(head)
    if status:
        assert reading.refusal[0] == status
    else:
        assert len(reading.requests) == 1


def test_what_stands_between_two_parts_of_a_body_has_no_limit_together() -> None:
    reading = Reading(max_body_bytes=1_000_000)
    reading.feed(CHUNKED, *([b"8;extension\r\n", b"12345678\r\n"] * 5000), b"0\r\n\r\n")
    assert [len(request[4]) for request in reading.requests] == [40_000]


def test_chunks_that_are_too_long_together_are_refused() -> None:
    reading = Reading(max_body_bytes=100).feed(CHUNKED + b"3c\r\n%b\r\n" % (b"x" * 60) * 2)
    assert reading.refusal == (413, "the body is larger than 100 bytes")


@pytest.mark.parametrize(("size_bytes", "status"), [(100, 0), (101, 413)])
def test_a_length_that_is_too_much_is_refused_before_the_body_comes(size_bytes: int, status: int) -> None:
    reading = Reading(max_body_bytes=100).feed(POST + b"Content-Length: %d\r\n\r\n" % size_bytes)
    assert reading.reader.is_done == bool(status)
    assert not status or reading.refusal[0] == status


@pytest.mark.parametrize(("chunk", "refused"), [(b"1\r\nx\r\n", True), (b"9\r\n123456789\r\n", False)])
def test_a_body_of_next_to_nothing_in_each_of_very_many_chunks_is_refused(chunk: bytes, refused: bool) -> None:
    reading = Reading().feed(CHUNKED + chunk * 16_384 + b"0\r\n\r\n")
    if refused:
        assert reading.refusal == (400, "found 16384 chunks of 16384 bytes together, expected larger ones")
    else:
        assert [len(request[4]) for request in reading.requests] == [9 * 16_384]


def test_bodies_that_are_read_at_once_have_a_limit_together() -> None:
    limits: dict[str, Any] = {"max_body_bytes": 200_000, "max_held_bytes": 200_000}
    first = Reading(**limits).feed(CHUNKED + b"249f0\r\n" + b"x" * 150_000)
    room = first.room
    assert room.held_bytes == 150_000
    for framing in (b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n" + b"x" * 100_000):
        other = Reading(room, **limits).feed(POST + framing)
        status, detail = told(other.exchanges[0].response)
        assert (status, "no room" in detail, room.held_bytes) == (503, True, 150_000)
        assert other.exchanges[0].response is not None
        assert ("Retry-After", "1") in other.exchanges[0].response.headers
    small = Reading(room, **limits).feed(POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000)
    assert room.held_bytes == 210_000
    assert [len(request[4]) for request in small.requests] == [60_000]
    assert room.held_bytes == 150_000
    first.reader.close()
    assert room.held_bytes == 0
    again = Reading(room, **limits).feed(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
    assert [len(request[4]) for request in again.requests] == [200_000]


@pytest.mark.parametrize("end", ["close", "end", "refuse"])
def test_a_body_that_does_not_end_is_held_no_more(end: str) -> None:
    reading = Reading().feed(POST + b"Content-Length: 9000\r\n\r\n" + b"x" * 5000)
    assert reading.room.held_bytes == 5000
    getattr(reading.reader, end)(*([Refused(408, "late")] if end == "refuse" else []))
    assert reading.room.held_bytes == 0
    assert len(reading.exchanges) == (end == "refuse")


def test_a_refused_request_with_a_small_body_leaves_its_connection_to_the_next() -> None:
    reading = Reading(refuses=Refused(404, "no broker"))
    small = POST + b"Content-Length: 65536\r\n\r\n" + b"x" * 65_536
    chunked = CHUNKED + b"8000\r\n%b\r\n" % (b"x" * 32_768) + b"0\r\n\r\n"
    reading.feed(small + chunked + POST + b"\r\n")
    assert [told(exchange.response) for exchange in reading.exchanges] == [(404, "no broker")] * 3
    assert not any(exchange.closes for exchange in reading.exchanges)
    assert reading.room.held_bytes == 0


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 65537\r\n\r\n",
        b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n10001\r\n" + b"x" * 65_537,
        b"Content-Length: 5\r\nTransfer-Encoding",
        b"Transfer-Encoding: chunked\r\n\r\nno chunk",
    ],
)
def test_a_refused_request_whose_body_is_not_waited_for_is_the_last_one(rest: bytes) -> None:
    reading = Reading(refuses=Refused(404, "no broker")).feed(POST + rest, b"\r\n\r\n")
    assert reading.refusal[0] == (400 if rest.endswith(b"Encoding") else 404)
    assert [exchange.closes for exchange in reading.exchanges] == [True]


def test_who_waits_to_send_its_body_is_asked_once() -> None:
    reading = Reading().feed(POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
    assert [reading.reader.wants_to_continue() for _ in range(2)] == [True, False]
    assert len(reading.feed(b"12345").requests) == 1
    old = Reading().feed(POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert not old.reader.wants_to_continue()
    there = Reading().feed(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n12345")
    assert not there.reader.wants_to_continue()


def test_a_fault_of_ours_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Reading):
        def _admit(self, head: Head) -> Take:
            raise ZeroDivisionError("broken")

    assert Broken().feed(POST + b"\r\n").refusal == (500, "the broker failed; its log says how")
    assert "ZeroDivisionError: broken" in caplog.text
