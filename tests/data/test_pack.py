"""Packs are never over-full, and no row is lost, doubled, cut or left waiting."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.data.pack import FAILED_TOKENS, Drawn, fill_of, fill_packs

PACK_TOKENS = 100
LENGTHS = st.lists(
    st.one_of(st.integers(1, PACK_TOKENS), st.just(FAILED_TOKENS)), min_size=1, max_size=60
)


def rows_of(lengths: list[int], first: int = 0) -> list[Drawn]:
    return [Drawn(0, first + row, tokens) for row, tokens in enumerate(lengths)]


@given(st.lists(LENGTHS, min_size=1, max_size=6))
def test_nothing_is_lost_doubled_or_over_full(windows: list[list[int]]) -> None:
    drawn: list[Drawn] = []
    packed: list[Drawn] = []
    still_open: tuple[Drawn, ...] = ()
    for number, lengths in enumerate(windows):
        rows = rows_of(lengths, first=len(drawn))
        drawn += rows
        flush = number == len(windows) - 1
        filled = fill_packs(still_open, rows, PACK_TOKENS, flush=flush)
        for pack in (*filled.packs, filled.open):
            assert sum(row.room for row in pack) <= PACK_TOKENS
        packed += [row for pack in filled.packs for row in pack]
        still_open = filled.open
    assert still_open == ()
    assert Counter(packed) == Counter(drawn)


@given(LENGTHS, LENGTHS)
def test_rows_of_a_pack_stand_in_the_order_they_were_drawn(
    first: list[int], second: list[int]
) -> None:
    before = fill_packs((), rows_of(first), PACK_TOKENS)
    filled = fill_packs(before.open, rows_of(second, first=len(first)), PACK_TOKENS)
    for pack in (*filled.packs, filled.open):
        assert list(pack) == sorted(pack, key=lambda row: row.row)


@given(LENGTHS, st.lists(st.integers(60, PACK_TOKENS), min_size=3, max_size=9))
def test_no_row_waits_longer_than_one_window_that_opens_another_pack(
    first: list[int], second: list[int]
) -> None:
    before = fill_packs((), rows_of(first), PACK_TOKENS)
    filled = fill_packs(before.open, rows_of(second, first=len(first)), PACK_TOKENS)
    assert not set(before.open) & set(filled.open)


def test_refused_rows_ride_with_the_first_closed_pack() -> None:
    rows = [
        Drawn(0, 0, FAILED_TOKENS),
        Drawn(0, 1, 60),
        Drawn(0, 2, 100),
        Drawn(0, 3, FAILED_TOKENS),
    ]
    filled = fill_packs((), rows, PACK_TOKENS)
    assert filled.packs == ((rows[0], rows[2], rows[3]),)
    assert filled.open == (rows[1],)


def test_a_window_of_refused_rows_alone_makes_a_pack_only_at_the_end() -> None:
    rows = rows_of([FAILED_TOKENS, FAILED_TOKENS])
    waiting = fill_packs((), rows, PACK_TOKENS)
    assert (waiting.packs, waiting.open) == ((), tuple(rows))
    assert fill_packs(waiting.open, [], PACK_TOKENS, flush=True).packs == (tuple(rows),)


def test_a_pack_that_is_exactly_full_does_not_wait() -> None:
    filled = fill_packs((), rows_of([50, 50]), PACK_TOKENS)
    assert [len(pack) for pack in filled.packs] == [2]
    assert filled.open == ()


def chat(draw: random.Random) -> float:
    return draw.gauss(60, 15)


def pictures(draw: random.Random) -> float:
    return draw.uniform(200, 1200) + draw.expovariate(1 / 80)


def texts_and_pictures(draw: random.Random) -> float:
    return draw.lognormvariate(5, 1) if draw.random() < 0.5 else draw.gauss(1300, 300)


@pytest.mark.parametrize("length", [chat, pictures, texts_and_pictures])
def test_packs_are_filled_to_97_per_cent_at_realistic_lengths(
    length: Callable[[random.Random], float],
) -> None:
    """Windows of 256 rows into packs of 8192 tokens: 99.5 % or more was seen."""
    draw, still_open, packs = random.Random(0), (), []
    for _ in range(20):
        rows = rows_of([min(8192, max(8, int(length(draw)))) for _ in range(256)])
        filled = fill_packs(still_open, rows, 8192)
        packs += filled.packs
        still_open = filled.open
    assert fill_of(packs, 8192) >= 0.97
