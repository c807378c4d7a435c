"""Durations as Knative's parser takes them."""

from __future__ import annotations

import pytest

from libskylark.eventing.values import parse_iso_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT0,5S", 0.5),
        ("PT.5S", 0.5),
        ("PT2.S", 2),
        ("PT1M30S", 90),
        ("PT1.5M", 90),
        ("PT1.5H0.5M", 5430),
        ("P1DT1H", 90000),
        ("P1DT", 86400),
        ("P0.5D", 43200),
        ("P2W", 1209600),
        ("P1Y", 365.2425 * 86400),
        ("P12M", 365.2425 * 86400),
        ("P1Y2M3W4DT5H6M7.8S", 31556952 + 2 * 2629746 + 25 * 86400 + 18367.8),
        ("+PT1S", 1),
        ("-PT1S", -1),
        ("P0", 0),
        ("P0D", 0),
        ("P3276Y", 3276 * 31556952),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_iso_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "P", "+P", "PT", "1S", "PT1", "PTS", "PT.S", "PT1H1", "PT1S1M", "P1D1W", "P1S", "PT1Y", "P1YT1D"),
        *("PT1S ", "\nPT1S", "PT1S\n", "pt1s", "PT1s", "--PT1S", "PT-1S", "PT1.5.5S", "PT1_0S", "PT1e3S", "PT٣S"),
        *("P3277Y", "P1200000D", f"PT{'9' * 400}S"),
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_iso_duration_s(text)
