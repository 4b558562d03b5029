"""`manako view`: samples of a data set, or the report of a run."""

from __future__ import annotations

from pathlib import Path

import click

from manako.cli.command import command, option
from manako.cli.screen import Screen
from manako.core.errors import InputError


@command(
    "view",
    key="view",
    examples=(
        "manako view data/forms --model mini",
        "manako view data/forms --model mini --row 3",
        "manako view runs/quickstart",
    ),
)
@click.argument("what", metavar="DATA|RUN", type=click.Path(path_type=Path))
@option("--model", metavar="M", key="option.view.model")
@option("--row", type=click.IntRange(min=0), metavar="N", key="option.view.row")
@option("--out", type=click.Path(path_type=Path), metavar="FILE", key="option.view.out")
@option("--samples", type=click.IntRange(min=1), metavar="K", key="option.view.samples")
def view(
    screen: Screen,
    what: Path,
    model: str | None,
    row: int | None,
    out: Path | None,
    samples: int | None,
) -> None:
    """Write a page, or print one row."""
    from manako.verbs import feed

    if row is not None:
        _show_row(screen, what, row, model=model, has_page=bool(out or samples))
        return
    with screen.bar("view.bar") as bar:
        page = feed.view(
            what, lang=screen.lang, model=model, out=out, samples=samples, progress=bar
        )
    screen.result({"page": str(page)}, lambda _: screen.show("view.done", path=page))


def _show_row(screen: Screen, data: Path, row: int, *, model: str | None, has_page: bool) -> None:
    from manako.report.terminal import print_sample
    from manako.verbs import feed

    if has_page:
        raise InputError(
            "--row prints in the terminal; --out and --samples are for a page",
            next_step="leave out one or the other",
        )
    with feed.view_row(data, row, model=model) as (event, folder):
        screen.result(
            event,
            lambda console: print_sample(event, console, lang=screen.lang, folder=folder),
        )


COMMAND = view
