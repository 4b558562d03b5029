"""Each question's answer is what a person would read off the form."""

from __future__ import annotations

import unicodedata

import pytest

from manako.samples.pictures import MARK_RGB, Mark, Sheet
from manako.samples.questions import (
    COLOUR_WORDS,
    KINDS,
    LANGUAGES,
    PHRASES,
    SHEET_CAPTIONS,
    Ask,
    askable,
    word,
)

THREE = Sheet(4, (0, 0, 0), (3, 8, 1), (Mark(2, "red"), Mark(0, "blue")))
ONE = Sheet(2, (0,), (7,), (Mark(0, "orange"),))
PAIR = Sheet(2, (0, 0), (3, 8))


@pytest.mark.parametrize(
    ("ask", "sheets", "answer"),
    [
        (Ask("read_one"), [ONE], "7"),
        (Ask("read_all"), [THREE], "381"),
        (Ask("read_pair"), [PAIR, ONE], "38 / 7"),
        (Ask("first_sheet"), [PAIR, ONE], "38"),
        (Ask("second_sheet"), [PAIR, ONE], "7"),
        (Ask("position", "leftmost"), [THREE], "3"),
        (Ask("position", "rightmost"), [THREE], "1"),
        (Ask("position", "2"), [THREE], "8"),
        (Ask("at_mark", "red"), [THREE], "1"),
        (Ask("at_mark", "blue"), [THREE], "3"),
        (Ask("count"), [THREE], "3"),
    ],
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_digits_are_answered_alike_in_both_languages(
    ask: Ask, sheets: list[Sheet], answer: str, language: str
) -> None:
    turn = word(ask, sheets, language=language, phrasing=0)
    assert turn.answer == answer
    assert turn.source == f"forms/{ask.kind}/{language}"


@pytest.mark.parametrize(("language", "answer"), [("ja", "オレンジ"), ("en", "orange")])
def test_a_colour_is_answered_in_the_language_of_the_question(language: str, answer: str) -> None:
    assert word(Ask("colour"), [ONE], language=language, phrasing=1).answer == answer


def test_only_what_has_one_right_answer_is_asked() -> None:
    kinds = {ask.kind for ask in askable([THREE])}
    assert kinds == {
        "read_all",
        "position",
        "at_mark",
        "count",
    }  # two colours: "the" colour is none
    assert {ask.kind for ask in askable([ONE])} == {"read_one", "at_mark", "count", "colour"}
    assert [ask.kind for ask in askable([PAIR, ONE])] == [
        "read_pair",
        "first_sheet",
        "second_sheet",
    ]


def test_every_wording_is_filled_in_and_no_two_questions_share_one() -> None:
    sheets = (THREE, ONE, Sheet(4, (0,) * 4, (1, 2, 3, 4)))
    asked = {(ask, 1): (sheet,) for sheet in sheets for ask in askable([sheet])}
    asked |= {(ask, 2): (PAIR, ONE) for ask in askable([PAIR, ONE])}
    questions: dict[str, Ask] = {}
    for (ask, _), row in asked.items():
        for language in LANGUAGES:
            for phrasing in range(len(PHRASES[ask.wording][language])):
                question = word(ask, row, language=language, phrasing=phrasing).question
                assert "{" not in question
                assert questions.setdefault(question, ask) == ask


def test_each_kind_is_worded_in_both_languages_and_nfkc_leaves_answers_alone() -> None:
    assert set(KINDS) - set(PHRASES) == {"position"}
    assert set(SHEET_CAPTIONS) == set(COLOUR_WORDS) == set(LANGUAGES)
    for words in COLOUR_WORDS.values():
        assert set(words) == set(MARK_RGB)
        assert all(unicodedata.normalize("NFKC", word) == word for word in words.values())
