"""`manako doctor`: what works on this machine, tried; and whether a job fits it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from manako.cli.command import command, option
from manako.cli.failures import Ended
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.errors import InputError
from manako.verbs.exits import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from manako.plan.job import Method
    from manako.verbs.doctor import Checkup

METHODS = ("full", "lora", "qlora", "run")
STYLES = {"works": "green", "does not": "red"}
"""By state; every other state is no error, and dim."""


@command(
    "doctor",
    key="doctor",
    examples=(
        "manako doctor",
        "manako doctor bf16 ollama --json",
        "manako doctor --matrix --strict",
        "manako doctor --model Qwen2-VL-7B-Instruct --method lora",
    ),
)
@click.argument("names", metavar="[PROBE]...", nargs=-1)
@option("--matrix", "is_matrix", is_flag=True, key="option.doctor.matrix")
@option("--model", metavar="ID", default="", key="option.doctor.model")
@option("--method", type=click.Choice(METHODS), key="option.doctor.method")
@option("--strict", is_flag=True, key="option.strict")
def doctor(
    screen: Screen,
    names: tuple[str, ...],
    is_matrix: bool,
    model: str,
    method: Method | None,
    strict: bool,
) -> None:
    """Try this machine, print the table of accelerators, or weigh one job."""
    _check_call(names, is_matrix, model, method, strict)
    if is_matrix:
        _show_matrix(screen, strict)
    elif model:
        _weigh(screen, model, method or "run", strict)
    else:
        _examine(screen, names)


def _check_call(
    names: tuple[str, ...], is_matrix: bool, model: str, method: Method | None, strict: bool
) -> None:
    """Raises `InputError` for words that belong to two different questions."""
    asked = {"PROBE": bool(names), "--matrix": is_matrix, "--model": bool(model)}
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are two questions", next_step="ask one of them")
    if method and not model:
        raise InputError("--method says what a model is for", next_step="add --model ID")
    if strict and not (is_matrix or model):
        raise InputError(
            "--strict leaves out recalled figures, and what is tried here is none",
            next_step="leave it out, or add --matrix",
        )


def _examine(screen: Screen, names: tuple[str, ...]) -> None:
    from manako.verbs.doctor import check

    started = time.monotonic()
    with screen.bar("doctor.working") as bar:
        found = check(names, bar)
    seconds = time.monotonic() - started
    screen.result(
        {**found.as_dict(), "seconds": round(seconds, 1)},
        lambda console: console.print(*_drawn(screen, found, seconds), sep="\n"),
    )
    if found.broken:
        raise Ended(Exit.FAILED)


def _drawn(screen: Screen, found: Checkup, seconds: float) -> Iterator[RenderableType]:
    t = screen.texts
    yield _table(screen, found)
    states = ", ".join(f"{t(f'doctor.state.{state}')} {n}" for state, n in found.counts.items())
    yield t("doctor.count", count=len(found.findings), states=states, seconds=seconds)
    if found.broken:
        names = ", ".join(found.known[one.probe].title.in_(screen.lang) for one in found.broken)
        yield t("doctor.broken", names=names)
    elif len(found.findings) == len(found.known):
        yield t("doctor.well")


def _table(screen: Screen, found: Checkup) -> Table:
    from rich.text import Text

    columns = ("doctor.probe", "doctor.state", "doctor.why")
    table = make_table(screen, "", *columns, fold="doctor.why")
    group = ""
    for one in found.findings:
        probe = found.known[one.probe]
        if probe.group != group:
            group = probe.group
            table.add_section()
            table.add_row(Text(screen.texts(f"doctor.group.{group}"), style="bold"))
        style = STYLES.get(one.state, "dim")
        state = Text(screen.texts(f"doctor.state.{one.state}"), style=style)
        why = one.why.in_(screen.lang)
        mends = screen.texts("doctor.mends", line=one.mends) if one.mends else ""
        words = "\n".join(line for line in (why, mends) if line)
        table.add_row(f"  {probe.title.in_(screen.lang)}", state, words)
    return table


def _show_matrix(screen: Screen, strict: bool) -> None:
    from manako.catalogue.facts import with_sources
    from manako.cli.matrix import drawn
    from manako.verbs.doctor import rows

    found = rows(is_strict=strict)
    screen.result(
        with_sources(found), lambda console: console.print(*drawn(screen, found), sep="\n")
    )


def _weigh(screen: Screen, model: str, method: Method, strict: bool) -> None:
    from manako.cli.fits import drawn
    from manako.verbs.choose import this_machine
    from manako.verbs.doctor import advise

    with screen.working("doctor.working"):
        budget = this_machine()
    found = advise(model, method, budget, is_strict=strict)
    screen.result(found.as_dict(), lambda console: console.print(*drawn(screen, found), sep="\n"))


COMMAND = doctor
