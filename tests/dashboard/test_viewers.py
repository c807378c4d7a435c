"""Several viewers of one page: all get the same, most are bounded, one that does not read holds up nobody."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import islice

from libskylark.lab.dashboard import MOST_VIEWERS
from tests.dashboard.conftest import PATIENCE_S, Page
from tests.dashboard.streams import Viewer


def boot(page: Page) -> str:
    """What is another one when the page's process has been restarted."""
    cursor: str = page.json("/api/constellation")["cursor"]
    return cursor.rpartition("-")[0]


def test_all_viewers_get_the_same_messages(page: Page) -> None:
    with Viewer(page.url) as one, Viewer(page.url) as other:
        assert one.head()[0] == other.head()[0] == 200
        got, also = ({m[0]: m[1:] for m in islice(viewer.messages(), 12)} for viewer in (one, other))
    common = got.keys() & also.keys()
    assert len(common) >= 6
    assert all(got[name] == also[name] for name in common)


def test_a_viewer_that_comes_back_goes_on_where_it_was(page: Page) -> None:
    with Viewer(page.url) as viewer:
        viewer.head()
        first, second, third = islice(viewer.messages(), 3)
    with Viewer(page.url, headers=f"Last-Event-ID: {first[0]}\r\n") as again:
        again.head()
        assert list(islice(again.messages(), 2)) == [second, third]
    with Viewer(page.url, path="/api/events?after=of-old-1") as stranger:
        stranger.head()
        assert next(stranger.messages())[1] == "reset"


def test_a_viewer_that_does_not_read_holds_up_nobody(page: Page) -> None:
    before = boot(page)
    with Viewer(page.url, buffer_bytes=2048), Viewer(page.url) as reader:
        reader.head()
        epochs = []
        for _, _, items in reader.messages():
            epochs += [item["epoch"] for item in items if item["kind"] == "epoch"]
            if len(epochs) == 2:
                break
    assert epochs[1] > epochs[0]
    assert boot(page) == before


def test_viewers_that_go_away_leave_the_page_as_it_was(page: Page) -> None:
    before = boot(page)
    for _ in range(5):
        with Viewer(page.url) as viewer:
            viewer.head()
            next(viewer.messages())
    with Viewer(page.url) as stays:
        stays.head()
        list(islice(stays.messages(), 5))  # in that time something was written to each connection that is gone
    assert boot(page) == before


def test_more_viewers_than_there_are_places_are_told_so_until_one_leaves(page: Page) -> None:
    with Viewer(page.url) as stays:
        assert stays.head()[0] == 200
        full(page)
        deadline_s = time.monotonic() + PATIENCE_S
        for _ in stays.messages():  # the same is written to those that are gone: so their places become free
            with Viewer(page.url) as viewer:
                if viewer.head()[0] == 200:
                    return
            assert time.monotonic() < deadline_s
    raise AssertionError("the stream has ended")


def full(page: Page) -> None:
    """As many viewers as there are places, and more, for a while."""
    with ExitStack() as places:
        viewers = [places.enter_context(Viewer(page.url)) for _ in range(MOST_VIEWERS)]
        taken = [viewer.head()[0] for viewer in viewers]  # places of tests before this one may be given back later
        assert set(taken) <= {200, 503}
        assert taken.count(200) > MOST_VIEWERS // 2
        with Viewer(page.url) as late:
            status, headers = late.head()
            assert (status, headers["retry-after"], headers["content-type"]) == (503, "5", "application/problem+json")
        assert page.get("/api/chains").status_code == 200
