"""The order of packs as a pure function of a place: epochs, stages, shares, and going on."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loader_fakes import settings

from manako.core.errors import RowError
from manako.core.recipe import Stage
from manako.data.order import SourceOrder
from manako.data.pack import FAILED_TOKENS
from manako.data.run_order import schedule_of
from manako.data.schedule import Place, Schedule, Unmeasured, Window
from manako.data.settings import LoaderSettings


class Known:
    """Lengths that follow from the row's number; every `refuses`-th row is refused."""

    def __init__(self, refuses: int = 0) -> None:
        self.refuses = refuses
        self.asked: list[tuple[int, int]] = []

    def __call__(self, source: int, row: int) -> tuple[int, int]:
        self.asked.append((source, row))
        if self.refuses and row % self.refuses == 0:
            return FAILED_TOKENS, 0
        tokens = 3 + (row * 7 + source * 11) % 60
        return tokens, 1 + tokens // 4

    def why(self, source: int, row: int) -> str:
        return f"row {row} is refused"


def orders_of(*rows: int) -> tuple[SourceOrder, ...]:
    names = "abcdef"
    return tuple(
        SourceOrder(names[number], [(0, count, count)], count, seed=0)
        for number, count in enumerate(rows)
    )


def windows_of(schedule: Schedule, place: Place, lengths: Any, most: int = 10**6) -> list[Window]:
    found = []
    while len(found) < most and (window := schedule.window(place, lengths)) is not None:
        found.append(window)
        place = window.next
    return found


def delivered(windows: list[Window]) -> Counter[tuple[int, int]]:
    return Counter((row.source, row.row) for w in windows for pack in w.packs for row in pack)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 3), st.integers(0, 5))
def test_a_run_of_whole_epochs_delivers_every_row_as_often(
    rows: int, window_rows: int, epochs: int, refuses: int
) -> None:
    lengths = Known(refuses if refuses > 1 else 0)
    chosen = settings(
        weights={"a": 1}, max_steps=0, num_train_epochs=epochs, pack_window_rows=window_rows
    )
    if rows == 1 and lengths.refuses:
        return
    schedule, steps = schedule_of(chosen, orders_of(rows), lengths)
    windows = windows_of(schedule, schedule.start(), lengths)
    assert delivered(windows) == {(0, row): epochs for row in range(rows)}
    packs = sum(len(window.packs) for window in windows)
    assert steps == -(-packs // chosen.global_batch_packs)


def test_within_an_epoch_no_row_comes_twice() -> None:
    chosen = settings(weights={"a": 1, "b": 3})
    schedule, _ = schedule_of(chosen, orders_of(31, 17), Known())
    drawn = [row for w in windows_of(schedule, schedule.start(), Known(), 20) for row in w.drawn]
    for source, rows in ((0, 31), (1, 17)):
        order = [row.row for row in drawn if row.source == source]
        whole = len(order) // rows
        assert whole >= 2
        for epoch in range(whole):
            assert sorted(order[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


STAGES = (
    Stage(share=1, weights={"a": 1}),
    Stage(share=2, weights={"a": 1, "b": 2}),
    Stage(share=1, weights={"b": 1}),
)


def test_stages_are_shares_of_the_steps_and_keep_to_their_sources() -> None:
    chosen = settings(stages=STAGES, max_steps=8)
    schedule, _ = schedule_of(chosen, orders_of(31, 17), Known())
    windows = windows_of(schedule, schedule.start(), Known(), 60)
    packs = [{row.source for row in pack} for window in windows for pack in window.packs]
    assert packs[:6] == [{0}] * 6
    assert {0, 1} in packs[6:18]
    assert packs[18:24] == [{1}] * 6


def test_what_a_stage_drew_and_did_not_deliver_comes_first_when_its_source_is_drawn_again() -> None:
    chosen = settings(stages=STAGES, max_steps=8)
    schedule, _ = schedule_of(chosen, orders_of(31, 17), Known())
    place, drawn, given = schedule.start(), [], []
    while place.packs < 6:
        window = schedule.window(place, Known())
        assert window is not None
        drawn += window.drawn
        given += [row for pack in window.packs for row in pack]
        place = window.next
    left = [row.row for row in drawn if row not in given]
    assert left
    assert list(place.returned[0]) == left
    assert place.open == ()
    window = schedule.window(place, Known())
    assert window is not None
    again = [row.row for row in window.drawn if row.source == 0]
    assert again[: len(left)] == left


def test_over_all_stages_no_row_is_lost() -> None:
    """Of every source: delivered, waiting in the open pack, or returned; each draw exactly once."""
    chosen = settings(stages=STAGES, max_steps=8)
    schedule, _ = schedule_of(chosen, orders_of(31, 17), Known())
    windows = windows_of(schedule, schedule.start(), Known(), 60)
    for number, window in enumerate(windows):
        place = window.next
        held = delivered(windows[: number + 1])
        held.update((row.source, row.row) for row in place.open)
        held.update((source, row) for source in (0, 1) for row in place.returned[source])
        for source, rows in ((0, 31), (1, 17)):
            epoch, position = place.cursors[source]
            order = schedule.orders[source]
            expected = Counter((source, row) for row in range(rows) for _ in range(epoch))
            expected.update((source, order.row(epoch, at)) for at in range(position))
            assert Counter({k: n for k, n in held.items() if k[0] == source}) == +expected


@pytest.mark.parametrize("weight_in", ["rows", "answer_tokens"])
@pytest.mark.parametrize("stages", [(), STAGES])
def test_going_on_from_any_window_gives_the_same_packs(weight_in: str, stages: Any) -> None:
    chosen = settings(weight_in=weight_in, stages=stages)
    schedule, _ = schedule_of(chosen, orders_of(31, 17), Known())
    windows = windows_of(schedule, schedule.start(), Known(), 25)
    for number, window in enumerate(windows[:-1]):
        place = Place.from_dict(json.loads(json.dumps(window.next.as_dict())))
        assert place == window.next
        again, _ = schedule_of(chosen, orders_of(31, 17), Known())
        following = windows[number + 1 : number + 4]
        assert windows_of(again, place, Known(), len(following)) == following


def test_answer_tokens_are_shared_by_weight_not_rows() -> None:
    class Uneven(Known):
        def __call__(self, source: int, row: int) -> tuple[int, int]:
            return (40, 30) if source else (10, 3)

    chosen = settings(weights={"a": 1, "b": 1}, weight_in="answer_tokens")
    schedule, _ = schedule_of(chosen, orders_of(100, 100), Uneven())
    windows = windows_of(schedule, schedule.start(), Uneven(), 20)
    place = windows[-1].next
    assert abs(place.spent[0] - place.spent[1]) <= 30
    assert sum(place.spent) > 1000


def test_a_small_source_of_large_weight_starts_its_epochs_alone() -> None:
    chosen = settings(weights={"a": 1, "b": 9})
    schedule, _ = schedule_of(chosen, orders_of(1000, 10), Known())
    place = windows_of(schedule, schedule.start(), Known(), 20)[-1].next
    assert place.cursors == ((0, 32), (28, 8))


def test_a_stage_shorter_than_half_a_step_is_left_out_and_the_last_has_no_end() -> None:
    stages = (Stage(share=0.01, weights={"a": 1}), Stage(share=0.99, weights={"b": 1}))
    schedule, _ = schedule_of(settings(stages=stages, max_steps=10), orders_of(9, 9), Known())
    assert [(plan.weights, plan.end_pack) for plan in schedule.stages] == [((0, 1), None)]


def test_epochs_with_stages_decide_the_number_of_steps() -> None:
    changes: dict[str, Any] = {"max_steps": 0, "num_train_epochs": 2.0, "stages": STAGES}
    chosen: LoaderSettings = settings(**changes)
    schedule, steps = schedule_of(chosen, orders_of(31, 17), Known())
    tokens = 2 * sum(Known()(s, row)[0] for s, rows in ((0, 31), (1, 17)) for row in range(rows))
    packs = steps * chosen.global_batch_packs
    assert 0.7 * tokens <= packs * chosen.pack_tokens <= 1.6 * tokens
    ends = [plan.end_pack for plan in schedule.stages]
    assert ends == [round(steps / 4) * 3, round(steps * 3 / 4) * 3, None]


def test_half_an_epoch_draws_half_of_the_rows() -> None:
    chosen = settings(weights={"a": 1}, max_steps=0, num_train_epochs=0.5)
    schedule, _ = schedule_of(chosen, orders_of(40), Known())
    found = delivered(windows_of(schedule, schedule.start(), Known()))
    assert len(found) == sum(found.values()) == 20


def test_a_source_whose_every_row_is_refused_stops_the_run_and_says_why() -> None:
    chosen = settings(weights={"a": 1, "b": 1}, weight_in="answer_tokens")
    schedule, _ = schedule_of(chosen, orders_of(5, 5), Known(refuses=1))
    with pytest.raises(RowError, match=r"source a: all of its 5 rows are refused; the last: row"):
        windows_of(schedule, schedule.start(), Known(refuses=1), 5)


def test_one_good_row_among_few_is_no_source_of_refused_rows() -> None:
    """Its neighbours of two epochs may stand between two of its turns."""

    class OneGood(Known):
        def __call__(self, source: int, row: int) -> tuple[int, int]:
            return (10, 3) if row == 0 else (FAILED_TOKENS, 0)

    chosen = settings(weights={"a": 1}, max_steps=40)
    schedule, _ = schedule_of(chosen, orders_of(6), OneGood())
    assert len(windows_of(schedule, schedule.start(), OneGood(), 30)) == 30


def test_a_row_of_unknown_length_is_asked_for() -> None:
    class Nothing(Known):
        def __call__(self, source: int, row: int) -> tuple[int, int]:
            raise Unmeasured(source, row)

    schedule, _ = schedule_of(settings(), orders_of(5, 5), Known())
    with pytest.raises(Unmeasured) as found:
        schedule.window(schedule.start(), Nothing())
    first = next(schedule.upcoming(schedule.start(), 0))
    assert (found.value.source, found.value.row) == (0, first)


def test_max_steps_needs_no_lengths() -> None:
    lengths = Known()
    assert schedule_of(settings(max_steps=7), orders_of(50, 50), lengths)[1] == 7
    assert lengths.asked == []
