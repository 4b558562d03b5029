"""Export: trained weights in a form that other tools open, compared with the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manako.export._report import ExportReport


def export(
    source: str | Path, out: Path, *, to: str = "safetensors", **options: Any
) -> ExportReport:
    """Export a run, an adapter or a checkpoint; as `manako.export.export`."""
    from manako.export import export

    return export(source, out, to=to, **options)


def target_names() -> list[str]:
    """Forms that `export` writes."""
    from manako.export import targets

    return sorted(targets().items)
