"""What a source names: a checkpoint, a run, an adapter, a model on the Hub, or one that ships with
Manako."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from manako.core.errors import (
    CheckpointError,
    InputError,
    ManakoError,
    MissingFileError,
    NotInThisVersion,
)
from manako.hub.models import fetch_model, origin_of

if TYPE_CHECKING:
    from manako.core.recipe import Recipe
    from manako.hub.files import Progress

SHIPPED = ("mini",)
"""Models inside the package, under `samples/`."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
OTHER_RUNTIME = re.compile(r"(ollama|lmstudio|mlx):.+|.+\.gguf", re.IGNORECASE)
STEP = re.compile(r"step-(\d+)")
CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class Named:
    """The folder of a whole model, the folder of the adapter on it, and what was decided."""

    folder: Path
    adapter: Path | None = None
    notes: tuple[str, ...] = ()


def find_model(
    source: str | Path,
    *,
    revision: str | None = None,
    adapter: str | Path | None = None,
    progress: Progress | None = None,
) -> Named:
    """Folders that `source` names; a name on the Hub (`org/name`) becomes a folder in the cache.

    progress: is told (bytes so far, bytes in all) of a download. Raises `MissingFileError` where
    there is no such folder, `NotInThisVersion` for a name of another runtime, `CheckpointError`
    for a folder that is none of what it may be, `HubError` where the Hub does not give it.
    """
    folder = _folder_of(source, revision, progress)
    notes: tuple[str, ...] = ()
    if not _is_model(folder) and not _is_adapter(folder):
        folder, notes = _newest_checkpoint(folder)
    if not _is_adapter(folder):
        own = None if adapter is None else _adapter_folder(adapter, progress)
        return Named(folder=folder, adapter=own, notes=notes)
    if adapter is not None:
        raise InputError(
            f"{source} has an adapter of its own ({folder}); two on one model are not supported",
            next_step="give the base model as the source, and one adapter",
        )
    return Named(folder=base_of(folder, progress), adapter=folder, notes=notes)


def brought(
    source: str | Path, revision: str | None = None, *, progress: Progress | None = None
) -> str | Path:
    """A name on the Hub as its folder in the cache, brought there first; anything else as it is.

    Raises `InputError` for a revision of something else, and what `fetch_model` raises.
    """
    if _is_hub_id(source):
        return _fetched(str(source), revision, progress)
    _refuse_revision(source, revision)
    return source


def with_model_folder(recipe: Recipe, progress: Progress | None = None) -> Recipe:
    """The recipe with a folder as its model, where it names one of the Hub or of Manako's own."""
    model = brought(recipe.model, recipe.model_revision, progress=progress)
    if model in SHIPPED and not Path(model).is_dir():
        model = _shipped(str(model))
    return recipe.replace(model=str(model), model_revision=None)


def with_model_name(recipe: Recipe) -> Recipe:
    """The recipe as another machine can read it: a folder of the Hub's cache is written as its name
    and commit."""
    origin = origin_of(recipe.model)
    if origin is None:
        return recipe
    return recipe.replace(model=origin[0], model_revision=origin[1])


def base_of(adapter: Path, progress: Progress | None = None) -> Path:
    """The folder of the model that an adapter was trained on."""
    from manako.nn.adapters import read_base

    path = read_base(adapter).get("path", "")
    advice = f"open the base model and give adapter={str(adapter)!r}"
    if not path or not Path(path).is_dir():
        if origin := _named_origin(path):
            return _fetched(*origin, progress)
        said = f"{path}, which is no folder here" if path else "no base model"
        raise MissingFileError(f"{adapter} names {said}", next_step=advice)
    found = find_model(path)
    if found.adapter is not None:
        raise NotInThisVersion(
            f"{adapter} was trained on {path}, which is an adapter itself",
            next_step="export that one first, and train on the export",
        )
    return found.folder


def _named_origin(path: str) -> tuple[str, str | None] | None:
    """Name and commit of a base on the Hub: a cache of another machine says both, PEFT the name."""
    return origin_of(path) or ((path, None) if HUB_ID.fullmatch(path) else None)


def _folder_of(source: str | Path, revision: str | None, progress: Progress | None) -> Path:
    source = brought(source, revision, progress=progress)
    path = Path(source)
    if path.is_dir():
        return path
    if OTHER_RUNTIME.fullmatch(str(source)):
        raise NotInThisVersion(
            f"{source}: other runtimes are not in this version",
            next_step="give a folder with config.json, tokenizer.json and *.safetensors",
        )
    if path.exists():
        raise CheckpointError(
            f"{path} is a file, no checkpoint folder",
            next_step="give the folder that holds config.json, tokenizer.json and *.safetensors",
        )
    if isinstance(source, str) and source in SHIPPED:
        return _shipped(source)
    raise MissingFileError(
        f"no such folder: {source}",
        next_step="give a checkpoint folder, a run folder, a name on the Hub (org/name), or one "
        f"of: {', '.join(SHIPPED)}",
    )


def _is_hub_id(source: str | Path) -> bool:
    """Whether it can only be a name on the Hub: what is there as a file or folder is that."""
    return (
        isinstance(source, str)
        and HUB_ID.fullmatch(source) is not None
        and OTHER_RUNTIME.fullmatch(source) is None
        and not Path(source).exists()
    )


def _refuse_revision(source: str | Path, revision: str | None) -> None:
    if revision is not None:
        raise InputError(
            f"revision {revision!r}: {source} is no name on the Hub (org/name)",
            next_step="leave the revision out",
        )


def _fetched(repo_id: str, revision: str | None, progress: Progress | None) -> Path:
    """The model of the Hub as a folder; one that no family knows is refused before its weights."""
    from manako.core.family import family_of

    def check(folder: Path) -> Sequence[str]:
        return () if _is_adapter(folder) else family_of(folder).part_folders

    return fetch_model(repo_id, revision, check=check, progress=progress)


def _shipped(name: str) -> Path:
    folder = Path(str(files("manako.samples"))) / name
    if not _is_model(folder):
        raise MissingFileError(
            f"the model {name!r} does not lie in this installation ({folder})",
            next_step="in a clone of Manako, `make mini` trains it; `manako quickstart` trains a "
            "similar one in minutes",
        )
    return folder


def _newest_checkpoint(run: Path) -> tuple[Path, tuple[str, ...]]:
    """The newest checkpoint of a run that is whole, and which newer ones are not."""
    inside = run if run.name == CHECKPOINTS else run / CHECKPOINTS
    if not inside.is_dir():
        raise CheckpointError(
            f"{run} is no checkpoint (no {CONFIG}), no adapter (no {ADAPTER_CONFIG}) and no run "
            f"(no {CHECKPOINTS}/)",
            next_step="give the folder that holds config.json, tokenizer.json and *.safetensors",
        )
    notes: list[str] = []
    for _, folder in sorted(_steps(inside), reverse=True):
        trouble = _trouble(folder)
        if trouble is None:
            return folder, tuple(notes)
        notes.append(f"{folder.name} was passed over: {trouble}")
    raise CheckpointError(
        f"{run} has no usable checkpoint yet" + "".join(f"; {note}" for note in notes),
        next_step="train on until one is saved (`save_steps` of the recipe)",
    )


def _steps(checkpoints: Path) -> list[tuple[int, Path]]:
    matches = [(STEP.fullmatch(path.name), path) for path in checkpoints.iterdir() if path.is_dir()]
    return [(int(match[1]), path) for match, path in matches if match]


def _trouble(folder: Path) -> str | None:
    from manako.nn.adapters import ADAPTER
    from manako.nn.checkpoint import check_weight_files, read_tensors

    try:
        if _is_adapter(folder):
            read_tensors(folder / ADAPTER)
        else:
            check_weight_files(folder)
    except ManakoError as error:
        return error.message
    return None if _is_model(folder) or _is_adapter(folder) else f"it has no {CONFIG}"


def _adapter_folder(adapter: str | Path, progress: Progress | None) -> Path:
    folder = _fetched(str(adapter), None, progress) if _is_hub_id(adapter) else Path(adapter)
    if not folder.is_dir():
        raise MissingFileError(f"no such adapter folder: {adapter}")
    if _is_adapter(folder):
        return folder
    found, _ = _newest_checkpoint(folder)
    if not _is_adapter(found):
        raise CheckpointError(
            f"{adapter} holds whole models, no adapter", next_step="open it without `adapter`"
        )
    return found


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and not _is_adapter(folder)


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()
