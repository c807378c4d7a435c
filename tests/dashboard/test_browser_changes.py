"""The live page in a browser as things change: handovers by their steps, links that are cut, a lab that goes away."""

from __future__ import annotations

import json
import re

import pytest

from tests.dashboard.browsing import CONTRAST, QUIET, Open, answering
from tests.dashboard.conftest import Page

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser tests need playwright: pip install playwright"
)

#: From now on `steps` has what the handover under way has shown: the steps that are done and the one of now.
STEPS_SEEN = """() => {
  window.steps = [];
  new MutationObserver(() => {
    const told = [...document.querySelectorAll("#under-way .done, #under-way .now")].map((step) => step.textContent);
    if (told.length && told.join(", ") !== steps.at(-1)) steps.push(told.join(", "));
  }).observe(document.getElementById("under-way"), { subtree: true, childList: true });
}"""

#: Whether the steps seen end one after the other as told; the page may have opened in the middle of a handover.
ENDED_AS = """told => steps.map((done) => done.split(", ").at(-1)).join(", ").includes(told)"""

#: The rows of the list of links, and the ends of the ground link in the picture.
LINKS = """() => [
  [...document.querySelectorAll("#link-table tbody tr")].map((row) => row.innerText),
  document.querySelector(".link.access").dataset.link,
]"""

#: How long a connection waits between its tries where nobody answers.
WAITS = """async () => {
  const { Connection } = await import("/static/connection.js");
  const waits = [];
  window.fetch = () => Promise.reject(new Error("nobody answers"));
  window.setTimeout = (again, wait_ms) => { if (waits.length < 50) { waits.push(wait_ms); again(); } };
  await new Connection(() => {}, () => {}, () => {}).begin();
  for (let turn = 0; turn < 1000; turn += 1) await null;
  return waits;
}"""


@pytest.mark.parametrize("still", [False, True], ids=["moving", "still"])
def test_all_steps_of_a_handover_are_seen_although_they_take_milliseconds(open_page: Open, still: bool) -> None:
    shown = open_page(still=still)
    shown.evaluate(STEPS_SEEN)
    if still:  # where the system asks for less motion, all at once
        shown.wait_for_function("() => steps.includes('pre-copy, commit, retire')")
    else:
        shown.wait_for_function(ENDED_AS, arg="commit, retire")


@pytest.mark.parametrize("width", [1280, 390])
def test_every_link_is_listed_with_its_figures_and_the_ground_link_is_marked(open_page: Open, width: int) -> None:
    shown = open_page(width=width)
    if width == 1280:
        shown.locator("#links summary").focus()
        shown.keyboard.press("Enter")
    shown.wait_for_selector("#link-table table")
    told, ends = shown.evaluate(LINKS)  # at once: a tick may come between two looks
    rows = [text.split("\t") for text in told]
    (ground,) = (row for row in rows if row[-1] == "ground link")
    assert (len(rows), ground[:3]) == (9, [ends.replace(" ", " - "), "60", "90"])
    assert shown.evaluate("document.querySelector('#link-table').scrollWidth - innerWidth") <= 0


def test_a_link_that_is_cut_is_told_so_in_the_picture_and_in_the_list(open_page: Open, page: Page) -> None:
    told = page.json("/api/constellation")
    told["links"][0] |= {"state": "silent", "bandwidth_mbps": None}
    shown = open_page(width=390, answers={"constellation": json.dumps(told), "chains": '{"chains": []}', **QUIET})
    sync_api.expect(shown.locator(".link.cut .link-figures")).to_have_text("cut (silent)")
    assert "1 cut" in shown.locator("#link-summary").inner_text()
    row = shown.locator("#link-table tbody tr").first.inner_text().split("\t")
    assert (row[2], row[-1]) == ("no limit", "cut (silent)")


def test_a_lab_that_has_gone_is_told_so_with_the_time_of_what_is_shown(open_page: Open, page: Page) -> None:
    told = page.get("/api/constellation").text
    shown = open_page(answers={"constellation": told, "chains": '{"chains": []}', **QUIET})
    shown.route("**/api/constellation", answering("gone", "application/json"))
    shown.wait_for_selector("#lost:not([hidden])")
    lost = shown.locator("#lost-words")
    sync_api.expect(lost).to_have_text(re.compile(r"has ended or cannot be reached\. .* as of \d\d:\d\d:\d\d\.$"))
    sync_api.expect(shown.locator("#now")).to_have_text(re.compile(r"^\S+ was above area-1$"))
    assert shown.evaluate(CONTRAST) == []
    shown.route("**/api/constellation", answering(told, "application/json"))
    shown.locator("#again").focus()
    shown.keyboard.press("Enter")
    sync_api.expect(lost).to_have_text(re.compile(r"^The lab answers, but sends no news"))


def test_a_lab_that_has_gone_is_sought_ever_more_rarely_and_not_for_ever(open_page: Open) -> None:
    waits_ms = open_page().evaluate(WAITS)
    assert waits_ms == sorted(waits_ms)
    assert (waits_ms[0], waits_ms[-1]) == (1000, 60_000)
    assert len(waits_ms) < 10
