"""`manako models list` and `show`: narrow the cards down, sort them, and look at one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manako.catalogue.ability import Ability, ability_of, can_train
from manako.catalogue.cards import Card, Scores, cards
from manako.catalogue.facts import with_sources, without_recalled
from manako.catalogue.scores import score_tables
from manako.catalogue.search import narrow
from manako.core.errors import InputError
from manako.core.units import show_bytes, show_count

SORTS: Mapping[str, Callable[[Card], Any]] = {
    "name": lambda card: card.name.lower(),
    "parameters": lambda card: card.parameters.total if card.parameters else None,
    "size": lambda card: card.size_bytes,
    "released": lambda card: card.released.value if card.released else None,
    "context": lambda card: card.context.value if card.context else None,
}
RUNS = ("yes", "community", "text only")
"""States of a runtime in which it runs the checkpoint in some way."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a list is narrowed down to; what is empty does not narrow.

    text: stands in the id, an alias or the series. inputs: all of them. runtimes: any of them.
    """

    text: str = ""
    survey: str | None = None
    inputs: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str = ""
    is_commercial: bool = False
    max_parameters: int | None = None
    max_bytes: int | None = None
    runtimes: tuple[str, ...] = ()
    is_trainable: bool = False
    is_strict: bool = False

    def conditions(self) -> Iterator[tuple[str, Callable[[Card], bool]]]:
        """Each condition by the option that asks for it."""
        if self.text:
            yield f"the text {self.text!r}", lambda card: _says(card, self.text)
        if self.survey:
            yield f"--survey {self.survey}", lambda card: card.survey == self.survey
        for name in self.inputs:
            yield f"--input {name}", lambda card, name=name: name in card.inputs  # type: ignore[misc]
        for name in self.languages:
            yield f"--language {name}", lambda card, name=name: name in languages_of(card)  # type: ignore[misc]
        if self.licence:
            yield f"--licence {self.licence}", lambda card: self.licence in licences_of(card)
        if self.is_commercial:
            yield "--commercial", lambda card: card.commercial in ("yes", "conditions")
        if (most := self.max_parameters) is not None:
            words = f"--max-parameters {show_count(most)}"
            yield words, lambda card: bool(card.parameters) and _total(card) <= most
        if (limit := self.max_bytes) is not None:
            words = f"--max-size {show_bytes(limit)}"
            yield words, lambda card: card.size_bytes is not None and card.size_bytes <= limit
        if self.runtimes:
            words = f"--runtime {' or '.join(self.runtimes)}"
            yield words, lambda card: any(card.runtime(name) in RUNS for name in self.runtimes)
        if self.is_trainable:
            yield "--trainable", can_train


def list_models(wanted: Wanted, *, sort: str = "name") -> list[Card]:
    """The cards that fulfil all conditions, sorted; what has no figure to sort by comes last.

    Raises `InputError` naming the condition that left none, or a sort that does not exist.
    """
    shown = [without_recalled(card) for card in cards()] if wanted.is_strict else cards()
    return sort_cards(narrow(shown, list(wanted.conditions())), sort)


def sort_cards(found: Sequence[Card], sort: str) -> list[Card]:
    """Sorted by a field, by `-field` the other way round, or by `table.column`, the best first."""
    is_turned, name = sort.startswith("-"), sort.removeprefix("-")
    if name in SORTS:
        keyed = [(SORTS[name](card), card) for card in found]
    else:
        table, column = column_of(name)
        keyed = [(score_of(card, table, column), card) for card in found]
        is_turned = not is_turned
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=is_turned)
    return [card for _, card in known] + [card for key, card in keyed if key is None]


def column_of(name: str) -> tuple[str, str]:
    """(table, column) of `table.column`, or of a column that stands in one table alone.

    Raises `InputError` for one that no table has.
    """
    table, _, column = name.rpartition(".")
    having = [
        (key, column)
        for key, found in score_tables().items()
        if column in found.columns and table in ("", key)
    ]
    if len(having) == 1:
        return having[0]
    columns = [
        f"{key}.{column}" for key, found in score_tables().items() for column in found.columns
    ]
    if having:
        both = " and ".join(f"{key}.{column}" for key, _ in having)
        raise InputError(f"{name!r} stands on two scales: {both}", next_step="name one of them")
    raise InputError(
        f"{name!r} is neither a field nor a column of scores",
        next_step=f"fields: {', '.join(SORTS)}; columns: {', '.join(columns)}",
    )


def score_of(card: Card, table: str, column: str) -> float | None:
    """A card's score in one column."""
    found = [scores.values.get(column) for scores in card.scores if scores.table == table]
    return next((score for score in found if score is not None), None)


def scores_in(card: Card, table: str) -> Scores | None:
    """A card's scores in one table."""
    return next((scores for scores in card.scores if scores.table == table), None)


def languages_of(card: Card) -> tuple[str, ...]:
    """The languages a model is said to handle, and those in which a score of it is known."""
    said = card.languages.value if card.languages else ()
    columns = [score_tables()[scores.table].columns for scores in card.scores]
    scored = [
        found[name].language
        for found, scores in zip(columns, card.scores, strict=True)
        for name in scores.values
    ]
    return tuple(dict.fromkeys((*said, *scored)))


def licences_of(card: Card) -> tuple[str, ...]:
    """The licences that bind it, all at once."""
    return card.licences.value if card.licences else ()


def as_json(card: Card) -> dict[str, Any]:
    """A card with the source of every figure, and what Manako can do with it."""
    values: dict[str, Any] = with_sources(card)
    for scores, written in zip(card.scores, values["scores"], strict=True):
        table = score_tables()[scores.table]
        written |= {"judge": table.judge, "date": table.date, **with_sources_of(table)}
    ability = with_sources(ability_of(card.family))
    return {**values, "size_bytes": card.size_bytes, "commercial": card.commercial, "laws": ability}


def with_sources_of(table: Any) -> dict[str, Any]:
    """How, title and address of the source of a table."""
    found = with_sources(table)
    return {key: found[key] for key in ("how", "source", "url")}


def ability(card: Card) -> Ability:
    """What the laws' Record says of the card's family."""
    return ability_of(card.family)


def _says(card: Card, text: str) -> bool:
    words = (card.id, card.series, card.family, *card.aliases)
    return any(text.lower() in word.lower() for word in words)


def _total(card: Card) -> int:
    assert card.parameters is not None
    return card.parameters.total
