"""Checkpoint folders: weights in, weights out, safetensors only.

`transformers` reads and writes the published layout, old key names included, and so do our own
classes; what it would only warn about (weights that are missing, left over or of another shape) is an error here, because a
model with random weights in a corner trains and answers without complaint.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.errors import CheckpointError, MissingFileError, NotInThisVersion
from manako.core.family import PARTS, families
from manako.core.files import read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from manako.core.family import Family, PartName

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
MAX_SHARD_SIZE = "5GB"
SHOWN_KEYS = 10
SAMPLE_BYTES = 1 << 16
SAMPLES = 64
IO_ERROR = re.compile(r"os error (\d+)")
WRONG_WEIGHTS = "take config.json and the weights from the same revision of the model"

ADAPTERS_INSIDE = (
    "the weights hold adapters of their own; take a revision that keeps them in a folder of their "
    "own, and load that as an adapter"
)


def load_model(
    folder: Path,
    family: Family,
    *,
    dtype: torch.dtype | str = "float32",
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """The model of a checkpoint folder, in evaluation mode, on `device`.

    Raises `CheckpointError` when the folder is none, when its weights are missing or corrupt, or
    when they and config.json name different tensors; the tensors are listed.
    """
    from manako.nn.patches import look_both_ways, tell_clips_apart

    check_weight_files(folder)
    with _load_errors(folder):
        config = read_model_config(folder, family)
    with _quiet(), _load_errors(folder), _unstacked_errors(folder, family):
        model, found = model_class(family).from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # or it stops at the first; all are listed below
            output_loading_info=True,
        )
        if found["mismatched_keys"]:
            _refuse_unstacked(folder, family)
    _check_loading(folder, found)
    look_both_ways(model, family)
    tell_clips_apart(model)
    return model.to(device)  # type: ignore[no-any-return]


def build_empty(source: Path | Mapping[str, Any], family: Family) -> PreTrainedModel:
    """The model that a folder's config.json (or the same as a mapping) describes, on the `meta`
    device: shapes and names, no memory. Raises `CheckpointError` for a config that builds none."""
    import torch

    with torch.device("meta"), _load_errors(source if isinstance(source, Path) else "config"):
        config = read_model_config(source, family)
        return model_class(family)._from_config(config)  # type: ignore[no-any-return]


def save_model(
    model: PreTrainedModel,
    family: Family,
    folder: Path,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write config.json, generation_config.json and safetensors into `folder`, published layout.

    weights: by the model's own names, where the model does not hold them whole.
    Not atomic by itself: call it inside `core.files.atomic_folder`. Raises `OSError` when the disk
    is full.
    """
    generation = model.generation_config
    model.generation_config = _plain_generation()
    try:
        with _quiet(), write_errors(folder):
            model.save_pretrained(
                str(folder),
                state_dict=None if weights is None else dict(weights),
                max_shard_size=MAX_SHARD_SIZE,
            )
    finally:
        model.generation_config = generation
    if generation is not None:
        file = family.text_folder(folder) / "generation_config.json"
        generation.to_json_file(str(file))


def count_parameters(model: torch.nn.Module, family: Family) -> dict[PartName, int]:
    """Parameters per part; a tensor that two modules share counts once."""
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        counts[family.part_of(name)] += parameter.numel()
    return counts


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU. Raises `CheckpointError` when it is corrupt."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise MissingFileError(f"no such file: {file}")
    try:
        return load_file(str(file))
    except SafetensorError as error:
        raise _corrupt(file, error) from error


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file. Raises `OSError` when the disk is full."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with write_errors(file):
        save_file(whole, str(file), metadata={"format": "pt", **(metadata or {})})


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder, or of its part folders, in order of name.

    Raises `CheckpointError` when there are none, or one that the index names is missing.
    """
    if parts := _part_folders(folder):
        return [file for part in parts for file in weight_files(part)]
    if (folder / WEIGHTS_INDEX).is_file():
        names = read_json(folder / WEIGHTS_INDEX).get("weight_map", {}).values()
        files = [folder / name for name in sorted(set(names))]
    else:
        files = [folder / WEIGHTS]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise CheckpointError(
            f"{folder} has no weights: {listed(missing or [WEIGHTS])} missing",
            next_step=_advice(folder),
        )
    return files


def _part_folders(folder: Path) -> list[Path]:
    """Where the weights lie in folders, one for each part; none where they lie in `folder`."""
    is_flat = (folder / WEIGHTS).is_file() or (folder / WEIGHTS_INDEX).is_file()
    if is_flat or not (folder / "config.json").is_file():
        return []
    named = (f.part_folders for f in _families_of(folder) if f.has_part_folders(folder))
    return [folder / name for name in next(named, ())]


def _families_of(folder: Path) -> list[Family]:
    """Families of the model_type of config.json, whether or not they take the checkpoint."""
    if not (folder / "config.json").is_file():
        return []
    kind = read_json(folder / "config.json").get("model_type")
    return [family for family in families().items.values() if kind in family.model_types]


def check_weight_files(folder: Path) -> None:
    """Raise `CheckpointError` unless `folder` holds a config and readable weights."""
    from safetensors import SafetensorError, safe_open

    if not folder.is_dir():
        raise MissingFileError(f"no such checkpoint folder: {folder}")
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds an adapter, not a whole model",
            next_step="load the base model and put the adapter on it",
        )
    for file in weight_files(folder):
        try:
            with safe_open(str(file), framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise _corrupt(file, error) from error


def stored_dtype(folder: Path) -> str:
    """The dtype of all weights in a folder as `torch` names it; `float32` where they differ."""
    from safetensors import safe_open

    found = set()
    for file in weight_files(folder):
        with safe_open(str(file), framework="np") as opened:
            found |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    return "bfloat16" if found == {"BF16"} else "float32"


def fingerprint(folder: Path) -> str:
    """A hash of which weights a folder holds: names, shapes, sizes, and 64 samples of each file.

    Cheap for a 100 GB checkpoint, and different for any two trainings of one architecture; it
    does not replace a full checksum.
    """
    digest = hashlib.sha256()
    for file in weight_files(folder):
        size_bytes = file.stat().st_size
        digest.update(f"{file.name} {size_bytes}\n".encode())
        stride = max(size_bytes // SAMPLES, SAMPLE_BYTES)
        with file.open("rb") as opened:
            for place in range(0, size_bytes, stride):
                opened.seek(place)
                digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()


def read_model_config(source: Path | Mapping[str, Any], family: Family) -> Any:
    """The `transformers` config of a folder or mapping, with nothing in it that would run code."""
    found = family.read_config(source) if isinstance(source, Path) else source
    if found.get("quantization_config"):
        raise NotInThisVersion(
            f"{source}: quantised weights are not in this version",
            next_step="take the unquantised checkpoint of the model",
        )
    config = model_class(family).config_class.from_dict(copy.deepcopy(dict(found)))
    config._attn_implementation = None  # a name in a file could fetch a kernel from elsewhere
    return config


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """safetensors reports a full disk as an error of its own; make it the `OSError` it is."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = IO_ERROR.search(str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def listed(keys: Iterable[object]) -> str:
    """Names in order, at most ten of them, and how many more there are."""
    names = sorted(str(key) for key in keys)
    rest = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + rest


def model_class(family: Family) -> Any:
    """The class that holds the family's weights; importing it registers it with the Auto classes."""
    return getattr(importlib.import_module(family.model_module), family.model_class)


def _check_loading(folder: Path, found: Mapping[str, Any]) -> None:
    wrong = {
        "missing": found["missing_keys"],
        "unexpected": found["unexpected_keys"],
        "of another shape": [
            f"{entry[0]} {tuple(entry[1])} for {tuple(entry[2])}"
            for entry in found["mismatched_keys"]
        ],
    }
    said = [f"{len(keys)} {what}: {listed(keys)}" for what, keys in wrong.items() if keys]
    if said or found["error_msgs"]:
        has_adapters = any(".lora_" in key for key in found["unexpected_keys"])
        raise CheckpointError(
            f"{folder}: weights and config.json do not fit; "
            + "; ".join([*said, *found["error_msgs"]]),
            next_step=ADAPTERS_INSIDE if has_adapters else WRONG_WEIGHTS,
        )


@contextlib.contextmanager
def _unstacked_errors(folder: Path, family: Family) -> Iterator[None]:
    """Experts of unequal number cannot be stacked, and `transformers` does not say which is missing."""
    try:
        yield
    except RuntimeError:
        _refuse_unstacked(folder, family)
        raise


def _refuse_unstacked(folder: Path, family: Family) -> None:
    """Raise `CheckpointError` where no file has a tensor that is stacked with others when it is
    read. Asked where loading has failed: of such tensors `transformers` names the whole alone."""
    from safetensors import safe_open
    from transformers.core_model_loading import revert_weight_conversion

    if family.model_module == "transformers":
        return
    model = build_empty(folder, family)
    names = model.state_dict()
    published = set(revert_weight_conversion(model, names)) - set(names)
    for file in weight_files(folder):
        with safe_open(str(file), framework="np") as opened:
            published -= set(opened.keys())
    if published:
        raise CheckpointError(
            f"{folder}: weights and config.json do not fit; "
            f"{len(published)} missing: {listed(sorted(published))}",
            next_step=WRONG_WEIGHTS,
        )


@contextlib.contextmanager
def _load_errors(source: object) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(
            f"{source}: corrupt weights: {error}", next_step=WRONG_WEIGHTS
        ) from error
    except (ValueError, TypeError, KeyError, RuntimeError, OSError) as error:
        if isinstance(error, CheckpointError | NotInThisVersion | MissingFileError):
            raise
        raise CheckpointError(
            f"{source} describes no model that can be built: {error}", next_step=WRONG_WEIGHTS
        ) from error


def _plain_generation() -> Any:
    """Stands in while `transformers` saves: a published one may not pass its own checks."""
    from transformers import GenerationConfig

    return GenerationConfig()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no tables from `transformers`: what they would say is raised or recorded."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _advice(folder: Path) -> str:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return "pickled weights are never read; take a revision with *.safetensors, or convert it"
    parts = {f"{name}/" for family in _families_of(folder) for name in family.part_folders}
    weights = " or ".join(["the *.safetensors files", ", ".join(sorted(parts))][: 1 + bool(parts)])
    code = sorted(path.name for path in folder.glob("*.py"))
    never = f" ({listed(code)} is code, which is never run)" if code else ""
    return f"copy {weights} of the model into the folder{never}"


def _corrupt(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} is corrupt or cut short: {error}", next_step="copy or download the file again"
    )
