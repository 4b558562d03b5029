"""The nine kinds of question about forms: how they are worded, and what the right answer is.

**Answers are as short as they can be.** Digits are written side by side ("381"), never with blanks
between them: a tokenizer with one token per digit then answers n digits with exactly n tokens, and an
exact match after NFKC does not hang on a blank. Two sheets are joined by " / " ("38 / 1"), which is
the same in both languages. Only colours are words, and they are in the language of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manako.samples.pictures import Sheet

KINDS = (
    "read_one",
    "read_all",
    "read_pair",
    "position",
    "at_mark",
    "count",
    "colour",
    "first_sheet",
    "second_sheet",
)
"""Every kind of question; `read_pair`, `first_sheet` and `second_sheet` are about two pictures."""

LANGUAGES = ("ja", "en")
SOURCE_PREFIX = "forms"
SHEET_JOINT = " / "
LEFTMOST, RIGHTMOST = "leftmost", "rightmost"

COLOUR_WORDS: dict[str, dict[str, str]] = {
    "ja": {"red": "赤", "blue": "青", "green": "緑", "orange": "オレンジ", "purple": "紫"},
    "en": {colour: colour for colour in ("red", "blue", "green", "orange", "purple")},
}
_ENGLISH_ORDINALS = ("first", "second", "third", "fourth")

PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "read_one": {
        "ja": ("数字を読んでください。", "この数字は何ですか。"),
        "en": ("Read the digit.", "What is this digit?"),
    },
    "read_all": {
        "ja": (
            "すべての数字を左から順に読んでください。",
            "書かれている数字をすべて答えてください。",
        ),
        "en": ("Read all digits from left to right.", "Read everything that is written."),
    },
    "read_pair": {
        "ja": ("二枚とも読んでください。", "両方の用紙を順に読んでください。"),
        "en": ("Read both sheets.", "What do the two sheets say?"),
    },
    "leftmost": {
        "ja": ("一番左の数字は何ですか。", "左端の数字を答えてください。"),
        "en": ("What is the leftmost digit?", "Read the digit at the left end."),
    },
    "rightmost": {
        "ja": ("一番右の数字は何ですか。", "右端の数字を答えてください。"),
        "en": ("What is the rightmost digit?", "Read the digit at the right end."),
    },
    "k-th": {
        "ja": ("左から{k}番目の数字は何ですか。", "{k}番目の数字を答えてください。"),
        "en": ("What is the {ordinal} digit from the left?", "Read the {ordinal} digit."),
    },
    "at_mark": {
        "ja": ("{colour}の線がある数字は何ですか。", "{colour}の印の数字を答えてください。"),
        "en": (
            "What is the digit at the {colour} mark?",
            "Read the digit above the {colour} line.",
        ),
    },
    "count": {
        "ja": ("数字はいくつありますか。", "数字の個数を答えてください。"),
        "en": ("How many digits are there?", "Count the digits."),
    },
    "colour": {
        "ja": ("線は何色ですか。", "印の色を答えてください。"),
        "en": ("What colour is the line?", "Name the colour of the mark."),
    },
    "first_sheet": {
        "ja": ("一枚目には何と書いてありますか。", "一枚目の用紙を読んでください。"),
        "en": ("What does the first sheet say?", "Read the first sheet."),
    },
    "second_sheet": {
        "ja": ("二枚目には何と書いてありますか。", "二枚目の用紙を読んでください。"),
        "en": ("What does the second sheet say?", "Read the second sheet."),
    },
}
"""Wording by kind (the three sorts of `position` apart) and language."""

SHEET_CAPTIONS: dict[str, tuple[str, str]] = {
    "ja": ("一枚目の用紙です。", "二枚目の用紙です。"),
    "en": ("This is the first sheet.", "This is the second sheet."),
}
"""What stands in the first turn after each of two pictures."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that can be asked of a row: a kind, and where one kind asks for several, which.

    `which` is a sort of position (`leftmost`, `rightmost` or a number from 1), or a mark's colour.
    """

    kind: str
    which: str = ""

    @property
    def wording(self) -> str:
        """The key of `PHRASES`."""
        if self.kind != "position":
            return self.kind
        return self.which if self.which in (LEFTMOST, RIGHTMOST) else "k-th"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with its right answer."""

    kind: str
    language: str
    question: str
    answer: str

    @property
    def source(self) -> str:
        """Kind and language as the row carries them: `forms/<kind>/<ja|en>`."""
        return f"{SOURCE_PREFIX}/{self.kind}/{self.language}"


def askable(sheets: Sequence[Sheet]) -> list[Ask]:
    """Everything that has one right answer on one sheet, or on two, in the order of `KINDS`."""
    if len(sheets) == 2:
        return [Ask("read_pair"), Ask("first_sheet"), Ask("second_sheet")]
    sheet = sheets[0]
    count = len(sheet.digits)
    asks = [Ask("read_one" if count == 1 else "read_all")]
    if count > 1:
        asks += [Ask("position", sort) for sort in (LEFTMOST, RIGHTMOST)]
        asks += [Ask("position", str(place + 1)) for place in range(count)]
    asks += [Ask("at_mark", mark.colour) for mark in sheet.marks]
    asks.append(Ask("count"))
    if len(sheet.marks) == 1:
        asks.append(Ask("colour"))
    return asks


def word(ask: Ask, sheets: Sequence[Sheet], *, language: str, phrasing: int) -> Turn:
    """Put `ask` in words (`phrasing` chooses among them, modulo their number) and answer it."""
    phrases = PHRASES[ask.wording][language]
    question = phrases[phrasing % len(phrases)]
    if ask.kind == "at_mark":
        question = question.format(colour=COLOUR_WORDS[language][ask.which])
    elif ask.wording == "k-th":
        question = question.format(k=ask.which, ordinal=_ENGLISH_ORDINALS[int(ask.which) - 1])
    answer = _answer(ask, sheets, language)
    return Turn(kind=ask.kind, language=language, question=question, answer=answer)


def _answer(ask: Ask, sheets: Sequence[Sheet], language: str) -> str:
    sheet = sheets[1] if ask.kind == "second_sheet" else sheets[0]
    match ask.kind:
        case "read_pair":
            return SHEET_JOINT.join(_written(each) for each in sheets)
        case "count":
            return str(len(sheet.digits))
        case "colour":
            return COLOUR_WORDS[language][sheet.marks[0].colour]
        case "at_mark":
            place = next(mark.place for mark in sheet.marks if mark.colour == ask.which)
            return str(sheet.digits[place])
        case "position":
            return str(sheet.digits[_place(ask.which, len(sheet.digits))])
        case _:
            return _written(sheet)


def _place(which: str, count: int) -> int:
    if which == LEFTMOST:
        return 0
    return count - 1 if which == RIGHTMOST else int(which) - 1


def _written(sheet: Sheet) -> str:
    return "".join(str(digit) for digit in sheet.digits)
