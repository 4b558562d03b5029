"""What people want a model for: the uses that the survey names, and which scores speak of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from manako.catalogue.cards import Input
from manako.catalogue.facts import FOLDER, Words, read_table


@dataclass(frozen=True, kw_only=True)
class Task:
    """One use.

    needs: inputs that a model must take. evidence: language of the answers → columns
    (`table.column`) that speak of it, the most telling first. small: prefers the smaller model.
    why: why these columns. pictures: what one asks about at once, as WIDTHxHEIGHT in pixels.
    """

    key: str
    title: Words
    why: Words
    needs: tuple[Input, ...] = ("image",)
    small: bool = False
    pictures: tuple[str, ...] = ("1024x768",)
    evidence: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def tasks() -> Mapping[str, Task]:
    """All tasks, by key, as the survey names them."""
    return read_table(Task, FOLDER / "tasks.toml")
