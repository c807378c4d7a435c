from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from incidents import LATE_FRAMES_TO_RESTART, Incident, Numbering, step


def spot(lon: float | None = 16.0, lat: float | None = 38.0, pixels: int = 4, **more: Any) -> dict[str, Any]:
    area_m2 = None if lon is None else pixels * 900.0
    return {"lon": lon, "lat": lat, "x": 0.0, "y": 0.0, "area_m2": area_m2, "pixels": pixels, **more}


def follow(*frames: list[dict[str, Any]]) -> tuple[list[Incident], list[list[str]], list[list[str]]]:
    """The incidents after frames 0, 1, ..., and the ids raised and ended by each."""
    incidents: list[Incident] = []
    raised_ids, ended_ids = [], []
    for number, hotspots in enumerate(frames):
        incidents, raised, ended = step(incidents, number, hotspots)
        raised_ids.append([incident["id"] for incident in raised])
        ended_ids.append([incident["id"] for incident in ended])
    return incidents, raised_ids, ended_ids


def test_a_fire_seen_in_two_frames_is_raised_once() -> None:
    incidents, raised, _ = follow([spot()], [spot()], [spot()], [spot()])
    assert raised == [[], ["0-0"], [], []]
    assert incidents[0]["frames_seen"] == 4


def test_a_flash_in_one_frame_is_no_alarm() -> None:
    incidents, raised, ended = follow([spot()], [], [], [])
    assert not any(raised)
    assert ended == [[], [], [], ["0-0"]]
    assert incidents == []


def test_a_fire_behind_a_cloud_for_two_frames_goes_on() -> None:
    incidents, raised, ended = follow([spot()], [spot()], [], [], [spot()])
    assert sum(map(len, raised)) == 1
    assert not any(ended)
    assert incidents[0]["last_frame"] == 4


def test_a_fire_that_spreads_stays_one_incident() -> None:
    frames = [[spot(lon=16.0 + 0.0015 * number, pixels=4 + 6 * number)] for number in range(6)]
    incidents, raised, _ = follow(*frames)
    assert [incident["id"] for incident in incidents] == ["0-0"]
    assert sum(map(len, raised)) == 1
    assert incidents[0]["lon"] == 16.0075


def test_two_fires_far_apart_are_two_alarms() -> None:
    both = [spot(), spot(lon=16.02)]
    _, raised, _ = follow(both, both)
    assert sorted(raised[1]) == ["0-0", "0-1"]


def test_a_front_that_falls_apart_is_one_incident() -> None:
    incidents, raised, _ = follow([spot(pixels=20)], [spot(pixels=8), spot(lon=16.001, pixels=8)])
    assert len(incidents) == 1
    assert raised[1] == ["0-0"]
    assert incidents[0]["pixels"] == 16
    assert incidents[0]["area_m2"] == 16 * 900
    assert incidents[0]["lon"] == 16.0005


def test_pictures_without_georeference_match_by_pixels() -> None:
    first = [spot(None, None, x=50.0, y=60.0), spot(None, None, x=150.0, y=60.0)]
    second = [spot(None, None, x=53.0, y=58.0)]
    incidents, raised, _ = follow(first, second)
    assert len(incidents) == 2
    assert len(raised[1]) == 1
    assert incidents[0]["x"] == 53.0


def test_fires_at_the_date_line_match() -> None:
    _, raised, _ = follow([spot(lon=179.9999)], [spot(lon=-179.9999)])
    assert raised[1] == ["0-0"]


def test_the_same_frame_twice_is_one_sighting() -> None:
    incidents, _, _ = step([], 5, [spot()])
    incidents, raised, _ = step(incidents, 5, [spot()], late=True)
    assert raised == []
    assert incidents[0]["frames_seen"] == 1


def test_a_late_frame_confirms_but_moves_opens_and_ends_nothing() -> None:
    incidents, _, _ = step([], 5, [spot()])
    after, raised, ended = step(incidents, 4, [spot(lon=16.001), spot(lon=17.0)], late=True)
    assert [incident["id"] for incident in raised] == ["5-0"]
    assert ended == []
    assert len(after) == 1
    assert (after[0]["lon"], after[0]["last_frame"], after[0]["first_frame"]) == (16.0, 5, 4)
    assert step(after, 3, [], late=True)[0][0]["unseen"] == 0


def test_arguments_are_not_changed() -> None:
    incidents, _, _ = step([], 0, [spot()])
    before = copy.deepcopy(incidents)
    step(incidents, 1, [spot()])
    assert incidents == before


hotspots = st.lists(st.builds(spot, st.floats(15.9, 16.1), st.floats(37.9, 38.1), st.integers(1, 60)), max_size=6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(hotspots, max_size=12), st.randoms(use_true_random=False))
def test_whatever_comes_in_whatever_order_the_books_stay_in_order(frames: list[Any], random: Any) -> None:
    order = list(range(len(frames)))
    random.shuffle(order)
    numbering = Numbering()
    incidents: list[Incident] = []
    alarms: list[str] = []
    for number in order:
        numbering, late = numbering.place(number)
        incidents, raised, _ = step(incidents, number, frames[number], late=late)
        incidents = json.loads(json.dumps(incidents))
        alarms += [incident["id"] for incident in raised]
        names = [incident["id"] for incident in incidents]
        assert len(set(names)) == len(names)
        for incident in incidents:
            assert incident["frames_seen"] >= len(set(incident["frames"])) >= 1
            assert incident["unseen"] < 3
            assert incident["alarmed"] == (incident["frames_seen"] >= 2)
    assert len(set(alarms)) == len(alarms)


def test_frames_in_order_are_never_late() -> None:
    numbering = Numbering()
    for number in (0, 1, 5, 6):
        numbering, late = numbering.place(number)
        assert not late


def test_an_older_or_repeated_frame_is_late() -> None:
    numbering = Numbering(9)
    assert numbering.place(8) == (Numbering(9, 1), True)
    assert numbering.place(9) == (Numbering(9), True)


def test_a_camera_that_counts_anew_is_followed_after_some_frames() -> None:
    numbering, lates = Numbering(500), []
    for number in range(LATE_FRAMES_TO_RESTART + 2):
        numbering, late = numbering.place(number)
        lates.append(late)
    assert lates == [True] * (LATE_FRAMES_TO_RESTART - 1) + [False] * 3
