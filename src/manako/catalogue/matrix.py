"""What works on which accelerator: a dated table, not a promise about the machine at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from manako.catalogue.facts import FOLDER, Words, read_table

Backend = Literal["cuda", "rocm", "xpu", "mps", "cpu"]
BACKENDS: tuple[Backend, ...] = ("cuda", "rocm", "xpu", "mps", "cpu")
CellState = Literal["yes", "partly", "no", "untested"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One feature on one kind of device. note: from which version on, or which part of it."""

    state: CellState
    by: str
    note: Words | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One feature on all of them; None where a strict look leaves a recalled cell out."""

    key: str
    feature: Words
    cuda: Cell | None
    rocm: Cell | None
    xpu: Cell | None
    mps: Cell | None
    cpu: Cell | None

    def cells(self) -> Iterator[tuple[Backend, Cell]]:
        """The cells that are there, in the order of the columns."""
        for name in BACKENDS:
            cell: Cell | None = getattr(self, name)
            if cell is not None:
                yield name, cell


@cache
def matrix() -> Mapping[str, Row]:
    """All rows by key, in the order of the file. Raises `InputError` naming row and field."""
    return read_table(Row, FOLDER / "matrix.toml")
