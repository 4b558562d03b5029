"""Cautions: what is said of VLMs and what goes wrong without a word, each with its state today."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from manako.catalogue.facts import FOLDER, Note, Words, is_recalled, read_toml
from manako.catalogue.search import find_named
from manako.core.settings import build

FILE = FOLDER / "cautions.toml"
Kind = Literal["claim", "warning", "trap"]
"""`claim` and `warning`: the survey says so. `trap`: nobody says so, and one walks into it."""
State = Literal["right", "outdated", "wrong", "depends", "unproven"]
"""`unproven`: nothing was found that speaks for or against it."""
STATES: tuple[State, ...] = get_args(State)
Topic = Literal[
    "choose",
    "licence",
    "data",
    "train",
    "memory",
    "mac",
    "run",
    "export",
    "measure",
    "install",
    "safety",
]
TOPICS: tuple[Topic, ...] = get_args(Topic)


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One statement and what is known of it today.

    said: the statement, in our words. since: date or version from which on the state is what it
    is; empty where unknown. does: what this version of Manako does about it. see: ids of cards and
    data sets, and calls of `manako`.
    """

    id: str
    kind: Kind
    topics: tuple[Topic, ...]
    said: Words
    state: State
    evidence: tuple[Note, ...]
    does: Words
    since: str = ""
    see: tuple[str, ...] = ()

    @property
    def is_recalled(self) -> bool:
        """Whether nothing that was looked up speaks for the state."""
        return all(is_recalled(note) for note in self.evidence)


@cache
def cautions() -> tuple[Caution, ...]:
    """All cautions, as they stand in the file. Raises `InputError` naming the id and the field."""
    tables = read_toml(FILE)
    return tuple(
        build(Caution, {"id": name, **values}, where=f"{FILE.name} {name}")
        for name, values in tables.items()
    )


def find_caution(name: str) -> Caution:
    """The caution of an id. Raises `InputError` with the nearest ids for one that there is not."""
    return find_named(
        name, cautions(), lambda found: (found.id,), what="caution", command="manako cautions"
    )
