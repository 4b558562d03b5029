"""Weights of a model whose parts lie in folders of their own, or in one flat set: read and written.

A tensor of the file `llm/model.safetensors` is called `llm.` and what it is called there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manako.core.family import FLAT_WEIGHTS
from manako.nn.checkpoint import WEIGHTS_INDEX, read_tensors, weight_files, write_tensors

if TYPE_CHECKING:
    from torch import Tensor


def part_of_name(name: str) -> str:
    """The part that a tensor's name begins with."""
    return name.partition(".")[0]


def has_folders(folder: Path, parts: Sequence[str]) -> bool:
    """Whether the weights of a checkpoint lie in part folders."""
    is_flat = any((folder / name).is_file() for name in FLAT_WEIGHTS)
    return not is_flat and any((folder / part).is_dir() for part in parts)


def read_weights(folder: Path, parts: Sequence[str]) -> dict[str, Tensor]:
    """All tensors, mapped from the files and not copied. Raises `CheckpointError` where files are
    missing or corrupt."""
    if not has_folders(folder, parts):
        return {n: t for file in weight_files(folder) for n, t in read_tensors(file).items()}
    return {
        f"{part}.{name}": tensor
        for part in parts
        for file in weight_files(folder / part)
        for name, tensor in read_tensors(file).items()
    }


def write_parts(
    folder: Path, weights: Mapping[str, Tensor], parts: Sequence[str], max_shard_size: int | str
) -> None:
    """Each part's weights into its folder, without the part's name."""
    for part in parts:
        own = {n: t for n, t in weights.items() if part_of_name(n) == part}
        write_weights(
            folder / part, {n.removeprefix(f"{part}."): t for n, t in own.items()}, max_shard_size
        )


def write_weights(folder: Path, weights: Mapping[str, Tensor], max_shard_size: int | str) -> None:
    """As one file, or as shards with an index."""
    from huggingface_hub import split_torch_state_dict_into_shards

    split = split_torch_state_dict_into_shards(
        dict(weights), max_shard_size=max_shard_size, filename_pattern="model{suffix}.safetensors"
    )
    for name, held in split.filename_to_tensors.items():
        write_tensors(folder / name, {tensor: weights[tensor] for tensor in held})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / WEIGHTS_INDEX).write_text(text, encoding="utf-8")
