"""`manako models compare A B C`: a column per model, a row per fact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.commands.models._reasons import total_of
from manako.cli.facts import footnotes, known
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_bytes, show_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manako.catalogue.cards import Card
    from manako.verbs.compare import Comparison
    from manako.verbs.tokens import Cost

A4_150_DPI = "1240x1754"
FACT_WIDTH, MOST_WIDTH, LEAST_WIDTH, GAP = 22, 34, 14, 3
"""Columns of the terminal: for names of facts, for a model at most and at least, and between."""
PARTS = ("vision", "projector", "language", "audio")
Row = tuple[str, Sequence[str]]


@command(
    "compare",
    key="compare",
    examples=(
        "manako models compare Qwen/Qwen2-VL-2B-Instruct google/gemma-3-4b-it",
        "manako models compare qwen2-vl-7b-instruct qwen2.5-vl-7b-instruct --image 1920x1080",
    ),
)
@click.argument("models", metavar="ID ID...", nargs=-1)
@option("--image", "images", metavar="SIZE|@FILE", multiple=True, key="option.compare.image")
@option("--strict", is_flag=True, key="option.strict")
def compare(screen: Screen, models: tuple[str, ...], images: tuple[str, ...], strict: bool) -> None:
    """Show cards side by side."""
    from manako.verbs.compare import as_json, compare_models

    found = compare_models(models, images or (A4_150_DPI,), is_strict=strict)
    screen.result(as_json(found), lambda console: _draw(console, screen, found))


def _draw(console: Console, screen: Screen, found: Comparison) -> None:
    from manako.plan.job import Job

    shown: list[Any] = []
    for table in _tables(screen, found, console.width):
        console.print(table)
        shown += [cell for column in table.columns for cell in column.cells]
    for line in _notes(screen, found):
        console.print(line, soft_wrap=True)
    job = Job(method="run")
    note = screen.texts("compare.memory_note", context=job.context_tokens, pack=job.pack_tokens)
    console.print(note, soft_wrap=True)
    for line in footnotes(screen, shown):
        console.print(line, soft_wrap=True)


def _notes(screen: Screen, found: Comparison) -> Iterator[str]:
    if not found.scores:
        yield screen.texts("compare.no_scores")
    if found.lonely_scores:
        yield screen.texts("compare.lonely_scores", count=found.lonely_scores)


def _tables(screen: Screen, found: Comparison, width: int) -> Iterator[Table]:
    """A table per section, all with the same columns; what no model has leaves no row."""
    each = min(MOST_WIDTH, max(LEAST_WIDTH, (width - FACT_WIDTH) // len(found.cards) - GAP))
    for title, rows in _sections(screen, found):
        filled = [(name, cells) for name, cells in rows if any(cells)]
        if not filled:
            continue
        table = make_table(screen, "", "compare.fact", fold="compare.fact")
        table.title = title
        table.columns[0].width = FACT_WIDTH
        for card in found.cards:
            table.add_column(card.name, overflow="fold", width=each)
        for name, cells in filled:
            table.add_row(name, *cells)
        yield table


def _sections(screen: Screen, found: Comparison) -> Iterator[tuple[str, Iterator[Row]]]:
    t = screen.texts
    yield t("compare.section.facts"), _facts(screen, found.cards)
    yield t("compare.section.pictures"), _pictures(screen, found)
    yield from _scores(screen, found)
    yield t("compare.section.memory"), _memory(screen, found)
    yield t("compare.section.runtimes"), _runtimes(screen, found.cards)


def _facts(screen: Screen, cards: Sequence[Card]) -> Iterator[Row]:
    t = screen.texts
    readers: dict[str, Callable[[Card], str]] = {
        "series": lambda card: card.series,
        "released": lambda card: known(card.released),
        "parameters": lambda card: known(card.parameters, lambda found: show_count(found.total)),
        "parts": lambda card: known(card.parameters, _parts),
        "active": lambda card: known(card.parameters, _active),
        "size": _size,
        "licence": lambda card: known(card.licences, lambda found: " + ".join(found.value)),
        "commercial": lambda card: t(f"models.commercial.{card.commercial}"),
        "context": lambda card: known(card.context, lambda found: f"{found.value:,}"),
        "inputs": lambda card: known(card.takes, lambda found: _inputs(screen, found.value)),
        "languages": lambda card: known(card.languages, lambda found: " ".join(found.value)),
        "manako": lambda card: _laws(screen, card),
    }
    for name, read in readers.items():
        yield t(f"models.column.{name}"), [read(card) for card in cards]


def _parts(parameters: Any) -> str:
    counts = [getattr(parameters, part) for part in PARTS[:3]]
    return " / ".join(show_count(count) for count in counts if count) if any(counts) else ""


def _active(parameters: Any) -> str:
    return show_count(parameters.active) if parameters.active else ""


def _size(card: Card) -> str:
    fact = card.weight_bytes or card.parameters
    return known(fact, lambda _: show_bytes(card.size_bytes or 0))


def _inputs(screen: Screen, inputs: Sequence[str]) -> str:
    return ", ".join(screen.texts(f"models.takes.{name}") for name in inputs)


def _laws(screen: Screen, card: Card) -> str:
    from manako.verbs.models import ability

    holds = ability(card).holds
    return screen.texts("compare.laws", count=len(holds)) if holds else ""


def _pictures(screen: Screen, found: Comparison) -> Iterator[Row]:
    from manako.catalogue.facts import RECALLED_MARK

    counted = [costs for costs in found.costs if costs.costs]
    for place, one in enumerate(counted[0].costs if counted else ()):
        cells = [
            _cost(screen, costs.costs[place]) + RECALLED_MARK * costs.is_recalled
            if costs.costs
            else ""
            for costs in found.costs
        ]
        yield screen.texts("compare.tokens", picture=one.picture.name), cells


def _cost(screen: Screen, cost: Cost) -> str:
    return screen.texts("tokens.refused") if cost.tokens is None else f"{cost.tokens:,}"


def _scores(screen: Screen, found: Comparison) -> Iterator[tuple[str, Iterator[Row]]]:
    """A section per table: two scales never share one."""
    from manako.catalogue.scores import score_tables

    for key, table in score_tables().items():
        rows = (
            (table.columns[name].title, ["" if score is None else f"{score:g}" for score in row])
            for column, row in found.scores.items()
            for at, _, name in [column.partition(".")]
            if at == key
        )
        title = screen.texts(
            "compare.section.scores",
            title=table.title.in_(screen.lang),
            judge=table.judge,
            date=table.date,
        )
        yield title, rows


def _memory(screen: Screen, found: Comparison) -> Iterator[Row]:
    for (method, bits), row in found.needs.items():
        words = {"bits": bits} if method == "run" else {}
        name = screen.texts(f"compare.memory.{method}", **words)
        yield name, [total_of(screen, needs) if needs else "" for needs in row]


def _runtimes(screen: Screen, cards: Sequence[Card]) -> Iterator[Row]:
    from manako.catalogue.cards import RUNTIMES
    from manako.catalogue.facts import mark_of

    for name in RUNTIMES:
        yield (
            name,
            [
                screen.texts(f"models.runtime.{card.runtime(name)}")
                + mark_of(card.runtimes.get(name))
                for card in cards
            ],
        )


COMMAND = compare
