"""`manako datasets show ID`: one set, every figure with the number of its source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.facts import Cited, footnotes
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from manako.catalogue.datasets import DataSet, Met

COUNTS = ("images", "rows", "questions", "answer_tokens")


@command(
    "show",
    key="datasets.show",
    examples=(
        "manako datasets show the_cauldron:plotqa",
        "manako datasets show JMMMU/JMMMU --strict --json",
    ),
)
@click.argument("name", metavar="ID")
@option("--strict", is_flag=True, key="option.strict")
def show(screen: Screen, name: str, strict: bool) -> None:
    """Show one set."""
    from manako.verbs.datasets import as_json, must_not_meet, one_set

    found = one_set(name, is_strict=strict)
    met = must_not_meet(found, is_strict=strict)
    screen.result(
        as_json(found, is_strict=strict),
        lambda console: console.print(*_drawn(screen, found, met), sep="\n"),
    )


def _drawn(screen: Screen, found: DataSet, met: list[Met]) -> Iterator[RenderableType]:
    """The sections, from what it is to where all that comes from."""
    from rich.text import Text

    cited = Cited(screen)
    yield Text(found.id, style="bold")
    if found.about:
        yield cited.text(found.about)
    yield _facts(screen, cited, _rows(screen, found, cited))
    if found.test:
        yield _facts(screen, cited, _test(screen, found.test, cited))
    if found.layout:
        yield from _layout(screen, found, cited)
    if met:
        yield Text(screen.texts("datasets.must_not_meet"), style="bold")
        yield from _meetings(screen, found, met, cited)
        yield ""
    if found.pitfalls:
        yield Text(screen.texts("datasets.pitfalls"), style="bold")
        yield from (f"- {cited.text(note)}" for note in found.pitfalls)
        yield ""
    yield from cited.lines()
    yield from footnotes(screen, cited.marks)


def _facts(screen: Screen, cited: Cited, rows: Iterator[tuple[str, str]]) -> Table:
    table = make_table(screen, "", "datasets.fact", "datasets.value", fold="datasets.value")
    for key, value in rows:
        if value:
            table.add_row(screen.texts(key), value)
    return table


def _rows(screen: Screen, found: DataSet, cited: Cited) -> Iterator[tuple[str, str]]:
    from manako.catalogue.datasets import parts_of

    t = screen.texts
    yield "datasets.column.title", found.title
    yield "datasets.column.group", found.group.in_(screen.lang)
    yield "datasets.aliases", ", ".join(found.aliases)
    yield "datasets.part_of", found.part_of
    yield "datasets.parts", ", ".join(part.config for part in parts_of(found))
    yield "datasets.column.kind", t(f"datasets.kind.{found.kind}")
    yield "datasets.column.category", t(f"datasets.category.{found.category}")
    yield "datasets.column.languages", cited(found.languages, lambda one: ", ".join(one.value))
    for name in COUNTS:
        yield f"datasets.column.{name}", cited(getattr(found, name), _whole)
    yield "datasets.held_rows", cited(found.held_rows, _whole)
    yield "datasets.column.size", cited(found.bytes, lambda one: show_bytes(one.value))
    for name, share in found.shares.items():
        words = cited(share, lambda one, name=name: _share(t, name, one))  # type: ignore[misc]
        yield "datasets.column.share", words
    yield "datasets.column.licence", cited(found.licences, lambda one: " + ".join(one.value))
    yield "datasets.column.commercial", t(f"datasets.commercial.{found.commercial}")
    yield "datasets.allows", _allows(screen, found)
    yield "datasets.column.access", cited(found.access, lambda one: _access(screen, one))


def _test(screen: Screen, test: Any, cited: Cited) -> Iterator[tuple[str, str]]:
    yield "datasets.column.split", cited(test, lambda one: str(one.split))
    yield "datasets.fields", test.fields
    yield "datasets.metric", test.metric.in_(screen.lang)
    yield "datasets.prompt", test.prompt.in_(screen.lang) if test.prompt else ""
    yield "datasets.max_new_tokens", str(test.max_new_tokens or "")


def _layout(screen: Screen, found: DataSet, cited: Cited) -> Iterator[str]:
    from manako.catalogue.datasets import layouts

    layout = layouts()[found.layout]
    yield screen.texts("datasets.layout", layout=cited(layout, lambda one: str(one.shape)))
    if layout.reads:
        yield screen.texts("datasets.reads_it", name=layout.reads)
    else:
        yield screen.texts("datasets.reads_nothing")
    if layout.traps:
        yield f"- {layout.traps.in_(screen.lang)}"
    yield ""


def _meetings(screen: Screen, found: DataSet, met: list[Met], cited: Cited) -> Iterator[str]:
    """One line for each reason, with all the sets that it holds for."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for one in met:
        other = one.other if one.one == found.id or one.one.startswith(f"{found.id}:") else one.one
        key = (one.relation, one.why.in_(screen.lang), cited(one, lambda _: " "))
        reasons.setdefault(key, []).append(other)
    for (relation, why, source), others in reasons.items():
        names = ", ".join(dict.fromkeys(others))
        words = screen.texts(f"datasets.relation.{relation}")
        line = screen.texts("datasets.met", ids=names, relation=words, why=why)
        yield f"- {line} {source.strip()}"


def _whole(figure: Any) -> str:
    return f"{figure.value:,}"


def _share(t: Any, name: str, share: Any) -> str:
    return str(t("datasets.share_of", share=f"{share.value:g}", mix=name))


def _access(screen: Screen, access: Any) -> str:
    way = screen.texts(f"datasets.way.{access.way}")
    if access.note is None:
        return way
    return screen.texts("datasets.way_note", way=way, note=access.note.in_(screen.lang))


def _allows(screen: Screen, found: DataSet) -> str:
    from manako.catalogue.facts import licences

    keys = found.licences.value if found.licences else ()
    return "\n".join(f"{key}: {licences()[key].allows.in_(screen.lang)}" for key in keys)


COMMAND = show
