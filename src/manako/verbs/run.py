"""Run: open a model and ask it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from manako.core.errors import NotInThisVersion

if TYPE_CHECKING:
    from manako.infer.open import Model


def load(
    source: str | Path, revision: str | None = None, adapter: str | Path | None = None
) -> Model:
    """Open a model: a checkpoint folder, the folder of a run, or a name that ships with Manako.

    `adapter` is a folder with adapter weights for the model. Raises `MissingFileError` when there
    is no such folder, `CheckpointError` when it is no checkpoint of a known family, `AdapterError`
    when the adapter does not fit.
    """
    if revision is not None:
        raise NotInThisVersion(
            f"revision {revision!r}: models from the Hub are not in this version",
            next_step="download the revision and give its folder",
        )
    from manako.infer.open import open_model

    return open_model(source, adapter=adapter)
