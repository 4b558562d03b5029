"""`manako export`: trained weights for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manako.cli.command import command, option
from manako.cli.screen import Screen

if TYPE_CHECKING:
    from rich.console import Console

    from manako.export._report import ExportReport


def _targets() -> dict[str, str]:
    from manako.verbs.export import target_names

    return {"targets": ", ".join(target_names())}


@command(
    "export",
    key="export",
    examples=("manako export runs/forms --to safetensors --out models/forms",),
)
@click.argument("run", metavar="RUN")
@option("--to", required=True, metavar="FORMAT", key="option.export.to", values=_targets)
@option("--out", type=click.Path(path_type=Path), required=True, key="option.export.out")
def export(screen: Screen, run: str, to: str, out: Path) -> None:
    """Export a run and say how well it agrees with what it came from."""
    from manako.report.tables import facts_tables
    from manako.verbs.export import export

    with screen.working("export.working"):
        report = export(run, out, to=to)

    def draw(console: Console) -> None:
        for table in facts_tables(screen.texts("export.title"), _facts(report), lang=screen.lang):
            console.print(table.rich())
        screen.show("export.done", out=out)

    screen.result(report.as_dict(), draw)


def _facts(report: ExportReport) -> dict[str, Any]:
    """What was compared, and how many files came of it."""
    found = report.as_dict()
    return {**found, "files": len(report.files), "total_bytes": report.bytes}


COMMAND = export
