"""`manako cautions [ID]`: what is said of VLMs and what goes wrong silently, with its state today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from manako.cli.command import command, option
from manako.cli.facts import Cited, footnotes
from manako.cli.screen import Screen
from manako.cli.tables import make_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from manako.catalogue.cautions import Caution

STYLES = {
    "right": "green",
    "outdated": "yellow",
    "wrong": "red",
    "depends": "cyan",
    "unproven": "magenta",
}


def _topics() -> dict[str, str]:
    from manako.catalogue.cautions import TOPICS

    return {"topics": ", ".join(TOPICS)}


def _states() -> dict[str, str]:
    from manako.catalogue.cautions import STATES

    return {"states": ", ".join(STATES)}


@command(
    "cautions",
    key="cautions",
    examples=(
        "manako cautions",
        "manako cautions --for mac --for train --state outdated",
        "manako cautions num-ctx-24576",
    ),
)
@click.argument("name", metavar="[ID]", default="")
@option("--for", "topics", metavar="T", multiple=True, key="option.cautions.for", values=_topics)
@option("--state", metavar="S", default="", key="option.cautions.state", values=_states)
@option("--strict", is_flag=True, key="option.strict")
def cautions(screen: Screen, name: str, topics: tuple[str, ...], state: str, strict: bool) -> None:
    """List cautions, or show one whole."""
    from manako.catalogue.facts import with_sources
    from manako.core.errors import InputError
    from manako.verbs.cautions import list_cautions, one_caution

    if not name:
        found = list_cautions(topics, state=state, is_strict=strict)
        screen.result(
            with_sources(found), lambda console: console.print(*_list(screen, found), sep="\n")
        )
        return
    if topics or state:
        raise InputError(
            f"{name} is one caution; --for and --state pick among all of them",
            next_step="leave out the id, or the options",
        )
    one = one_caution(name, is_strict=strict)
    screen.result(with_sources(one), lambda console: console.print(*_whole(screen, one), sep="\n"))


def _list(screen: Screen, found: list[Caution]) -> Iterator[RenderableType]:
    from rich.text import Text

    from manako.catalogue.facts import RECALLED_MARK

    columns = ("cautions.id", "cautions.state", "cautions.said")
    table = make_table(screen, "", *columns, fold="cautions.said")
    for caution in found:
        mark = RECALLED_MARK if caution.is_recalled else ""
        state = f"{screen.texts(f'cautions.state.{caution.state}')}{mark}"
        said = caution.said.in_(screen.lang)
        table.add_row(caution.id, Text(state, style=STYLES[caution.state]), said)
    yield table
    yield screen.texts("cautions.count", count=len(found))
    marked = RECALLED_MARK if any(caution.is_recalled for caution in found) else ""
    yield from footnotes(screen, [marked])


def _whole(screen: Screen, caution: Caution) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    t, cited = screen.texts, Cited(screen)
    yield Text(caution.id, style="bold")
    yield caution.said.in_(screen.lang)
    yield _facts(screen, caution)
    yield Text(t("cautions.evidence"), style="bold")
    yield from (Padding(f"- {cited.text(note)}", (0, 0, 0, 2)) for note in caution.evidence)
    yield Text(t("cautions.does"), style="bold")
    yield Padding(caution.does.in_(screen.lang), (0, 0, 0, 2))
    yield ""
    yield from cited.lines()
    yield from footnotes(screen, cited.marks)


def _facts(screen: Screen, caution: Caution) -> RenderableType:
    from rich.table import Table

    t = screen.texts
    table = Table.grid(padding=(0, 2))
    table.add_row(
        t("cautions.state"), t(f"cautions.state.{caution.state}"), style=STYLES[caution.state]
    )
    rows = {
        "cautions.since": caution.since,
        "cautions.kind": t(f"cautions.kind.{caution.kind}"),
        "cautions.topics": ", ".join(t(f"cautions.topic.{topic}") for topic in caution.topics),
        "cautions.see": ", ".join(caution.see),
    }
    for key, value in rows.items():
        if value:
            table.add_row(t(key), value)
    return table


COMMAND = cautions
