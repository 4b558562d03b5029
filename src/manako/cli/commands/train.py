"""`manako train`: start a run, then only watch it."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.failures import Ended
from manako.cli.screen import Screen
from manako.core.errors import ManakoError, RankError
from manako.verbs.exits import Exit, exit_of

if TYPE_CHECKING:
    from manako.core.recipe import Recipe

LINE_SECONDS = 10.0
"""How often a run in this process prints a line."""


@command(
    "train",
    key="train",
    examples=(
        "manako train recipe.yaml",
        "manako train recipe.yaml --set train.vision=frozen --set output_dir=runs/b",
    ),
)
@click.argument("recipe", type=click.Path(path_type=Path))
@option("--set", "assignments", multiple=True, metavar="K=V", key="option.set")
@option("--foreground", is_flag=True, key="option.train.foreground")
def train(screen: Screen, recipe: Path, assignments: tuple[str, ...], foreground: bool) -> None:
    """Train by a recipe; the same call goes on from where a run has stopped."""
    from manako.core.recipe import Recipe
    from manako.verbs.tune import rank_of_launcher

    loaded = Recipe.load(recipe, assignments)
    again = _command(recipe, assignments)
    rank = rank_of_launcher()
    if rank is not None:
        _train_as_rank(screen, loaded, again, rank)
    elif foreground:
        _train_here(screen, loaded, again)
    else:
        _train_apart(screen, loaded, again)


def _train_apart(screen: Screen, recipe: Recipe, again: str) -> None:
    from manako.cli.watching import finish, watch_and_stop
    from manako.verbs.tune import start_training

    folder = Path(recipe.output_dir)
    with screen.bar("model.download", model=recipe.model) as bar:
        is_new = start_training(recipe, progress=bar)
    screen.note("train.started" if is_new else "train.goes_on", folder=folder)
    finish(screen, watch_and_stop(screen, folder), command=again)


def _train_here(screen: Screen, recipe: Recipe, again: str, *, launched: bool = False) -> None:
    from manako.cli.watching import say_speed
    from manako.verbs.runs import read_run
    from manako.verbs.tune import train

    with _last_words() if launched else contextlib.nullcontext():
        outcome = train(recipe, listener=_Lines(screen))
    run = read_run(outcome.folder)
    if screen.is_json:
        screen.print_json(run.as_dict())
    if outcome.state == "stopped":
        key = "train.stopped" if outcome.checkpoint else "train.stopped_early"
        screen.show(key, step=outcome.step, total=outcome.total_steps, command=again)
        raise Ended(Exit.STOPPED)
    say_speed(screen, run)
    screen.show(
        "train.finished",
        step=outcome.step,
        checkpoint=outcome.checkpoint,
        folder=outcome.folder,
    )


def _train_as_rank(screen: Screen, recipe: Recipe, again: str, rank: int) -> None:
    """One of several processes, always in the foreground: the launcher watches it. The first
    talks; of failures the others tell only what the first may not know."""
    from manako.verbs.tune import train

    if rank == 0:
        _train_here(screen, recipe, again, launched=True)
        return
    with _last_words():
        try:
            outcome = train(recipe)
        except RankError as error:
            if error.failed_rank != 0:
                raise
            raise Ended(exit_of(error)) from error
        except ManakoError as error:  # told to the first rank, which prints it
            raise Ended(exit_of(error)) from error
    if outcome.exit_code:
        raise Ended(Exit(outcome.exit_code))


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """A launcher sends SIGTERM as soon as one rank has ended; the others still say why they end."""
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Lines:
    """Prints what a run in this process tells: its start, and a line now and then."""

    def __init__(self, screen: Screen) -> None:
        from manako.report.live import Progress

        self._screen, self._progress = screen, Progress()
        self._printed = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        from manako.cli.watching import say_setup_event, say_start_event
        from manako.report.live import plain_line
        from manako.report.texts import labels

        self._progress.take([event])
        say_start_event(self._screen, event)
        if event["kind"] in ("setup", "resumed"):
            say_setup_event(self._screen, event)
        elif event["kind"] == "step" and time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            line = plain_line(self._progress, labels(self._screen.lang))
            self._screen.people.print(line, soft_wrap=True)


def _command(recipe: Path, assignments: tuple[str, ...]) -> str:
    """The call that goes on with a run."""
    words = ["manako", "train", str(recipe)]
    for assignment in assignments:
        words += ["--set", assignment]
    return shlex.join(words)


COMMAND = train
