"""Tables of scores: what a number of a card means. Two tables, two scales: never one column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from manako.catalogue.facts import FOLDER, Words, read_table


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measure. scale: what the number is, in words; `higher is better` for all.

    benchmark: id of the data set's record. language: of the questions.
    """

    title: str
    benchmark: str
    scale: Words
    language: str


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Results of one harness and one judge at one time."""

    key: str
    title: Words
    harness: str
    judge: str
    date: str
    by: str
    columns: Mapping[str, Column]


@cache
def score_tables() -> Mapping[str, ScoreTable]:
    """All tables, by key, the widest first."""
    return read_table(ScoreTable, FOLDER / "scores.toml")
