from __future__ import annotations

import contextlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libskylark.errors import KeyFormatError
from libskylark.key import StateKey

parts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)


@given(parts, parts, parts)
def test_a_key_is_parsed_back_from_its_text(chain: str, node: str, task: str) -> None:
    key = StateKey(chain, node, task)
    assert StateKey.parse(str(key)) == key
    assert str(key) == f"{chain}:{node}:{task}"


@pytest.mark.parametrize("text", ["", "a", "a:b", "a:b:c:d", "::", "a::c", "a:b:", ":b:c"])
def test_a_text_that_is_not_three_parts_is_refused(text: str) -> None:
    with pytest.raises(KeyFormatError):
        StateKey.parse(text)


@pytest.mark.parametrize("part", ["", " a", "a b", "-a", ".a", "ä", "a\n", "a*", "x" * 129])
def test_a_part_with_other_characters_is_refused_by_name(part: str) -> None:
    for position, name in enumerate(("chain", "node", "task")):
        values = ["a", "b", "c"]
        values[position] = part
        with pytest.raises(KeyFormatError, match=name):
            StateKey(*values)


@given(st.text())
def test_parsing_any_text_raises_nothing_but_key_format_errors(text: str) -> None:
    with contextlib.suppress(KeyFormatError):
        assert str(StateKey.parse(text)) == text


def test_a_chain_id_that_fits_is_kept() -> None:
    assert StateKey.of_chain("chain-1", "n", "t") == StateKey("chain-1", "n", "t")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_chain_id_gets_the_same_key_every_time(chain: str) -> None:
    key = StateKey.of_chain(chain, "n", "t")
    assert key == StateKey.of_chain(chain, "n", "t")
    assert key.chain in (chain, str(uuid.uuid5(uuid.NAMESPACE_URL, chain)))


def test_different_odd_chain_ids_get_different_keys() -> None:
    assert StateKey.of_chain("a:b", "n", "t") != StateKey.of_chain("a b", "n", "t")
