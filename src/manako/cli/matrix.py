"""The table of accelerators: states in the cells, what they need below, and where that comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from manako.cli.facts import Cited, footnotes
from manako.cli.screen import Screen
from manako.cli.tables import make_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from manako.catalogue.matrix import Row

STYLES = {"yes": "green", "partly": "yellow", "no": "red", "untested": "dim"}


def drawn(screen: Screen, rows: Sequence[Row]) -> Iterator[RenderableType]:
    """Table, notes, sources, and what the marks mean."""
    cited = Cited(screen)
    yield _table(screen, rows, cited)
    yield from _notes(screen, rows)
    yield ""
    yield from cited.lines()
    yield from footnotes(screen, cited.marks)


def _table(screen: Screen, rows: Sequence[Row], cited: Cited) -> Table:
    from rich.text import Text

    from manako.catalogue.matrix import BACKENDS, Cell

    def state(cell: Cell) -> str:
        return screen.texts(f"doctor.cell.{cell.state}")

    backends = [f"doctor.backend.{name}" for name in BACKENDS]
    table = make_table(screen, "doctor.matrix", "doctor.feature", *backends, fold="doctor.feature")
    for row in rows:
        cells = dict(row.cells())
        shown = [
            Text(cited(cells[name], state), style=STYLES[cells[name].state])
            if name in cells
            else Text("")
            for name in BACKENDS
        ]
        table.add_row(row.feature.in_(screen.lang), *shown)
    return table


def _notes(screen: Screen, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        notes = [
            f"{screen.texts(f'doctor.backend.{name}')}: {cell.note.in_(screen.lang)}"
            for name, cell in row.cells()
            if cell.note
        ]
        if notes:
            yield f"- {row.feature.in_(screen.lang)}: {'; '.join(notes)}"
