"""What Manako can do with a family, read from the laws' Record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from manako.catalogue.cards import Card
from manako.catalogue.facts import FOLDER

RECORD = FOLDER / "laws.jsonl"


@dataclass(frozen=True, kw_only=True)
class Ability:
    """Law numbers by verdict, on a tiny checkpoint of the family's layout."""

    holds: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()
    not_applicable: tuple[int, ...] = ()
    not_run: tuple[int, ...] = ()

    @property
    def can_train(self) -> bool:
        """All laws were tried and none fails."""
        return bool(self.holds) and not self.fails and not self.not_run


def ability_of(family: str) -> Ability:
    """What the Record says of a family; nothing where no law was ever run on it."""
    return _abilities().get(family, Ability())


def can_train(card: Card) -> bool:
    """Whether Manako trains this very model: the laws hold for its family, and its weights are there
    in the layout that its authors' code reads, of which a card speaks under `transformers`, and not
    as a program's file alone. Whether transformers has a class of its own does not matter."""
    return ability_of(card.family).can_train and card.runtime("transformers") != "unknown"


@cache
def _abilities() -> Mapping[str, Ability]:
    lines = [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()]
    found: dict[str, dict[str, list[int]]] = {}
    for line in lines:
        if line["kind"] == "verdict":
            state = line["state"].replace(" ", "_")
            found.setdefault(line["family"], {}).setdefault(state, []).append(line["law"])
    return {
        family: Ability(**{state: tuple(laws) for state, laws in states.items()})
        for family, states in found.items()
    }
