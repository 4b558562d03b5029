"""`manako plan`: what a recipe will need, as three tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manako.cli.command import command, option
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manako.plan.plan import Plan

TERMS = (
    "weights",
    "adapters",
    "casts",
    "gradients",
    "optimizer",
    "activations_vision",
    "activations_projector",
    "activations_language",
    "recomputed",
    "logits",
    "inputs",
)


@command(
    "plan",
    key="plan",
    examples=("manako plan recipe.yaml", "manako plan recipe.yaml --no-measure --json"),
)
@click.argument("recipe", type=click.Path(path_type=Path))
@option("--set", "assignments", multiple=True, metavar="K=V", key="option.set")
@option("--measure/--no-measure", default=True, key="option.plan.measure")
def plan(screen: Screen, recipe: Path, assignments: tuple[str, ...], measure: bool) -> None:
    """Plan a recipe; measure three steps unless told otherwise."""
    from manako.core.recipe import Recipe
    from manako.verbs.plan import look

    loaded = Recipe.load(recipe, assignments)
    with screen.working("plan.working"):
        outlook = look(loaded)
    if measure:
        with screen.working("plan.measuring"):
            outlook = outlook.measured()
    found = outlook.plan
    screen.result(found.as_dict(), lambda console: draw(console, found, screen))


def draw(console: Console, plan: Plan, screen: Screen) -> None:
    """The plan as tables: what is trained, memory by what it is for, and the run."""
    console.print(_parts(plan, screen), _memory(plan, screen), _run(plan, screen))


def _parts(plan: Plan, screen: Screen) -> Table:
    t, figures = screen.texts, ("plan.parameters", "plan.trained")
    table = make_table(screen, "plan.parts", "plan.part", "plan.how", *figures, right=figures)
    for name, part in plan.parts.items():
        whole = part.parameters + part.adapter_parameters
        table.add_row(t(f"part.{name}"), t(f"how.{part.how}"), f"{whole:,}", f"{part.trained:,}")
    table.add_row(t("plan.total"), "", f"{plan.total_parameters:,}", f"{plan.trained_parameters:,}")
    return table


def _memory(plan: Plan, screen: Screen) -> Table:
    t, memory = screen.texts, plan.memory
    table = make_table(screen, "plan.memory", "plan.term", "plan.bytes", right=("plan.bytes",))
    for term in TERMS:
        if size := getattr(memory, term):
            table.add_row(t(f"plan.memory.{term}"), show_bytes(size))
    table.add_row(t("plan.memory.total"), show_bytes(memory.total), style="bold")
    low, high = plan.process_range
    table.add_row(t("plan.memory.process"), f"{show_bytes(low)} – {show_bytes(high)}")
    if plan.measured and plan.measured.peak_memory_bytes:
        key = "process" if plan.measured.memory_is_process else "tensors"
        words = t(f"plan.memory.measured_{key}")
        table.add_row(words, show_bytes(plan.measured.peak_memory_bytes), style="bold")
    return table


def _run(plan: Plan, screen: Screen) -> Table:
    table = make_table(screen, "plan.run", "plan.item", "plan.value", right=("plan.value",))
    for key, value in _run_rows(plan, screen):
        table.add_row(screen.texts(key), value)
    return table


def _run_rows(plan: Plan, screen: Screen) -> Iterator[tuple[str, str]]:
    t = screen.texts
    steps = f"{plan.steps:,}" if plan.is_counted else t("plan.steps.estimated", steps=plan.steps)
    yield "plan.steps", steps
    yield (
        "plan.tokens",
        t(
            "plan.tokens.value",
            tokens=plan.tokens_per_step,
            trained=plan.trained_tokens_per_step,
        ),
    )
    yield "plan.rows", f"{plan.rows_per_step:,.1f}"
    yield "plan.fill", f"{100 * plan.packs.fill:.1f}%"
    yield (
        "plan.data",
        t(
            "plan.data.value",
            rows=plan.data_rows,
            sampled=plan.looked_at_rows,
            refused=plan.refused_rows,
            long=plan.too_long_rows,
        ),
    )
    if plan.measured and plan.seconds is not None:
        yield "plan.step_seconds", show_seconds(plan.measured.seconds)
        yield "plan.seconds", show_seconds(plan.seconds)
    yield "plan.checkpoint", show_bytes(plan.checkpoint_bytes)
    yield "plan.disk", show_bytes(plan.disk_bytes)


COMMAND = plan
