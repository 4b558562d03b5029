"""What is wrong with a folder of the catalogue: the schema that the tests hold the files to.

Unknown fields, missing ones and wrong types already stop a file from being read; what is looked
for here is what only the whole catalogue can show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from manako.catalogue.cards import RUNTIMES, Card
from manako.catalogue.facts import Fact, Figure, Licence, Note, Source, Words
from manako.catalogue.scores import ScoreTable
from manako.catalogue.tasks import tasks

LANGUAGES = ("en", "ja")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lists:
    """The keys that records may name."""

    sources: Mapping[str, Source]
    licences: Mapping[str, Licence]
    tables: Mapping[str, ScoreTable]
    rules: frozenset[str] = frozenset()


def problems_of(where: str, record: object, lists: Lists) -> Iterator[str]:
    """What is wrong with one record and all it holds, each as `where.key: what, value`."""
    for path, value in walk(where, record):
        if isinstance(value, Fact) and value.by not in lists.sources:
            yield f"{path}: source {value.by!r} is not in the list of sources"
        if isinstance(value, Words | Note):
            yield from _missing_words(path, value)
        if path.endswith(".licences") and isinstance(value, Figure):
            for key in value.value:
                if key not in lists.licences:
                    yield f"{path}: licence {key!r} is not in the list of licences"
    if isinstance(record, Card):
        yield from _card_problems(where, record, lists)


def walk(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The value and everything inside it, with the path to each."""
    yield where, value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from walk(f"{where}.{f.name}", getattr(value, f.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(f"{where}.{key}", item)
    elif isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from walk(f"{where}[{place}]", item)


def _missing_words(path: str, words: Words | Note) -> Iterator[str]:
    for lang in LANGUAGES:
        if not getattr(words, lang).strip():
            yield f"{path}.{lang}: the text is missing"


def _card_problems(where: str, card: Card, lists: Lists) -> Iterator[str]:
    for name in card.runtimes:
        if name not in RUNTIMES:
            yield f"{where}.runtimes: unknown runtime {name!r}; known: {', '.join(RUNTIMES)}"
    for scores in card.scores:
        table = lists.tables.get(scores.table)
        if table is None:
            yield f"{where}.scores: unknown table {scores.table!r}"
            continue
        for column in scores.values:
            if column not in table.columns:
                yield f"{where}.scores: {scores.table} has no column {column!r}"
    for task in card.only_for.value if card.only_for else ():
        if task not in tasks():
            yield f"{where}.only_for: unknown task {task!r}"
    if card.image_rule and lists.rules and card.image_rule.rule not in lists.rules:
        yield f"{where}.image_rule: unknown rule {card.image_rule.rule!r}"
    if card.image_rule and not card.takes_pictures:
        yield f"{where}.image_rule: the model takes no pictures"
    yield from _sum_problems(where, card)


def _sum_problems(where: str, card: Card) -> Iterator[str]:
    """Parts must sum up to the total, where all of them are known."""
    found = card.parameters
    if found is None or None in (found.vision, found.projector, found.language):
        return
    total = sum(getattr(found, part) or 0 for part in ("vision", "projector", "language", "audio"))
    if total != found.total:
        yield f"{where}.parameters: the parts sum up to {total:,}, total is {found.total:,}"
