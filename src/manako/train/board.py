"""TensorBoard, for those who ask for it: the same numbers as `record.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import MissingDependencyError

if TYPE_CHECKING:
    from manako.core.recipe import Recipe

SCALARS = ("step", "eval")
"""Kinds of event whose numbers are drawn."""


class Board:
    """Writes events to `tensorboard/` in the run's folder; does nothing where it was not asked for.

    Raises `MissingDependencyError` where the package is not installed.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, step: int) -> None:
        self._writer: Any = None
        if "tensorboard" in recipe.report_to:
            self._writer = _open(folder / "tensorboard", step)

    def write(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Draw the numbers of one event."""
        if self._writer is None or kind not in SCALARS:
            return
        group = "train" if kind == "step" else kind
        for name, value in _numbers(fields):
            self._writer.add_scalar(f"{group}/{name}", value, fields["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _open(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "report_to: tensorboard needs the package tensorboard",
            next_step="pip install 'manako[tensorboard]', or take tensorboard out of report_to",
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)


def _numbers(fields: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = []
    for name, value in fields.items():
        inner = value if isinstance(value, Mapping) else {"": value}
        for key, number in inner.items():
            if isinstance(number, int | float) and name not in ("step", "kind"):
                found.append((f"{name}/{key}" if key else name, float(number)))
    return found
