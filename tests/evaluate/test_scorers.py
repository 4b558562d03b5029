from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student  # type: ignore[import-untyped]

from manako.core.errors import InputError
from manako.evaluate.scorers import Z, _t_point, accuracy, exact_match, majority, normalise


@pytest.mark.parametrize(
    ("answer", "expected", "is_right"),
    [
        ("381", "381", True),
        ("３８１", "381", True),
        (" 381\n", "381", True),
        ("ｵﾚﾝｼﾞ", "オレンジ", True),
        ("が", "か\u3099", True),
        ("3 81", "381", False),
        ("Red", "red", False),
        ("", "381", False),
    ],
)
def test_exact_match_is_after_nfkc_and_without_edge_blanks(
    answer: str, expected: str, is_right: bool
) -> None:
    assert exact_match(answer, expected) == is_right


@given(st.text())
def test_normalising_again_changes_nothing_and_everything_matches_itself(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
    assert exact_match(text, text)


def test_majority_counts_answers_that_match_as_one() -> None:
    assert majority(["1", "１", " 1", "2"]) == 0.75
    with pytest.raises(InputError):
        majority([])


outcomes = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60)


@given(outcomes)
def test_an_interval_holds_its_share_and_lies_in_0_to_1(answers: list[tuple[bool, int]]) -> None:
    share = accuracy([right for right, _ in answers], [cluster for _, cluster in answers])
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert share.low < share.high
    assert share.n == len(answers)
    assert share.clusters == len({cluster for _, cluster in answers})
    assert share.value == pytest.approx(sum(right for right, _ in answers) / len(answers))


@given(outcomes)
def test_wrong_is_right_seen_from_the_other_side(answers: list[tuple[bool, int]]) -> None:
    clusters = [cluster for _, cluster in answers]
    right = accuracy([right for right, _ in answers], clusters)
    wrong = accuracy([not right for right, _ in answers], clusters)
    assert (wrong.low, wrong.high) == pytest.approx((1 - right.high, 1 - right.low))


@given(outcomes, st.randoms())
def test_neither_order_nor_names_of_clusters_matter(
    answers: list[tuple[bool, int]], shuffler: random.Random
) -> None:
    other = [(right, f"picture {cluster}") for right, cluster in answers]
    shuffler.shuffle(other)
    first = accuracy([right for right, _ in answers], [cluster for _, cluster in answers])
    second = accuracy([right for right, _ in other], [cluster for _, cluster in other])
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_independent_questions_give_wilsons_interval() -> None:
    """Worked by hand from Wilson's formula: 81 of 100."""
    n, k = 1000, 810
    share = accuracy([i < k for i in range(n)], range(n))
    z, p = _t_point(n - 1), k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # V of n single questions is p(1-p)/(n-1): the factor n/(n-1) moves the ends by about 1e-5.
    assert share.low == pytest.approx(middle - half, abs=3e-5)
    assert share.high == pytest.approx(middle + half, abs=3e-5)


def test_questions_that_are_right_or_wrong_together_count_once() -> None:
    once = accuracy([i % 5 > 0 for i in range(200)], range(200))
    fourfold = accuracy(
        [i % 5 > 0 for i in range(200) for _ in range(4)], [i // 4 for i in range(800)]
    )
    assert fourfold.value == once.value
    assert fourfold.low == pytest.approx(once.low, abs=2e-3)
    pretended = accuracy([i % 5 > 0 for i in range(200) for _ in range(4)], range(800))
    assert pretended.high - pretended.low < 0.55 * (fourfold.high - fourfold.low)


def test_all_right_is_no_certainty_and_says_less_with_fewer_pictures() -> None:
    many = accuracy([True] * 1440, range(1440))
    shared = accuracy([True] * 1440, [i // 2 for i in range(1440)])
    assert many.high == shared.high == 1
    assert shared.low < many.low < 1
    assert many.low == pytest.approx(1 / (1 + Z**2 / 1440), abs=1e-4)
    assert accuracy([True] * 10, ["one picture"] * 10).low < 0.05


@pytest.mark.parametrize(
    ("clusters", "size", "p", "together"),
    [
        (80, 2, 0.95, 0.0),
        (80, 2, 0.95, 1.0),
        (40, 4, 0.9, 0.5),
        (20, 5, 0.8, 0.7),
        (60, 3, 0.5, 0.3),
    ],
)
def test_the_interval_covers_the_truth_about_95_times_in_100(
    clusters: int, size: int, p: float, together: float
) -> None:
    """400 simulated sets; `together`: how often a picture is right or wrong as a whole."""
    draw = random.Random(clusters * 1000 + size)
    hits = 0
    for _ in range(400):
        answers = []
        for _ in range(clusters):
            whole = draw.random() < p
            is_whole = draw.random() < together
            answers += [whole if is_whole else draw.random() < p for _ in range(size)]
        share = accuracy(answers, [i // size for i in range(len(answers))])
        hits += share.low <= p <= share.high
    # Four standard deviations of a share of .95 in 400 are 4.4 points; too wide is no error.
    assert hits / 400 >= 0.95 - 0.044


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 20, 300])
def test_the_points_of_students_t(degrees: int) -> None:
    assert _t_point(degrees) == pytest.approx(student.ppf(0.975, degrees), rel=5e-3)


def test_no_answers_and_lists_that_do_not_fit_are_errors() -> None:
    with pytest.raises(InputError):
        accuracy([], [])
    with pytest.raises(InputError, match="2 answers and 1 clusters"):
        accuracy([True, False], ["a"])
