import math

import pytest
from report_makers import RESULT

from manako.report.figures import Group, read_scores


def test_scores_with_controls_by_kind():
    scores = read_scores(RESULT)
    assert [g.name for g in scores.groups] == ["read_one", "made <up>"]
    first, second = scores.groups
    assert (first.n, first.low, first.high) == (5, 0.5, 0.99)
    assert (first.blank, first.shuffled, first.majority) == (0.21, 0.2, 0.2)
    assert not first.is_control_high
    assert second.is_control_high
    assert scores.overall.majority == 0.25
    assert scores.rows[-1] is scores.overall
    assert [g.name for g in scores.languages] == ["ja", "en"]


def test_a_single_language_is_no_row_of_its_own():
    one = RESULT | {"by_language": {"ja": {"accuracy": 0.8}}}
    assert read_scores(one).languages == ()


@pytest.mark.parametrize(
    "result",
    [
        {"accuracy": 0.5, "by_kind": {"a": 0.4}},
        {"accuracy": 0.5, "by_kind": {"a": {"accuracy": 0.4}}, "controls": {}},
        {"accuracy": 0.5, "by_kind": {"a": {"accuracy": 0.4}, "b": {"n": 3}, "c": None}},
    ],
)
def test_missing_fields_are_absent_not_errors(result):
    scores = read_scores(result)
    assert [g.accuracy for g in scores.groups] == [0.4]
    assert not scores.has("low")
    assert not scores.has("blank")


def test_controls_as_bare_shares_belong_to_all_questions():
    scores = read_scores({"accuracy": 0.5, "controls": {"blank": 0.1, "shuffled": 0.2}})
    assert (scores.overall.blank, scores.overall.shuffled) == (0.1, 0.2)


@pytest.mark.parametrize("value", [None, "0.9", math.nan, 7, True, {}])
def test_no_accuracy_no_scores(value):
    assert read_scores({"accuracy": value}) is None


def test_a_control_warns_only_beyond_five_points_of_the_majority():
    def group(blank):
        return Group(name="a", accuracy=0.9, blank=blank, majority=0.3)

    assert not group(0.34).is_control_high
    assert group(0.36).is_control_high
    assert not Group(name="a", accuracy=0.9, blank=0.9).is_control_high
