"""Exports: a trained model as files that other tools open, checked against the original.

One file per target; each exports `TARGET`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manako.core.discovery import Found, discover
from manako.core.errors import NotInThisVersion
from manako.export._report import ExportReport

__all__ = ["ExportReport", "export", "targets"]


def targets() -> Found:
    """All targets, by file name."""
    return discover("manako.export", "TARGET")


def export(
    source: str | Path, out: Path, *, to: str = "safetensors", **options: Any
) -> ExportReport:
    """Export a run, an adapter or a checkpoint folder to `out` in the form named by `to`.

    Raises `NotInThisVersion` for a form that is not built; else as the target does.
    """
    found = targets()
    if to not in found.items:
        broken = "".join(f"; {name} is broken: {why}" for name, why in found.broken.items())
        raise NotInThisVersion(
            f"export to {to!r} is not in this version (known: {', '.join(found.items)}){broken}"
        )
    return found.items[to].export(source, out, **options)  # type: ignore[no-any-return]
