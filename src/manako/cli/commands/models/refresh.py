"""`manako models refresh ID`: a card beside what the Hub or a folder really holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.facts import Cited, footnotes
from manako.cli.screen import Screen
from manako.cli.tables import make_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manako.verbs.refresh import Comparison, Row

STYLES = {"differs": "yellow", "contradicts": "bold red"}


@command(
    "refresh",
    key="models.refresh",
    examples=(
        "manako models refresh Qwen/Qwen2-VL-2B-Instruct",
        "manako models refresh qwen2-vl-2b-instruct --folder ./Qwen2-VL-2B-Instruct",
    ),
)
@click.argument("model", metavar="ID")
@option("--folder", type=click.Path(path_type=Path), key="option.refresh.folder")
@option("--revision", metavar="REV", key="option.refresh.revision")
def refresh(screen: Screen, model: str, folder: Path | None, revision: str | None) -> None:
    """Compare one card."""
    from manako.cli.failures import Ended
    from manako.core.errors import HubError
    from manako.verbs.exits import Exit
    from manako.verbs.refresh import refresh as compare
    from manako.verbs.refresh import target_of

    try:
        with screen.working("refresh.working"):
            found = compare(model, folder=folder, revision=revision)
    except HubError:
        if (card := target_of(model)[0]) is not None:
            screen.note("refresh.kept", id=card.id)
        raise
    screen.result(found.as_dict(), lambda console: _draw(console, screen, found))
    if not found.is_whole:
        raise Ended(Exit.FAILED)


def _draw(console: Console, screen: Screen, found: Comparison) -> None:
    cited = Cited(screen)
    console.print(_table(screen, found, cited))
    for line in _lines(screen, found, cited):
        console.print(line, soft_wrap=True)


def _table(screen: Screen, found: Comparison, cited: Cited) -> Table:
    columns = ("refresh.field", "refresh.card", "refresh.found", "refresh.state")
    table = make_table(screen, "", *columns, fold="refresh.found")
    table.title = screen.texts("refresh.title", id=found.id, source=found.source)
    for row in found.rows:
        state = screen.texts(f"refresh.state.{row.state}")
        known = cited(row.figure, lambda fact: _shown(fact.value))
        table.add_row(row.field, known, _values(row), state, style=STYLES.get(row.state))
    return table


def _values(row: Row) -> str:
    """Each value with its origin; one line where all of them agree."""
    if len(row.found) > 1 and row.state != "contradicts":
        origins = "; ".join(found.origin for found in row.found)
        return f"{_shown(row.found[0].value)} ({origins})"
    return "\n".join(f"{_shown(found.value)} ({found.origin})" for found in row.found)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    return f"{value:,}" if type(value) is int else str(value)


def _lines(screen: Screen, found: Comparison, cited: Cited) -> Iterator[str]:
    from manako.verbs.refresh import STATES

    counts = Counter(row.state for row in found.rows)
    yield screen.texts("refresh.counts", **{state: counts[state] for state in STATES})
    if found.card is None:
        yield screen.texts("refresh.no_card", id=found.id)
    for problem in found.problems:
        yield screen.texts("refresh.unread", message=problem.message)
        if problem.next_step:
            yield screen.texts("refresh.next", next_step=problem.next_step)
    yield from cited.lines()
    yield from footnotes(screen, cited.marks)


COMMAND = refresh
