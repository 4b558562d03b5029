"""`manako models list`: the cards as a table, filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from manako.catalogue.cards import INPUTS, RUNTIMES
from manako.cli.command import command, option
from manako.cli.facts import footnotes, known
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.cli.texts import Texts
from manako.core.errors import InputError
from manako.core.units import parse_bytes, parse_count, show_bytes, show_count

if TYPE_CHECKING:
    from rich.console import Console

    from manako.catalogue.cards import Card

DEFAULT = ("id", "parameters", "size", "licence", "inputs", "manako")
WIDE_COLUMNS = 110
"""On a narrower terminal an id may break, or the figures would have no room."""
FIGURES = ("parameters", "parts", "active", "size", "context")


def _columns() -> Mapping[str, Callable[[Card, Texts], str]]:
    """What a column shows of a card."""
    return {
        "id": lambda card, t: card.id,
        "series": lambda card, t: card.series,
        "released": lambda card, t: known(card.released),
        "parameters": lambda card, t: _parameters(card),
        "parts": lambda card, t: _parts(card),
        "active": lambda card, t: known(card.parameters, lambda found: show_count(found.active)),
        "size": lambda card, t: show_bytes(card.size_bytes) if card.size_bytes else "",
        "licence": lambda card, t: known(card.licences, lambda found: " + ".join(found.value)),
        "commercial": lambda card, t: t(f"models.commercial.{card.commercial}"),
        "context": lambda card, t: known(card.context, lambda found: f"{found.value:,}"),
        "inputs": lambda card, t: known(card.takes, lambda found: _inputs(found.value, t)),
        "languages": lambda card, t: known(card.languages, lambda found: " ".join(found.value)),
        "runtimes": lambda card, t: _runtimes(card),
        "survey": lambda card, t: t(f"models.survey.{card.survey}") if card.survey else "",
        "manako": _laws,
    }


@command(
    "list",
    key="models.list",
    examples=(
        "manako models list",
        "manako models list qwen --commercial --max-parameters 8B",
        "manako models list --language ja --sort jdocqa --columns id,parameters,jdocqa,cc_ocr",
    ),
)
@click.argument("text", default="")
@option("--survey", type=click.Choice(["popular", "watch"]), key="option.models.survey")
@option("--input", "inputs", type=click.Choice(INPUTS), multiple=True, key="option.models.input")
@option("--language", "languages", metavar="L", multiple=True, key="option.models.language")
@option("--licence", metavar="NAME", default="", key="option.models.licence")
@option("--commercial", is_flag=True, key="option.models.commercial")
@option("--max-parameters", metavar="N", key="option.models.max_parameters")
@option("--max-size", metavar="SIZE", key="option.models.max_size")
@option(
    "--runtime", "runtimes", type=click.Choice(RUNTIMES), multiple=True, key="option.models.runtime"
)
@option("--trainable", is_flag=True, key="option.models.trainable")
@option("--strict", is_flag=True, key="option.strict")
@option("--sort", metavar="FIELD", default="name", key="option.models.sort")
@option("--columns", metavar="A,B,...", default="", key="option.models.columns")
def list_(screen: Screen, sort: str, columns: str, **filters: Any) -> None:
    """List the models that fulfil every condition."""
    from manako.verbs.models import as_json, list_models

    names = _named(columns)
    found = list_models(_wanted(**filters), sort=sort)
    if screen.is_json:
        screen.print_json([as_json(card) for card in found])
    else:
        _draw(screen.out, screen, found, names)


def _wanted(*, commercial: bool, trainable: bool, strict: bool, **filters: Any) -> Any:
    from manako.verbs.models import Wanted

    parameters, size = filters.pop("max_parameters"), filters.pop("max_size")
    return Wanted(
        is_commercial=commercial,
        is_trainable=trainable,
        is_strict=strict,
        max_parameters=parse_count(parameters) if parameters else None,
        max_bytes=parse_bytes(size) if size else None,
        **filters,
    )


def _named(columns: str) -> tuple[str, ...]:
    """The columns asked for. Raises `InputError` for one that is neither a field nor a score."""
    from manako.verbs.models import column_of

    names = tuple(name.strip() for name in columns.split(",") if name.strip()) or DEFAULT
    for name in names:
        if name not in _columns():
            try:
                column_of(name)
            except InputError as error:
                fields = ", ".join(_columns())
                raise InputError(
                    f"--columns: {error.message}",
                    next_step=f"fields: {fields}; scores: see `manako models list --help`",
                ) from error
    return names


def _draw(console: Console, screen: Screen, found: list[Card], names: tuple[str, ...]) -> None:
    from manako.verbs.models import column_of, score_of

    t, readers = screen.texts, _columns()
    kept = (*FIGURES, "manako", *(("id",) if console.width >= WIDE_COLUMNS else ()))
    scores = {name: column_of(name) for name in names if name not in readers}
    table = make_table(screen, "", *("" for _ in names))
    for column, name in zip(table.columns, names, strict=True):
        column.header = _header(scores[name]) if name in scores else t(f"models.column.{name}")
        column.justify = "right" if name in scores or name in FIGURES else "left"
        column.no_wrap = name in kept
    for card in found:
        cells = [
            readers[name](card, t) if name in readers else _score(score_of(card, *scores[name]))
            for name in names
        ]
        table.add_row(*cells)
    console.print(table)
    console.print(t("models.count", count=len(found)))
    for line in footnotes(
        screen, shown=[cell for column in table.columns for cell in column.cells]
    ):
        console.print(line)
    for table_key in dict.fromkeys(table_key for table_key, _ in scores.values()):
        console.print(_scale(screen, table_key))


def _header(column: tuple[str, str]) -> str:
    from manako.catalogue.scores import score_tables

    return score_tables()[column[0]].columns[column[1]].title


def _scale(screen: Screen, key: str) -> str:
    from manako.catalogue.scores import score_tables

    table = score_tables()[key]
    title = table.title.in_(screen.lang)
    return screen.texts("models.scores_from", title=title, judge=table.judge, date=table.date)


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:g}"


def _parameters(card: Card) -> str:
    return known(card.parameters, lambda found: show_count(found.total))


def _parts(card: Card) -> str:
    parts = ("vision", "projector", "language")
    found = card.parameters
    if found is None or any(getattr(found, part) is None for part in parts):
        return ""
    return known(found, lambda value: " / ".join(show_count(getattr(value, p)) for p in parts))


def _inputs(names: tuple[str, ...], t: Texts) -> str:
    shown = [name for name in names if not (name == "image" and "images" in names)]
    return " ".join(
        t(f"models.input.{name}") for name in shown if name != "text" or len(names) == 1
    )


def _runtimes(card: Card) -> str:
    from manako.verbs.models import RUNS

    return " ".join(name for name in RUNTIMES if card.runtime(name) in RUNS)


def _laws(card: Card, t: Texts) -> str:
    from manako.verbs.models import ability

    found = ability(card)
    return t("models.laws", count=len(found.holds)) if found.holds else ""


COMMAND = list_
