"""The parts of the survey's pages that are about models: tables of cards, scores, classes of size."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from blocks import table
from manako.catalogue.cards import RUNTIMES, Card
from manako.catalogue.facts import mark_of
from manako.cli.texts import Texts
from manako.core.errors import ImageError
from manako.core.units import show_bytes, show_count
from manako.families._shared.sizes import image_tokens

A4 = (1240, 1754)
"""Pixels of an A4 page at 150 dpi."""
CLASSES = (4e9, 10e9, float("inf"))
"""Upper ends of the classes of size, in parameters."""
NEWER_SINCE, NEWER_PARAMETERS = "2025-10", 40e9


def cards_table(found: Sequence[Card], words: Mapping[str, Any], t: Texts) -> str:
    """Cards with their sizes, licences and runtimes."""
    rows = [_row(card, words, t) for card in found]
    return table(words["cards_head"], rows, right=frozenset({1, 2, 5, 6}))


def _row(card: Card, words: Mapping[str, Any], t: Texts) -> list[str]:
    p, context, licences = card.parameters, card.context, card.licences
    sized = card.weight_bytes or p
    return [
        card.id,
        f"{show_count(p.total)}{mark_of(p)}" if p else "",
        f"{show_bytes(card.size_bytes)}{mark_of(sized)}" if card.size_bytes else "",
        f"{' + '.join(licences.value)}{mark_of(licences)}" if licences else "",
        t(f"models.commercial.{card.commercial}"),
        f"{context.value:,}{mark_of(context)}" if context else "",
        _a4_tokens(card),
        _runs_in(card, words, t),
    ]


def _runs_in(card: Card, words: Mapping[str, Any], t: Texts) -> str:
    shown = []
    for name in RUNTIMES:
        state = card.runtime(name)
        if state in ("no", "unknown"):
            continue
        said = "" if state == "yes" else words["said_of"].format(t(f"models.runtime.{state}"))
        shown.append(f"{name}{said}{mark_of(card.runtimes[name])}")
    return ", ".join(shown)


def scores_in(card: Card, key: str) -> dict[str, float]:
    """A card's results in one table, by column."""
    found = [scores.values for scores in card.scores if scores.table == key]
    return dict(itertools.chain.from_iterable(values.items() for values in found))


def by_class(found: Sequence[Card], key: str, column: str) -> list[list[Card]]:
    """Cards with a score in the column, by class of size, the best first."""
    classes: list[list[Card]] = [[] for _ in CLASSES]
    for card in found:
        if card.parameters and column in scores_in(card, key):
            place = next(i for i, end in enumerate(CLASSES) if card.parameters.total <= end)
            classes[place].append(card)
    return [
        sorted(c, key=lambda card: (-scores_in(card, key)[column], card.size_bytes))
        for c in classes
    ]


def is_fresh(card: Card) -> bool:
    """Whether a card is of a model of late, of a size that one runs at home."""
    total = card.parameters.total if card.parameters else float("inf")
    released = card.released.value if card.released else ""
    return released >= NEWER_SINCE and total <= NEWER_PARAMETERS


def _a4_tokens(card: Card) -> str:
    rule = card.image_rule
    if rule is None:
        return ""
    try:
        return f"{image_tokens(rule.rule, *A4, rule.settings):,}{mark_of(rule)}"
    except ImageError:
        return "–"
