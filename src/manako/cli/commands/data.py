"""`manako data convert` and `manako data census`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from manako.cli.command import Group, command, option
from manako.cli.screen import Screen
from manako.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from manako.data.convert import ConvertReport


def _formats() -> dict[str, str]:
    from manako.verbs.feed import format_names

    return {"formats": ", ".join(format_names())}


@command("convert", key="data.convert", examples=("manako data convert forms/ --out data/forms",))
@click.argument("src", type=click.Path(path_type=Path))
@option("--out", type=click.Path(path_type=Path), required=True, key="option.convert.out")
@option("--format", "format_name", metavar="F", key="option.convert.format", values=_formats)
@option("--images", type=click.Path(path_type=Path), key="option.convert.images")
def convert(
    screen: Screen, src: Path, out: Path, format_name: str | None, images: Path | None
) -> None:
    """Convert a source and say what became of its rows."""
    from manako.verbs import feed

    with screen.bar("convert.bar") as bar:
        report = feed.convert(
            src,
            out,
            format=format_name,
            images=images,
            progress=lambda _, share: bar(share, 1.0),
        )
    screen.result(report.as_dict(), lambda _: _tell(screen, report))


def _tell(screen: Screen, report: ConvertReport) -> None:
    screen.show(
        "convert.done",
        rows=report.rows,
        images=report.images,
        out=report.out,
        size=show_bytes(report.bytes),
        seconds=show_seconds(report.seconds),
    )
    if report.dropped:
        screen.show(
            "convert.dropped",
            dropped=report.dropped,
            reasons=", ".join(f"{reason} {count}" for reason, count in report.by_reason.items()),
            file=report.out / "dropped.parquet",
        )
    if report.left_out:
        screen.show(
            "convert.left_out", count=len(report.left_out), file=next(iter(report.left_out))
        )
    screen.show("convert.next", command=f"manako view {report.out}")


@command("census", key="data.census", examples=("manako data census data/forms --json",))
@click.argument("dir", type=click.Path(path_type=Path))
@option("--model", metavar="M", key="option.census.model")
def census(screen: Screen, dir: Path, model: str | None) -> None:
    """Count a data set."""
    from manako.report.tables import census_tables
    from manako.verbs import feed

    if model is None:
        with screen.working("census.working"):
            found = feed.census(dir).as_dict()
    else:
        with screen.bar("census.bar") as bar:
            found = feed.census(dir, model=model, progress=bar).as_dict()
    tables = census_tables(found, lang=screen.lang)
    screen.result(found, lambda console: console.print(*(table.rich() for table in tables)))


COMMAND = Group("data", key="data")
COMMAND.add_command(convert)
COMMAND.add_command(census)
