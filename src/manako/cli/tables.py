"""Tables as every command draws them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from manako.cli.screen import Screen

if TYPE_CHECKING:
    from rich.table import Table


def make_table(
    screen: Screen, title: str, *columns: str, right: Collection[str] = (), fold: str = ""
) -> Table:
    """An empty table; title and columns are keys of the table of texts.

    right: columns whose cells stand at the right edge (figures). fold: the column that may break
    its lines; without one, every column shares the width.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    heading = screen.texts(title) if title else None
    table = Table(title=heading, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        justify = "right" if column in right else "left"
        no_wrap = bool(fold) and column != fold
        words = screen.texts(column) if column else ""
        table.add_column(words, justify=justify, no_wrap=no_wrap, overflow="fold")  # type: ignore[arg-type]
    return table
