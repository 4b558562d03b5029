"""`manako datasets list`: training sets and benchmarks as a table, filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from manako.catalogue.datasets import CATEGORIES
from manako.cli.command import command, option
from manako.cli.facts import footnotes, known
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.cli.texts import Texts
from manako.core.units import show_bytes, show_count

if TYPE_CHECKING:
    from rich.console import Console

    from manako.catalogue.datasets import DataSet

KINDS = ("training", "benchmark")
DEFAULT = ("id", "kind", "category", "images", "rows", "questions", "licence", "reads")
ID_COLUMNS = 40
"""Room that an id keeps on a narrow terminal, before it breaks."""
FIGURES = ("images", "rows", "questions", "answer_tokens", "size", "share")


def _columns() -> Mapping[str, Callable[[DataSet, Texts], str]]:
    """What a column shows of a set."""
    return {
        "id": lambda found, t: found.id,
        "title": lambda found, t: found.title,
        "group": lambda found, t: found.group.in_(t.lang),
        "kind": lambda found, t: t(f"datasets.kind.{found.kind}"),
        "category": lambda found, t: t(f"datasets.category.{found.category}"),
        "languages": lambda found, t: known(found.languages, lambda one: " ".join(one.value)),
        "images": lambda found, t: _count(found.images),
        "rows": lambda found, t: _count(found.rows),
        "questions": lambda found, t: _count(found.questions),
        "answer_tokens": lambda found, t: _count(found.answer_tokens),
        "size": lambda found, t: known(found.bytes, lambda one: show_bytes(one.value)),
        "share": lambda found, t: _shares(found),
        "licence": lambda found, t: known(found.licences, lambda one: " + ".join(one.value)),
        "commercial": lambda found, t: t(f"datasets.commercial.{found.commercial}"),
        "layout": lambda found, t: found.layout,
        "reads": lambda found, t: _reads(found),
        "access": lambda found, t: known(found.access, lambda one: t(f"datasets.way.{one.way}")),
        "split": lambda found, t: known(found.test, lambda one: one.split),
    }


@command(
    "list",
    key="datasets.list",
    examples=(
        "manako datasets list --language ja --kind training",
        "manako datasets list the_cauldron --sort -questions --columns id,questions,share",
        "manako datasets list --kind benchmark --language ja --category document",
    ),
)
@click.argument("text", default="")
@option("--kind", type=click.Choice(KINDS), key="option.datasets.kind")
@option("--category", type=click.Choice(CATEGORIES), key="option.datasets.category")
@option("--language", "languages", metavar="L", multiple=True, key="option.datasets.language")
@option("--licence", metavar="NAME", default="", key="option.datasets.licence")
@option("--commercial", is_flag=True, key="option.datasets.commercial")
@option("--reads", metavar="FORMAT", default="", key="option.datasets.reads")
@option("--strict", is_flag=True, key="option.strict")
@option("--sort", metavar="FIELD", default="name", key="option.datasets.sort")
@option("--columns", metavar="A,B,...", default="", key="option.datasets.columns")
def list_(screen: Screen, sort: str, columns: str, **filters: Any) -> None:
    """List the sets that fulfil every condition."""
    from manako.verbs.datasets import as_json, list_sets

    names = _named(columns)
    found = list_sets(_wanted(**filters), sort=sort)
    if screen.is_json:
        screen.print_json([as_json(one, is_strict=filters["strict"]) for one in found])
    else:
        _draw(screen.out, screen, found, names)


def _wanted(*, commercial: bool, strict: bool, **filters: Any) -> Any:
    from manako.verbs.datasets import WantedSets

    given = {name: value or "" for name, value in filters.items() if name != "languages"}
    return WantedSets(
        is_commercial=commercial, is_strict=strict, languages=filters["languages"], **given
    )


def _named(columns: str) -> tuple[str, ...]:
    """The columns asked for. Raises `InputError` with the nearest for one that there is not."""
    from manako.catalogue.search import check_known

    names = tuple(name.strip() for name in columns.split(",") if name.strip()) or DEFAULT
    for name in names:
        check_known(name, _columns(), what="--columns")
    return names


def _draw(console: Console, screen: Screen, found: list[DataSet], names: tuple[str, ...]) -> None:
    t, readers = screen.texts, _columns()
    table = make_table(screen, "", *(f"datasets.column.{name}" for name in names))
    for column, name in zip(table.columns, names, strict=True):
        column.justify = "right" if name in FIGURES else "left"
        column.no_wrap = name in (*FIGURES, "kind", "reads")
        column.min_width = ID_COLUMNS if name == "id" else None
    for one in found:
        table.add_row(*(readers[name](one, t) for name in names))
    console.print(table)
    console.print(t("datasets.count", count=len(found)))
    cells = [cell for column in table.columns for cell in column.cells]
    for line in footnotes(screen, shown=cells):
        console.print(line)


def _count(figure: Any) -> str:
    return known(figure, lambda one: show_count(one.value))


def _reads(found: DataSet) -> str:
    from manako.catalogue.datasets import layouts

    layout = layouts().get(found.layout)
    return known(layout, lambda one: str(one.reads))


def _shares(found: DataSet) -> str:
    return ", ".join(known(one, lambda one: f"{one.value:g} %") for one in found.shares.values())


COMMAND = list_
