"""Rows fall into packs in the plan as they do in training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.core.errors import InputError
from manako.core.example import Lengths
from manako.plan.packs import pack_sample


def lengths(tokens: int, *, trained: int = 1, patches: int = 0) -> Lengths:
    return Lengths(
        text_tokens=tokens, image_tokens=0, trained_tokens=trained, vision_patches=patches
    )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(1, 50))
def test_packs_never_hold_more_than_they_may(tokens: list[int], window: int) -> None:
    found = pack_sample([lengths(count) for count in tokens], pack_tokens=50, window_rows=window)
    assert found.worst.tokens <= 50
    assert 0 < found.fill <= 1


@pytest.mark.parametrize(("sample", "words"), [([51], "51 tokens"), ([], "no row")])
def test_rows_that_fill_no_pack_are_refused(sample: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pack_sample([lengths(count) for count in sample], pack_tokens=50, window_rows=8)


def test_equal_rows_fill_packs_to_the_last_token() -> None:
    found = pack_sample([lengths(10, trained=2, patches=4)], pack_tokens=100, window_rows=64)
    assert found.rows_per_pack == 10
    assert found.fill == 1.0
    assert (found.worst.trained_tokens, found.worst.vision_patches) == (20, 40)


def test_rows_that_never_fill_a_pack_still_give_one() -> None:
    found = pack_sample([lengths(3)], pack_tokens=10**6, window_rows=8)
    assert found.rows_per_pack > 0
