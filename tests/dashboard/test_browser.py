"""The live page in a browser: it shows the constellation moving, is used by keyboard, and fits small and dark screens.

Pictures of it are left in artefacts/, which is not committed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from libskylark.event import Event
from tests.dashboard.browsing import CONTRAST, QUIET, Open, texts
from tests.dashboard.conftest import PATIENCE_S, ROOT, Page

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need playwright: pip install playwright"
)

ARTEFACTS = ROOT / "artefacts"
FIRE_WATCH = ["preprocess", "detect", "alarm"]


def test_the_page_shows_nine_nodes_by_type_and_their_links(open_page: Open) -> None:
    shown = open_page()
    nodes = shown.locator("[data-node]")
    assert nodes.count() == 9
    kinds = [nodes.nth(place).get_attribute("aria-label").split(", ")[1] for place in range(9)]
    assert sorted(kinds) == ["cloud", "edge", *["satellite"] * 7]
    assert shown.locator(".link:not(.upcoming)").count() == 9
    assert "60 ms · 90 Mbit/s" in shown.locator(".link.access").text_content()


def test_a_tick_moves_the_ground_link_to_the_satellite_that_was_next(open_page: Open) -> None:
    shown = open_page()
    above = shown.locator(".node.above").get_attribute("data-node")
    following = shown.locator(".node.next").get_attribute("data-node")
    assert shown.locator(".link.access").get_attribute("data-link") == f"pi5u1 {above}"
    assert shown.locator(".link.upcoming").get_attribute("data-link") == f"pi5u1 {following}"
    shown.wait_for_selector(f'.link.access[data-link="pi5u1 {following}"]', state="attached")
    sync_api.expect(shown.locator("#now b")).not_to_have_text(above)


def test_the_journey_of_a_frame_opens_as_a_waterfall(open_page: Open) -> None:
    shown = open_page()
    ended = shown.locator(".chains .row", has_text="frame.captured").filter(has_text="ended")
    ended.first.click()
    shown.wait_for_selector("dialog[open] .delivery")
    names = texts(shown, "dialog .who")
    assert list(dict.fromkeys(name for name in names if name in FIRE_WATCH)) == FIRE_WATCH
    assert any(mark.endswith(" ms") for mark in texts(shown, "dialog .axis .marks span"))
    assert "state" in shown.locator("dialog").inner_text()
    shown.keyboard.press("Escape")
    sync_api.expect(shown.locator("dialog")).not_to_be_visible()


def test_a_node_opens_by_keyboard_with_its_processes(open_page: Open) -> None:
    shown = open_page()
    shown.locator('[data-node="pi5u3"]').focus()
    shown.keyboard.press("Enter")
    shown.wait_for_selector("dialog[open] table")
    processes = {
        row.split("\t")[0]: row.split("\t")[1] for row in texts(shown, 'dialog [aria-label="Processes"] tbody tr')
    }
    assert set(processes) == {
        f"pi5u3-{name}" for name in ("redis", "node-info", "elect", "broker", "camera", "preprocess", "detect")
    }
    assert all(pid.isdigit() for pid in processes.values())
    assert "camera, preprocess, detect" in shown.locator("dialog .facts").inner_text()
    links = texts(shown, 'dialog [aria-label="Links"] tbody tr')
    assert {"pi5u2 - pi5u3", "pi5u3 - pi5u4"} <= {row.split("\t")[0] for row in links}
    shown.locator("#close").focus()
    shown.keyboard.press("Enter")
    sync_api.expect(shown.locator("dialog")).not_to_be_visible()


def test_frames_are_shown_with_the_fires_found_in_them_and_alarms_are_listed(open_page: Open) -> None:
    shown = open_page()
    shown.wait_for_function("() => document.querySelector('#frame img')?.naturalWidth === 256")
    shown.wait_for_selector("#frame .overlay .hot")
    shown.wait_for_selector("#alarms .row")
    assert "m²" in texts(shown, "#alarms .row")[0]
    assert shown.locator("#map .alarm").count() >= 1
    shown.locator("#alarms .row").first.click()
    shown.wait_for_selector("dialog[open] .delivery")
    assert "alarm" in texts(shown, "dialog .who")


def test_a_memory_is_told_where_it_is_and_a_handover_is_listed(open_page: Open) -> None:
    shown = open_page()
    shown.wait_for_selector('.memory[data-memory="detect"]:not(.ghost)', state="attached")
    first = shown.locator('.memory[data-memory="detect"]:not(.ghost)').get_attribute("data-at")
    shown.wait_for_selector(f'.memory[data-memory="detect"]:not(.ghost):not([data-at="{first}"])', state="attached")
    shown.wait_for_selector("#handovers .row")
    row = texts(shown, "#handovers .row")[0]
    assert row.startswith("detect area-1")
    assert "fenced" in row
    assert " → " in row
    assert "memory of area-1" in shown.locator("#places").inner_text()


def test_events_and_state_are_seen_on_their_way(open_page: Open) -> None:
    shown = open_page(still=False)
    shown.wait_for_selector(".travellers .event", state="attached")
    before = shown.locator('[data-node="pi5u3"]').get_attribute("transform")
    shown.wait_for_function(
        "before => document.querySelector('[data-node=pi5u3]').getAttribute('transform') !== before", arg=before
    )


def test_what_comes_from_an_event_is_text(open_page: Open, page: Page) -> None:
    shown = open_page()
    name = "com.example.<img src=x onerror=alert(1)>"
    journey = page.running.client().send_and_wait(Event.new(name, "/<b>me</b>", {"a": 1}), PATIENCE_S)
    row = shown.locator(".chains .row", has_text="<img src=x")
    row.first.click()
    shown.wait_for_selector("dialog[open] .waterfall")
    assert name in shown.locator("dialog .waterfall").inner_text()
    assert journey.chain in shown.locator("dialog").inner_text()
    assert shown.locator("dialog img").count() == 0


def test_a_project_without_the_fire_watch_and_without_satellites_has_a_page_too(open_page: Open, page: Page) -> None:
    told = page.json("/api/constellation")
    local = {**told["nodes"][0], "functions": ["count"]}
    nothing: dict[str, list[Any]] = {name: [] for name in ("frames", "alarms", "links", "next_links", "memories")}
    plain = {**told, **nothing, "handovers": [], "nodes": [local], "rotation": None, "access": local["name"]}
    shown = open_page(answers={"constellation": json.dumps(plain), "chains": '{"chains": []}', **QUIET})
    assert shown.locator("[data-node]").count() == 1
    assert not shown.locator(".frame").is_visible()
    assert not shown.locator(".alarms").is_visible()
    sync_api.expect(shown.locator("#now")).to_have_text("1 node, a tick every 2 s")
    assert not shown.locator("#links").is_visible()
    assert shown.locator("#sky").bounding_box()["height"] < 200


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_can_be_read(open_page: Open, width: int, dark: bool) -> None:
    shown = open_page(width=width, height=900 if width > 400 else 844, dark=dark, still=False)
    shown.wait_for_selector("#frame .overlay")
    shown.wait_for_selector("#alarms .row")
    assert shown.evaluate(CONTRAST) == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    name = f"page-{width}-{'dark' if dark else 'light'}"
    ARTEFACTS.mkdir(exist_ok=True)
    shown.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
    shown.locator(".chains .row").first.click()
    shown.wait_for_selector("dialog[open] .waterfall")
    assert shown.evaluate(CONTRAST) == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    shown.screenshot(path=ARTEFACTS / f"{name}-journey.png")
