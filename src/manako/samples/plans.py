"""Decides which forms there are and what is asked of them; draws nothing.

**No answer can be guessed from what stays visible without reading.** A picture's size tells its number
of cells, so `count` is asked in the tests of forms whose number of digits is even over 1..cells: the
best guess by size is then no better than the best guess at all. Colours, digits and places are drawn
independently of wording, size and language.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from manako.samples.pictures import MARK_RGB, Mark, Sheet
from manako.samples.questions import KINDS, LANGUAGES, Ask, Turn, askable, word
from manako.samples.scans import Glyphs

SMALL_CELLS, LARGE_CELLS = 2, 4
_COLOURS = tuple(MARK_RGB)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training set: what its forms look like and how many questions each gets.

    `mix` is the share of rows by form: `one` digit, `pair` of digits, `many` (3 or 4), `two` sheets.
    `turns` is the least and the most questions of a row; a row with less to ask asks all it has.
    `marks` is the chance of 0, 1 and 2 marks (a form with one digit has at most one).
    `weights` is how likely a kind is to be asked next, against 1 for kinds it does not name. Two
    marks are usual and `at_mark` is asked twice as often: which of two colours is meant is what a
    small model learns last (with one mark, any marked digit is right).
    """

    name: str
    mix: Mapping[str, float]
    turns: tuple[int, int]
    kinds: tuple[str, ...] = KINDS
    marks: tuple[float, float, float] = (0.1, 0.25, 0.65)
    weights: Mapping[str, float] = field(default_factory=lambda: {"at_mark": 2.0, "read_all": 1.5})


@dataclass(frozen=True, slots=True)
class Form:
    """One picture, or two that stand together, and the conversations about it: one each in
    training, several in tests."""

    sheets: tuple[Sheet, ...]
    conversations: tuple[tuple[Turn, ...], ...]


class Deck:
    """Deals glyphs so that every scan comes equally often, in an order that `rng` decides."""

    def __init__(self, glyphs: Glyphs, rng: random.Random) -> None:
        self._digits = glyphs.digits_G.tolist()
        self._variants = glyphs.variants
        self._scans = list(range(glyphs.scans))
        self._rng = rng
        self._left: list[int] = []

    def sheet(self, *, cells: int, count: int, marks: int) -> Sheet:
        """A form with the next `count` scans of the deck, and `marks` marks on different digits."""
        glyphs = tuple(self._next() for _ in range(count))
        places = self._rng.sample(range(count), marks)
        colours = self._rng.sample(_COLOURS, marks)
        return Sheet(
            cells=cells,
            glyphs=glyphs,
            digits=tuple(self._digits[glyph] for glyph in glyphs),
            marks=tuple(Mark(place, colour) for place, colour in zip(places, colours, strict=True)),
        )

    def _next(self) -> int:
        if not self._left:
            self._left = self._scans.copy()
            self._rng.shuffle(self._left)
        return self._left.pop() * self._variants + self._rng.randrange(self._variants)


def plan_training(stage: Stage, glyphs: Glyphs, *, rows: int, seed: int) -> Iterator[Form]:
    """Yield `rows` forms of `stage` with one conversation each, Japanese and English in turn."""
    rng = random.Random(f"forms/{seed}/{stage.name}")
    deck = Deck(glyphs, rng)
    kinds_of_form, shares = list(stage.mix), list(stage.mix.values())
    for row in range(rows):
        sheets = _training_sheets(rng.choices(kinds_of_form, shares)[0], stage, deck, rng)
        yield Form(sheets, (_training_turns(sheets, stage, LANGUAGES[row % 2], rng),))


def _training_sheets(form: str, stage: Stage, deck: Deck, rng: random.Random) -> tuple[Sheet, ...]:
    if form == "two":
        return _two_sheets(deck, rng)
    count = {"one": 1, "pair": 2}.get(form) or rng.choice((3, 4))
    cells = LARGE_CELLS if count > SMALL_CELLS else rng.choice((SMALL_CELLS, LARGE_CELLS))
    marks = rng.choices((0, 1, 2), stage.marks)[0]
    return (deck.sheet(cells=cells, count=count, marks=min(marks, count)),)


def _two_sheets(deck: Deck, rng: random.Random) -> tuple[Sheet, ...]:
    counts = (rng.choice((1, 2)), rng.choice((1, 2)))
    return tuple(deck.sheet(cells=SMALL_CELLS, count=count, marks=0) for count in counts)


def _training_turns(
    sheets: Sequence[Sheet], stage: Stage, language: str, rng: random.Random
) -> tuple[Turn, ...]:
    left: dict[str, list[Ask]] = {}
    for ask in askable(sheets):
        if ask.kind in stage.kinds:
            left.setdefault(ask.kind, []).append(ask)
    turns: list[Turn] = []
    wanted = rng.randint(*stage.turns)
    while left and len(turns) < wanted:
        kind = rng.choices(list(left), [stage.weights.get(kind, 1.0) for kind in left])[0]
        ask = left[kind].pop(rng.randrange(len(left[kind])))
        if not left[kind]:
            del left[kind]
        turns.append(word(ask, sheets, language=language, phrasing=rng.randrange(2)))
    return tuple(turns)


def plan_tests(glyphs: Glyphs, *, questions_per_kind: int, seed: int) -> Iterator[Form]:
    """Yield forms with one-question conversations: `questions_per_kind` of each kind in all.

    Half of each kind are in Japanese, half in English. Kinds that fit the same form share it.
    """
    rng = random.Random(f"forms/{seed}/test")
    deck = Deck(glyphs, rng)
    for number, (cells, digits) in enumerate(_even_counts(questions_per_kind, rng)):
        language = LANGUAGES[number % 2]
        for sheets, asks in _test_forms(deck, rng, cells, digits):
            turns = (
                word(ask, sheets, language=language, phrasing=rng.randrange(2)) for ask in asks
            )
            yield Form(sheets, tuple((turn,) for turn in turns))


def _even_counts(questions: int, rng: random.Random) -> list[tuple[int, int]]:
    """(cells, digits) of each form that `count` is asked of: even over 1..cells for either size.

    One form in five is small, so that "1" and "2" are each right in three of ten.
    """
    cycle = [(SMALL_CELLS, 1), (SMALL_CELLS, 2)]
    cycle += [(LARGE_CELLS, digits) for digits in (1, 2, 3, 4)] * 2
    pairs = [cycle[number % len(cycle)] for number in range(questions)]
    rng.shuffle(pairs)
    return pairs


def _test_forms(
    deck: Deck, rng: random.Random, cells: int, digits: int
) -> Iterator[tuple[tuple[Sheet, ...], list[Ask]]]:
    one = deck.sheet(cells=_cells(1, rng), count=1, marks=rng.choice((0, 1)))
    yield (one,), [Ask("read_one")]
    count = rng.choice((2, 3, 4))
    many = deck.sheet(cells=_cells(count, rng), count=count, marks=rng.choice((1, 2)))
    yield (many,), _asks_about_many(many, rng)
    yield (deck.sheet(cells=cells, count=digits, marks=1),), [Ask("count"), Ask("colour")]
    yield _two_sheets(deck, rng), [Ask("read_pair"), Ask("first_sheet"), Ask("second_sheet")]


def _asks_about_many(sheet: Sheet, rng: random.Random) -> list[Ask]:
    sort = rng.choice(("leftmost", "rightmost", "k-th"))
    which = sort if sort != "k-th" else str(rng.randint(1, len(sheet.digits)))
    return [
        Ask("read_all"),
        Ask("position", which),
        Ask("at_mark", rng.choice(sheet.marks).colour),
    ]


def _cells(count: int, rng: random.Random) -> int:
    return LARGE_CELLS if count > SMALL_CELLS else rng.choice((SMALL_CELLS, LARGE_CELLS))
