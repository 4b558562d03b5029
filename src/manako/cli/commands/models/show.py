"""`manako models show ID`: one card, every figure with the number of its source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.facts import Cited, footnotes, settings_of
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_bytes, show_count

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from manako.catalogue.cards import Card, Scores

PARTS = ("vision", "projector", "language", "audio")
EXAMPLE_SIZES = ((512, 512), (1240, 1754), (1920, 1080))
"""A square, an A4 page at 150 dpi, a screen: (width, height) in pixels."""


@command(
    "show",
    key="models.show",
    examples=(
        "manako models show Qwen/Qwen2-VL-2B-Instruct",
        "manako models show qwen2-vl-7b-instruct --strict --json",
    ),
)
@click.argument("model", metavar="ID")
@option("--strict", is_flag=True, key="option.strict")
def show(screen: Screen, model: str, strict: bool) -> None:
    """Show one card."""
    from manako.catalogue.cards import find_card
    from manako.catalogue.facts import without_recalled
    from manako.verbs.models import as_json

    card = find_card(model)
    card = without_recalled(card) if strict else card
    screen.result(as_json(card), lambda console: console.print(*_drawn(screen, card), sep="\n"))


def _drawn(screen: Screen, card: Card) -> Iterator[RenderableType]:
    """The card's sections, from what it is to where all that comes from."""
    from rich.text import Text

    cited = Cited(screen)
    yield Text(card.id, style="bold")
    if card.about:
        yield cited.text(card.about)
    shown: list[Any] = [_facts(screen, card, cited)]
    shown += [table for scores in card.scores if (table := _scores(screen, scores, cited))]
    shown += [
        table
        for table in (_runtimes(screen, card, cited), _downloads(screen, card, cited))
        if table
    ]
    yield from shown
    yield _laws(screen, card)
    if card.pitfalls:
        yield Text(screen.texts("models.pitfalls"), style="bold")
        yield from (f"- {cited.text(note)}" for note in card.pitfalls)
    yield ""
    yield from cited.lines()
    yield from footnotes(screen, cited.marks)


def _facts(screen: Screen, card: Card, cited: Cited) -> Table:
    table = make_table(screen, "", "models.fact", "models.value", fold="models.value")
    for key, value in _rows(screen, card, cited):
        if value:
            table.add_row(screen.texts(key), value)
    return table


def _rows(screen: Screen, card: Card, cited: Cited) -> Iterator[tuple[str, str]]:
    t = screen.texts
    yield "models.column.series", card.series
    yield "models.aliases", ", ".join(card.aliases)
    yield "models.base", card.base
    yield "models.column.released", cited(card.released)
    yield "models.column.parameters", cited(card.parameters, lambda found: _counts(found, t))
    yield "models.column.size", _size(card, cited, t)
    yield "models.column.licence", cited(card.licences, lambda found: " + ".join(found.value))
    yield "models.column.commercial", t(f"models.commercial.{card.commercial}")
    yield "models.allows", _allows(screen, card)
    yield (
        "models.gated",
        cited(card.gated, lambda found: t("models.yes" if found.value else "models.no")),
    )
    yield "models.column.context", cited(card.context, lambda found: f"{found.value:,}")
    inputs = cited(
        card.takes, lambda found: ", ".join(t(f"models.takes.{name}") for name in found.value)
    )
    yield "models.column.inputs", inputs
    yield "models.column.languages", cited(card.languages, lambda found: ", ".join(found.value))
    yield "models.model_type", cited(card.model_type)
    yield "models.image_rule", cited(card.image_rule, _rule)
    yield "models.tokens", _tokens(card, screen)


def _counts(parameters: Any, t: Any) -> str:
    parts = [
        f"{t(f'models.part.{part}')} {show_count(count)}"
        for part in PARTS
        if (count := getattr(parameters, part)) is not None
    ]
    if parameters.active is not None:
        parts.append(t("models.active", count=show_count(parameters.active)))
    inside = f" ({', '.join(parts)})" if parts else ""
    return f"{show_count(parameters.total)}{inside}"


def _size(card: Card, cited: Cited, t: Any) -> str:
    if card.weight_bytes is not None:
        return cited(card.weight_bytes, lambda found: show_bytes(found.value))
    return t("models.size_counted", size=show_bytes(card.size_bytes)) if card.size_bytes else ""


def _allows(screen: Screen, card: Card) -> str:
    from manako.catalogue.facts import licences

    keys = card.licences.value if card.licences else ()
    return "\n".join(f"{key}: {licences()[key].allows.in_(screen.lang)}" for key in keys)


def _rule(rule: Any) -> str:
    settings = settings_of(rule.settings)
    return f"{rule.rule} ({settings})" if settings else str(rule.rule)


def _tokens(card: Card, screen: Screen) -> str:
    from manako.core.errors import ImageError
    from manako.families._shared.sizes import image_tokens

    if card.image_rule is None:
        return ""
    shown = []
    for width, height in EXAMPLE_SIZES:
        try:
            count = (
                f"{image_tokens(card.image_rule.rule, width, height, card.image_rule.settings):,}"
            )
        except ImageError as refused:
            count = refused.message
        shown.append(f"{width}×{height}: {count}")
    return "; ".join(shown)


def _scores(screen: Screen, scores: Scores, cited: Cited) -> Table | None:
    from manako.catalogue.scores import score_tables

    found = score_tables()[scores.table]
    columns = ("models.measure", "models.score", "models.scale")
    table = make_table(screen, "", *columns, right=("models.score",))
    judge = screen.texts("models.judge", judge=found.judge, date=found.date)
    table.title = f"{found.title.in_(screen.lang)} ({judge}) {cited.number(found)}"
    for name, score in scores.values.items():
        column = found.columns[name]
        table.add_row(column.title, f"{score:g}", column.scale.in_(screen.lang))
    return table


def _runtimes(screen: Screen, card: Card, cited: Cited) -> Table | None:
    from manako.catalogue.cards import RUNTIMES

    columns = ("models.runtime", "models.state", "models.since", "models.detail")
    table = make_table(screen, "models.runtimes", *columns)

    def state(found: Any) -> str:
        return screen.texts(f"models.runtime.{found.state}")

    for name in RUNTIMES:
        runtime = card.runtimes.get(name)
        if runtime is None:
            table.add_row(name, screen.texts("models.runtime.unknown"), "", "")
        else:
            table.add_row(name, cited(runtime, state), runtime.since, runtime.detail)
    return table


def _downloads(screen: Screen, card: Card, cited: Cited) -> Table | None:
    if not card.downloads:
        return None
    columns = ("models.file", "models.form", "models.column.size", "models.detail")
    table = make_table(screen, "models.downloads", *columns, right=("models.column.size",))
    for file in card.downloads:
        size = show_bytes(file.bytes) if file.bytes else ""
        table.add_row(cited(file, lambda found: found.name), file.form, size, file.note)
    return table


def _laws(screen: Screen, card: Card) -> str:
    from manako.verbs.models import ability

    found = ability(card)
    if not found.holds and not found.fails:
        return screen.texts("models.no_laws", family=card.family)
    laws = ", ".join(str(law) for law in found.holds)
    return screen.texts("models.laws_hold", count=len(found.holds), laws=laws, family=card.family)


COMMAND = show
