"""The order of models for a use, by what scores can say and by no more.

Models with a score in the first column of the use stand by that score. One that has none there, but
clearly beats such a model in another column, stands directly above the best that it beats: at least
there. One that beats none of them stands below them all. A number is never compared across two columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from manako.catalogue.cards import Card
from manako.catalogue.facts import is_recalled
from manako.catalogue.scores import score_tables

NOISE_SHARE = 0.03
"""Scores that lie closer are called close. No interval is published; from May to August 2025 the
same harness moved Heron-Bench by 2.4 points of about 70 on average (llm-jp-eval-mm)."""
ENOUGH_SHARE = 0.8
"""Where a small model is wanted: whoever reaches this share of the best score is good enough,
and among those the smaller stands first."""
Kind = Literal["score", "above", "below", "none"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why a model stands where it does.

    kind: its own score in the first column; above or below `other` in `column`; or nothing that
    compares. score, other_score: both in `column`. anchor_score: of `other` in the first column.
    ties: its scores in the other columns, which decide between equals.
    """

    kind: Kind
    column: str = ""
    score: float | None = None
    other: Card | None = None
    other_score: float | None = None
    anchor_score: float | None = None
    ties: tuple[float, ...] = ()

    @property
    def least(self) -> float:
        """What the model would reach in the first column at least, as far as is known."""
        if self.kind == "score":
            return self.score or 0.0
        return (self.anchor_score or 0.0) if self.kind == "above" else 0.0


def score_in(card: Card, column: str) -> float | None:
    """A card's score in `table.column`."""
    table, _, name = column.partition(".")
    found = [scores.values.get(name) for scores in card.scores if scores.table == table]
    return next((score for score in found if score is not None), None)


def has_score(card: Card, language: str) -> bool:
    """Whether any score of the card is for questions in this language."""
    return any(
        score_tables()[scores.table].columns[name].language == language
        for scores in card.scores
        for name in scores.values
    )


def usable_columns(columns: Iterable[str], *, is_strict: bool) -> tuple[str, ...]:
    """The columns whose figures count."""
    tables = score_tables()
    return tuple(
        column
        for column in columns
        if not (is_strict and is_recalled(tables[column.partition(".")[0]]))
    )


def weigh(cards: Sequence[Card], columns: Sequence[str]) -> dict[str, Evidence]:
    """The evidence for every card, by id; all cards serve as a measure, candidates or not."""
    if not columns:
        return {card.id: Evidence(kind="none") for card in cards}
    first, others = columns[0], columns[1:]
    ranked = {c.id: s for c in cards if (s := score_in(c, first)) is not None}
    return {
        card.id: Evidence(
            kind="score",
            column=first,
            score=ranked[card.id],
            ties=tuple(score_in(card, column) or 0.0 for column in others),
        )
        if card.id in ranked
        else _beside(card, cards, ranked, others)
        for card in cards
    }


def _beside(
    card: Card, cards: Sequence[Card], ranked: Mapping[str, float], columns: Sequence[str]
) -> Evidence:
    """The place of a card without a score in the first column, by the first other that tells."""
    for column in columns:
        own = score_in(card, column)
        rivals = [
            (ranked[rival.id], score, rival)
            for rival in cards
            if rival.id in ranked and (score := score_in(rival, column)) is not None
        ]
        if own is None or not rivals:
            continue
        beaten = [rival for rival in rivals if rival[1] < own * (1 - NOISE_SHARE)]
        kind: Kind = "above" if beaten else "below"
        chosen = max(beaten, key=_height) if beaten else min(rivals, key=_height)
        anchor, other_score, other = chosen
        return Evidence(
            kind=kind,
            column=column,
            score=own,
            other=other,
            other_score=other_score,
            anchor_score=anchor,
        )
    return Evidence(kind="none")


def _height(rival: tuple[float, float, Card]) -> float:
    return rival[0]


def rung(evidence: Evidence, columns: Sequence[str]) -> tuple[float, ...]:
    """Sorts from the top of the ladder down; only scores of one column ever meet.

    On the height of one score stand, from above: those placed over it, by column and by score
    there, and then the model itself.
    """
    if evidence.kind == "none":
        return (2.0,)
    if evidence.kind == "below":
        return (1.0, columns.index(evidence.column), -(evidence.score or 0.0))
    if evidence.kind == "above":
        place = columns.index(evidence.column)
        return (0.0, -(evidence.anchor_score or 0.0), 0.0, place, -(evidence.score or 0.0))
    return (0.0, -(evidence.score or 0.0), 1.0, *(-score for score in evidence.ties))


def is_close(upper: Evidence, lower: Evidence) -> bool:
    """Whether two neighbours lie closer in one column than scores are known to wander."""
    if upper.column != lower.column or upper.score is None or lower.score is None:
        return False
    return abs(upper.score - lower.score) <= NOISE_SHARE * max(upper.score, lower.score)
