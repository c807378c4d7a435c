"""News: batches that all viewers share, where a viewer goes on, and what happens to one that does not read."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from libskylark.dashboard.news import News, sent_gently


@pytest.fixture
def news() -> Iterator[News]:
    with News(batch_s=0.001, batches=5, heartbeat_s=0.05) as news:
        yield news


def messages(feed: Iterator[bytes]) -> Iterator[tuple[str, str, Any]]:
    """(id, event, data) of what a viewer gets; comments are passed over."""
    for text in feed:
        fields = dict(line.split(": ", 1) for line in text.decode().strip().splitlines() if not line.startswith(":"))
        if "data" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])


def tell(news: News, number: int) -> str:
    """One batch with a number in it; its id."""
    feed = messages(news.feed(news.cursor))
    news.add({"number": number})
    position, event, items = next(feed)
    assert (event, items) == ("news", [{"number": number}])
    return position


def test_a_viewer_goes_on_after_the_last_batch_that_it_has(news: News) -> None:
    first, second, third = (tell(news, number) for number in range(3))
    again = messages(news.feed(first))
    assert [next(again) for _ in range(2)] == [
        (second, "news", [{"number": 1}]),
        (third, "news", [{"number": 2}]),
    ]


def test_a_viewer_that_has_missed_too_much_begins_anew(news: News) -> None:
    first = tell(news, 0)
    for number in range(1, 8):
        last = tell(news, number)
    assert next(messages(news.feed(first))) == (last, "reset", {})


@pytest.mark.parametrize("after", ["", "1", "other-1", "-", "x-99999999999999999999"])
def test_an_id_of_another_process_begins_anew(news: News, after: str) -> None:
    last = tell(news, 0)
    assert next(messages(news.feed(after))) == (last, "reset", {})


def test_an_id_that_is_still_to_come_begins_anew(news: News) -> None:
    boot = tell(news, 0).rpartition("-")[0]
    assert next(messages(news.feed(f"{boot}-7")))[1] == "reset"


def test_of_what_has_one_key_the_last_is_told() -> None:
    news = News(batch_s=0.001)
    for number in range(3):
        news.add({"number": number}, "key")
    news.add({"other": 1})
    news.add(lambda: None, "nothing any more")
    news.add(lambda: {"made": "late"}, "late")
    feed = messages(news.feed(news.cursor))
    with news:
        assert next(feed)[2] == [{"number": 2}, {"other": 1}, {"made": "late"}]


def test_a_flood_is_cut_and_not_kept() -> None:
    quiet = News(batch_s=0.001)
    for number in range(2000):
        quiet.add({"number": number})
    feed = messages(quiet.feed(quiet.cursor))
    with quiet:
        assert len(next(feed)[2]) == 400


def test_where_nothing_happens_a_viewer_hears_that_it_is_connected(news: News) -> None:
    feed = news.feed(None)
    assert [next(feed), next(feed)] == [b"retry: 1000\n\n", b": still here\n\n"]


def test_streams_end_when_the_news_do() -> None:
    with News(heartbeat_s=60) as news:
        got: list[list[bytes]] = []
        viewers = [threading.Thread(target=lambda: got.append(list(news.feed(None)))) for _ in range(3)]
        for viewer in viewers:
            viewer.start()
    for viewer in viewers:
        viewer.join(10)
    assert got == [[b"retry: 1000\n\n"]] * 3


def test_a_viewer_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libskylark.dashboard.news._PATIENCE_S", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(True)
        sent = 0
        for piece in sent_gently(iter([b"x" * 1_000_000] * 100), ours):
            ours.sendall(piece)  # would block for ever here, if pieces came without room for them
            sent += len(piece)
        assert 0 < sent < 100_000_000
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"the end")
