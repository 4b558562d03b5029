"""Every row once per epoch, in an order that integers alone decide; shares that are exact."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manako.core.errors import InputError
from manako.data.order import (
    EpochOrder,
    SourceOrder,
    key_of,
    largest_deficit,
    permutation,
    whole_weights,
)


def groups_of(counts: list[int], row_bytes: int = 10) -> list[tuple[int, int, int]]:
    starts = np.cumsum([0, *counts])[:-1].tolist()
    return [(first, rows, rows * row_bytes) for first, rows in zip(starts, counts, strict=True)]


PINNED = [4, 3, 7, 0, 1, 5, 6, 2]
PINNED_KEY = 13048681295713289118
COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=20).filter(any)


@given(st.integers(0, 500), st.integers(0, 2**64 - 1))
def test_permutation_holds_every_number_once(count: int, key: int) -> None:
    assert sorted(permutation(count, key).tolist()) == list(range(count))


def test_permutation_never_changes_between_versions() -> None:
    """A stopped run is resumed years later: these values are a promise."""
    assert permutation(8, 1).tolist() == PINNED
    assert key_of(0, "a", 0) == PINNED_KEY


@given(COUNTS, st.integers(1, 400), st.integers(0, 2**64 - 1))
def test_an_epoch_gives_every_row_once(counts: list[int], block_bytes: int, key: int) -> None:
    order = EpochOrder(groups_of(counts), key, block_bytes=block_bytes)
    rows = sum(counts)
    assert sorted(order.row(position) for position in range(rows)) == list(range(rows))


@given(COUNTS, st.integers(0, 2**64 - 1))
def test_positions_may_be_asked_in_any_order(counts: list[int], key: int) -> None:
    groups, rows = groups_of(counts), sum(counts)
    forward = EpochOrder(groups, key, block_bytes=50)
    backward = EpochOrder(groups, key, block_bytes=50)
    found = [forward.row(position) for position in range(rows)]
    assert [backward.row(position) for position in reversed(range(rows))] == found[::-1]


def test_a_large_source_is_read_a_few_groups_at_a_time() -> None:
    groups = groups_of([10] * 40)
    order = EpochOrder(groups, 3, block_bytes=500)
    for start in range(0, 400, 50):
        touched = {order.row(position) // 10 for position in range(start, start + 50)}
        assert len(touched) == 5
    assert [order.row(position) for position in range(400)] != list(range(400))


def test_epochs_sources_and_seeds_have_orders_of_their_own() -> None:
    groups = groups_of([50])
    orders = {
        tuple(SourceOrder(name, groups, 50, seed=seed).row(epoch, p) for p in range(50))
        for name in ("a", "b")
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 8


def test_a_small_source_is_shuffled_as_a_whole() -> None:
    order = SourceOrder("a", groups_of([10] * 10), 100, seed=0)
    first = [order.row(0, position) for position in range(100)]
    assert len({row // 10 for row in first[:20]}) > 5


def test_the_place_after_the_last_row_is_the_next_epoch() -> None:
    order = SourceOrder("a", groups_of([3]), 3, seed=0)
    assert [order.after(0, 1), order.after(0, 2), order.after(4, 2)] == [(0, 2), (1, 0), (5, 0)]


@pytest.mark.parametrize(
    ("groups", "rows", "message"),
    [
        ([(0, 3, 30), (4, 2, 20)], 6, "expected row 3"),
        ([(0, 3, 30)], 4, "says 4"),
        ([], 0, "no rows"),
    ],
)
def test_row_groups_that_contradict_the_source_are_refused(
    groups: list[tuple[int, int, int]], rows: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SourceOrder("a", groups, rows, seed=0)


def test_decimal_weights_become_whole_numbers_in_exactly_their_proportion() -> None:
    assert whole_weights([0.1, 0.25, 2]) == (2, 5, 40)
    assert whole_weights([0.0, 1e-3]) == (0, 1)


WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


@given(WEIGHTS, st.integers(1, 100))
def test_rows_drawn_keep_to_their_shares(weights: list[int], draws: int) -> None:
    """At no time does a source lie more than one row per source away from its share."""
    spent, total = [0] * len(weights), sum(weights)
    for done in range(1, draws + 1):
        spent[largest_deficit(weights, spent)] += 1
        for weight, rows in zip(weights, spent, strict=True):
            assert abs(rows * total - weight * done) <= len(weights) * total
            assert weight or not rows


@given(WEIGHTS, st.integers(0, 2**32))
def test_answer_tokens_keep_to_their_shares(weights: list[int], seed: int) -> None:
    """What is weighed may cost more or less: no source strays further than a few rows' cost."""
    spent, total, draw = [0] * len(weights), sum(weights), random.Random(seed)
    for _ in range(150):
        spent[largest_deficit(weights, spent)] += draw.randint(1, 50)
    for weight, tokens in zip(weights, spent, strict=True):
        assert abs(tokens * total - weight * sum(spent)) <= 50 * len(weights) * total
