"""`manako models tokens`: what a picture costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from manako.cli.command import command, option
from manako.cli.facts import footnotes, settings_of
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manako.verbs.tokens import Cost, Costs

A4_150_DPI = "1240x1754"


@command(
    "tokens",
    key="models.tokens_command",
    examples=(
        "manako models tokens Qwen/Qwen2-VL-2B-Instruct gemma-3-4b-it --image 1240x1754",
        "manako models tokens qwen2-vl-2b-instruct --image @page.png --set max_pixels=1003520",
        "manako models tokens --all --image 512x512 --image 1920x1080",
    ),
)
@click.argument("models", metavar="ID...", nargs=-1)
@option("--image", "images", metavar="SIZE|@FILE", multiple=True, key="option.tokens.image")
@option("--all", "is_all", is_flag=True, key="option.tokens.all")
@option("--set", "assignments", metavar="K=N", multiple=True, key="option.tokens.set")
@option("--strict", is_flag=True, key="option.strict")
def tokens(
    screen: Screen,
    models: tuple[str, ...],
    images: tuple[str, ...],
    is_all: bool,
    assignments: tuple[str, ...],
    strict: bool,
) -> None:
    """Say what pictures cost in models."""
    from manako.verbs.tokens import parse_settings, picture_costs

    if is_all == bool(models):
        raise InputError(
            "both models and --all are given" if models else "no model is given",
            next_step="give ids of models, or --all; `manako models list` names them",
        )
    settings = parse_settings(assignments)
    found = picture_costs(models, images or (A4_150_DPI,), settings, is_strict=strict)
    screen.result(
        [costs.as_dict() for costs in found], lambda console: _draw(console, screen, found)
    )


def _draw(console: Console, screen: Screen, found: list[Costs]) -> None:
    counted = [costs for costs in found if costs.rule]
    if counted:
        table = _table(screen, counted)
        console.print(table)
        console.print(screen.texts("tokens.what_counts"), soft_wrap=True)
    for line in _without(screen, found):
        console.print(line, soft_wrap=True)
    if counted:
        cells = (cell for column in table.columns for cell in column.cells)
        for line in footnotes(screen, cells):
            console.print(line, soft_wrap=True)


def _table(screen: Screen, counted: list[Costs]) -> Table:
    from manako.catalogue.facts import RECALLED_MARK

    table = make_table(screen, "", "models.column.id", "tokens.rule", fold="tokens.rule")
    for cost in counted[0].costs:
        for header in (cost.picture.name, screen.texts("tokens.share")):
            table.add_column(header, justify="right", no_wrap=True)
    for costs in counted:
        settings = settings_of(costs.settings)
        rule = f"{costs.rule} ({settings})" + RECALLED_MARK * costs.is_recalled
        cells = (cell for cost in costs.costs for cell in _cells(screen, costs, cost))
        table.add_row(costs.card.id, rule, *cells)
    return table


def _cells(screen: Screen, costs: Costs, cost: Cost) -> tuple[str, str]:
    """Tokens, and their share of the context."""
    from manako.catalogue.facts import RECALLED_MARK, is_recalled

    if cost.tokens is None:
        return screen.texts("tokens.refused"), ""
    count = f"{cost.tokens:,}{RECALLED_MARK * costs.is_recalled}"
    if cost.context_share is None:
        return count, ""
    is_doubtful = costs.is_recalled or is_recalled(costs.card.context)
    return (
        count,
        f"{100 * cost.context_share:.3g} %{RECALLED_MARK * is_doubtful}",
    )


def _without(screen: Screen, found: list[Costs]) -> Iterator[str]:
    """Why sizes are refused, and which models have no count."""
    refusals = {cost.refused for costs in found for cost in costs.costs if cost.refused}
    for words in sorted(refusals):
        yield screen.texts("tokens.why_refused", why=words)
    ruleless = [costs.card for costs in found if costs.rule is None]
    text_only = [card.id for card in ruleless if card.takes and not card.takes_pictures]
    unknown = [card.id for card in ruleless if card.id not in text_only]
    if text_only:
        yield screen.texts("tokens.text_only", models=", ".join(text_only))
    if unknown:
        yield screen.texts("tokens.unknown", models=", ".join(unknown))


COMMAND = tokens
