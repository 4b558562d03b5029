"""`manako runs`: list, attach, stop."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manako.cli.command import Group, command
from manako.cli.screen import Screen
from manako.cli.tables import make_table
from manako.core.units import show_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from manako.verbs.runs import Run


@command("list", key="runs.list", examples=("manako runs list", "manako runs list --json"))
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
def list_(screen: Screen, folder: Path) -> None:
    """List the runs of a folder."""
    from manako.verbs.runs import list_runs

    runs = list_runs(folder)
    if not runs:
        screen.show("runs.none", folder=folder)
    screen.result(
        [run.as_dict() for run in runs],
        lambda console: console.print(_table(screen, runs)) if runs else None,
    )


def _table(screen: Screen, runs: list[Run]) -> Table:
    t = screen.texts
    columns = ("name", "state", "steps", "loss", "left", "updated")
    table = make_table(screen, "runs.title", *(f"runs.{column}" for column in columns))
    for run in runs:
        updated = datetime.fromtimestamp(run.updated).astimezone()
        table.add_row(
            run.name,
            t(f"runs.state.{run.state}"),
            f"{run.step:,}/{run.total_steps:,}" if run.total_steps else f"{run.step:,}",
            "" if run.loss is None else f"{run.loss:.4g}",
            "" if run.seconds_left is None else show_seconds(run.seconds_left),
            f"{updated:%Y-%m-%d %H:%M}",
        )
    return table


@command("attach", key="runs.attach", examples=("manako runs attach forms",))
@click.argument("run", metavar="RUN")
def attach(screen: Screen, run: str) -> None:
    """Watch a run until it ends; leaving it changes nothing."""
    from manako.cli.watching import finish, watch
    from manako.verbs.runs import find_run

    folder = find_run(run)
    try:
        ended = watch(screen, folder)
    except KeyboardInterrupt:
        screen.note("train.left", folder=folder)
        return
    finish(screen, ended, command=_again(folder))


@command("stop", key="runs.stop", examples=("manako runs stop forms",))
@click.argument("run", metavar="RUN")
def stop(screen: Screen, run: str) -> None:
    """Ask a run to save and stop, and wait for it."""
    from manako.cli.watching import stop
    from manako.verbs.runs import find_run, read_run

    folder = find_run(run)
    before = read_run(folder)
    after = stop(screen, folder) if before.is_alive else before
    state = screen.texts(f"runs.state.{after.state}")
    if before.is_alive:
        screen.show(
            "runs.stopped", name=after.name, step=after.step, total=after.total_steps, state=state
        )
    else:
        screen.show("runs.not_running", name=after.name, state=state)
    if screen.is_json:
        screen.print_json(after.as_dict())


def _again(folder: Path) -> str:
    return shlex.join(["manako", "train", str(folder / "recipe.yaml")])


COMMAND = Group("runs", key="runs")
COMMAND.add_command(list_)
COMMAND.add_command(attach)
COMMAND.add_command(stop)
