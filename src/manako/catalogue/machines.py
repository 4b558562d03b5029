"""Kinds of machines that can be bought or rented, by the memory of their GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from manako.catalogue.facts import FOLDER, Figure, read_table


@dataclass(frozen=True, kw_only=True)
class MachineKind:
    """`count` GPUs of `each_bytes`, and what such GPUs are called; None where a strict look leaves
    recalled names out."""

    key: str
    each_bytes: int
    count: int = 1
    examples: Figure[tuple[str, ...]] | None = None


@cache
def machine_kinds() -> Mapping[str, MachineKind]:
    """All kinds by key, the smallest first."""
    return read_table(MachineKind, FOLDER / "machines.toml")
