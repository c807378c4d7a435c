"""The Server-Timing header of a function's answer: what is written is read again, and what others write is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.timing import Timing, read_timings, write_timings

PLACED = st.builds(
    Timing,
    st.sampled_from(["state", "memory"]),
    st.integers(0, 10**9).map(lambda us: us / 1000),
    st.sampled_from(["inline", "local", "remote", "waited"]),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True),
    st.integers(0, 10**12 - 1),
)
COMMIT = st.builds(Timing, st.just("commit"), st.integers(0, 10**9).map(lambda us: us / 1000))


@given(st.lists(PLACED | COMMIT, max_size=20))
def test_what_is_written_is_read_up_to_a_length(timings: list[Timing]) -> None:
    text = write_timings(timings)
    assert len(text) <= 512
    assert text.isascii()
    assert text.isprintable()
    found = read_timings(text)
    assert list(found) == timings[: len(found)]
    assert len(found) >= min(len(timings), 3)


def test_the_header_has_the_standard_form() -> None:
    timings = [Timing("state", 0.8, "remote", "sat-1", 2048), Timing("commit", 1.25)]
    header = 'skylark-state;dur=0.800;desc="remote sat-1";size=2048, skylark-commit;dur=1.250'
    assert write_timings(timings) == header
    assert write_timings([]) == ""


@given(st.text())
def test_any_header_is_read(text: str) -> None:
    assert read_timings(text) == ()


@pytest.mark.parametrize(
    "foreign",
    [
        'cache;desc="Cache Read";dur=23.2',
        "db;dur=53, app;dur=47.2",
        "skylark-state",
        "skylark-state;dur=-1",
        "skylark-state;dur=nan",
        "skylark-state;dur=1e9",
        "skylark-state;dur=1;desc=local",
        'skylark-state;dur=1;desc="elsewhere x";size=1',
        'skylark-state;dur=1;desc="local x y";size=1',
        f'skylark-state;dur=1;desc="local {"x" * 64}";size=1',
        "skylark-other;dur=1",
        "x-skylark-commit;dur=1",
        "skylark-commit;dur=\u0661",
    ],
)
def test_what_others_write_is_left_out(foreign: str) -> None:
    assert read_timings(foreign) == ()
    assert read_timings(f"{foreign}, skylark-commit;dur=1.5") == (Timing("commit", 1.5),)
    assert read_timings(f"skylark-commit;dur=1.5 , {foreign}") == (Timing("commit", 1.5),)


def test_no_more_than_eight_are_taken_and_no_more_than_4_kib_looked_at() -> None:
    assert len(read_timings(", ".join(["skylark-commit;dur=1"] * 100))) == 8
    assert read_timings("x" * 4096 + ", skylark-commit;dur=1") == ()
