"""`manako models compare`: several cards side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manako.catalogue.cards import Card, find_card
from manako.catalogue.facts import with_sources, without_recalled
from manako.catalogue.scores import score_tables
from manako.core.errors import InputError
from manako.plan.job import Bits, Job, Method, Needs
from manako.plan.ladder import score_in
from manako.plan.needs import needs
from manako.verbs.models import as_json as card_as_json
from manako.verbs.tokens import Costs, picture_costs

MOST = 6
"""Columns that a terminal still shows side by side."""
USES: tuple[tuple[Method, Bits], ...] = (
    ("run", 16),
    ("run", 4),
    ("qlora", 16),
    ("lora", 16),
    ("full", 16),
)
"""Ways of working whose memory is compared."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Cards side by side, each tuple in their order.

    scores: `table.column` → each card's score there, for columns in which at least two have one.
    lonely_scores: how many columns only one of them has. needs: method and bits → each card's.
    """

    cards: tuple[Card, ...]
    costs: tuple[Costs, ...]
    scores: Mapping[str, tuple[float | None, ...]]
    lonely_scores: int
    needs: Mapping[tuple[Method, Bits], tuple[Needs | None, ...]]


def compare_models(
    models: Sequence[str], images: Sequence[str], *, is_strict: bool = False
) -> Comparison:
    """Cards by id or name. Raises `InputError` for fewer than two, too many, one that is named
    twice, and what has no card or is no picture."""
    found = [find_card(name) for name in models]
    _check_number(found)
    shown = tuple(without_recalled(card) if is_strict else card for card in found)
    columns = {
        f"{key}.{column}": tuple(score_in(card, f"{key}.{column}") for card in shown)
        for key, table in score_tables().items()
        for column in table.columns
    }
    counts = {column: sum(score is not None for score in row) for column, row in columns.items()}
    return Comparison(
        cards=shown,
        costs=tuple(picture_costs([c.id for c in shown], images, {}, is_strict=is_strict)),
        scores={column: row for column, row in columns.items() if counts[column] > 1},
        lonely_scores=sum(count == 1 for count in counts.values()),
        needs={use: tuple(_needs(card, *use) for card in shown) for use in USES},
    )


def _check_number(found: Sequence[Card]) -> None:
    ids = [card.id for card in found]
    if len(ids) < 2:
        raise InputError(
            f"{len(ids)} model is nothing to compare with",
            next_step="give two or more; one alone: `manako models show ID`",
        )
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise InputError(f"{', '.join(twice)} is named twice", next_step="give each model once")
    if len(ids) > MOST:
        raise InputError(
            f"{len(ids)} models do not stand side by side",
            next_step=f"give up to {MOST}; `manako models list` shows many",
        )


def _needs(card: Card, method: Method, bits: Bits) -> Needs | None:
    try:
        return needs(card, Job(method=method, bits=bits))
    except InputError:
        return None


def as_json(found: Comparison) -> dict[str, Any]:
    """Plain values; every figure of a card names its source."""
    ids = [card.id for card in found.cards]
    return {
        "models": [card_as_json(card) for card in found.cards],
        "pictures": [costs.as_dict() for costs in found.costs],
        "scores": [
            {**_column(name), "scores": dict(zip(ids, row, strict=True))}
            for name, row in found.scores.items()
        ],
        "memory": [
            {
                "method": method,
                "bits": bits,
                "needs": {name: _memory(each) for name, each in zip(ids, row, strict=True) if each},
            }
            for (method, bits), row in found.needs.items()
        ],
    }


def _column(name: str) -> dict[str, Any]:
    key, _, column = name.partition(".")
    table = score_tables()[key]
    source = with_sources(table)
    return {
        "column": name,
        "judge": table.judge,
        "date": table.date,
        "scale": table.columns[column].scale.en,
        **{field: source[field] for field in ("how", "source", "url")},
    }


def _memory(needs: Needs) -> dict[str, Any]:
    return {
        "total_bytes": needs.total_bytes,
        "is_at_least": needs.is_lower_bound,
        "basis": needs.basis,
        "terms": {term.name: term.bytes for term in needs.terms},
    }
