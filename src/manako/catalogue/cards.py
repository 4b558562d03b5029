"""Cards: facts about published checkpoints, read from this folder's TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from manako.core.errors import InputError
from manako.core.settings import build

FOLDER = Path(__file__).parent
FIGURES = ("parameters", "released", "licence", "context")
"""Fields of a card that a file must give a provenance for."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How sure a figure is, where it comes from, and when it was taken."""

    how: Literal["published", "computed", "measured", "recalled"]
    source: str
    date: str


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters per part; tensors that two modules share count once."""

    vision: int
    projector: int
    language: int

    @property
    def total(self) -> int:
        return self.vision + self.projector + self.language


@dataclass(frozen=True, kw_only=True)
class Card:
    """One published checkpoint. `config` are the config.json fields that decide its sizes."""

    id: str
    released: str
    licence: str
    context: int
    parameters: Parameters
    config: Mapping[str, Any]
    family: str = ""
    provenance: Mapping[str, Provenance] | None = None


@cache
def cards() -> tuple[Card, ...]:
    """All cards, by file and then as they stand in it. Raises `InputError` naming file and key."""
    return tuple(card for file in sorted(FOLDER.glob("*.toml")) for card in _read(file))


def cards_of(family: str) -> list[Card]:
    """The cards of one family."""
    return [card for card in cards() if card.family == family]


def _read(file: Path) -> list[Card]:
    values = tomllib.loads(file.read_text(encoding="utf-8"))
    provenance = values.get("provenance", {})
    if missing := [name for name in FIGURES if name not in provenance]:
        raise InputError(f"{file.name}: provenance lacks {', '.join(missing)}")
    shared = {"family": values["family"], "provenance": provenance}
    return [build(Card, {**model, **shared}, where=file.name) for model in values["model"]]
