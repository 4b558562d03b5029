"""The survey that Manako began with, line by line, and what speaks of each line today."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from manako.catalogue.facts import FOLDER, Words, read_toml
from manako.core.settings import build

FILE = FOLDER / "survey.toml"
Section = Literal[
    "popular", "watch", "call", "machines", "data", "models", "runtimes", "macs", "cauldron", "uses"
]
"""`machines` to `macs`: the five pieces of advice."""
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One statement of the survey in our words.

    cautions, cards, datasets, tasks: ids of the records that speak of it.
    """

    id: str
    section: Section
    said: Words
    cautions: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    @property
    def speaks(self) -> tuple[str, ...]:
        """All records that speak of the line."""
        return (*self.cautions, *self.cards, *self.datasets, *self.tasks)


@cache
def survey() -> tuple[Line, ...]:
    """All lines, in the survey's order. Raises `InputError` naming the line and the field."""
    return tuple(
        build(Line, {"id": name, **values}, where=f"{FILE.name} {name}")
        for name, values in read_toml(FILE).items()
    )
