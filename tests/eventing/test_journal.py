"""Records of the journal: read as they were written, and as brokers of before wrote them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.eventing.journal import Accepted, Duplicate, Outcome, Record, decode, encode
from libskylark.timing import Timing

TEXT: Any = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES: Any = st.lists(TEXT, max_size=3).map(tuple)
MS: Any = st.integers(0, 10**9).map(lambda us: us / 1000)
TIMING: Any = st.builds(Timing, TEXT, MS, TEXT, TEXT, st.integers(0, 10**12))
RECORD: Any = st.one_of(
    st.builds(Accepted, TEXT, TEXT, TEXT, TEXT, st.none() | TEXT, NAMES, TEXT, st.booleans(), TEXT, TEXT),
    st.builds(Duplicate, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT),
    st.builds(
        Outcome,
        *[TEXT] * 4,
        st.sampled_from(["delivered", "replied", "forwarded", "readdressed", "dead-lettered", "expired"]),
        st.integers(0, 599),
        st.integers(0, 100),
        st.none() | TEXT,
        MS,
        TEXT,
        TEXT,
        TEXT,
        st.lists(TIMING, max_size=3).map(tuple),
    ),
)


@given(RECORD)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert decode(encode(record)) == record
    assert decode(encode(record).decode()) == record


def test_records_that_say_less_are_read() -> None:
    accepted = (
        '{"kind":"accepted","event":"1","source":"/s","type":"t","chain":"c","cause":null,"to":["d/a"],"time":"n"}'
    )
    assert decode(accepted) == Accepted("1", "/s", "t", "c", None, ("d/a",), "n")
    outcome = (
        '{"kind":"outcome","event":"1","chain":"c","type":"t","trigger":"d/a","outcome":"delivered",'
        '"status":202,"attempts":1,"reply":null,"duration_ms":1.5,"time":"n","reason":""}'
    )
    assert decode(outcome) == Outcome("1", "c", "t", "d/a", "delivered", 202, 1, None, 1.5, "n")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind":"accepted"}', '{"kind":"duplicate","x":1}', '{"kind":"outcome"}']
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        decode(text)
