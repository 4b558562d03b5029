"""Tensors of which each rank holds some rows, in files: torch's distributed checkpoint, safetensors.

Every rank writes a file of its own, whose header says where its rows begin; whoever reads takes the
rows it wants from whichever files hold them, so any number of ranks may go on. `no_dist` throughout:
the ranks' plans would otherwise be exchanged as pickles, and by default torch writes one beside the
files. Here each rank plans for itself, and the reader finds everything in the headers.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from manako.core.errors import CheckpointError
from manako.nn.checkpoint import write_errors


def write_shard(folder: Path, tensors: Mapping[str, Tensor], *, rank: int) -> None:
    """Write what this rank holds of `tensors` into a file of its own in `folder`."""
    folder.mkdir(exist_ok=True)
    with _alone(), write_errors(folder):
        save(
            dict(sorted(tensors.items())),  # so that equal state makes equal files
            storage_writer=_Writer(folder, rank),
            planner=_OwnRows(),
            no_dist=True,
        )


def read_shards(files: Sequence[Path], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of these files. State called `parameter name` + `.` + `state name` is read by
    rows where its parameter is in rows; everything else whole, on the CPU.

    Raises `CheckpointError` where a file is corrupt, or one is missing.
    """
    reader = _Reader(files)
    try:
        found = reader.read_metadata().state_dict_metadata
    except SafetensorError as error:
        raise CheckpointError(
            f"{files[0].parent}: corrupt or cut short: {error}",
            next_step="delete the checkpoint to go on from the one before it",
        ) from error
    state = {
        name: _room(name, info, parameters.get(name.rpartition(".")[0]), files)
        for name, info in found.items()
    }
    with _alone():
        load(state, storage_reader=reader, planner=DefaultLoadPlanner(), no_dist=True)
    return state


def _room(name: str, info: Any, parameter: Tensor | None, files: Sequence[Path]) -> Tensor:
    assert isinstance(info, TensorStorageMetadata)
    held = {tuple(chunk.offsets): chunk.sizes.numel() for chunk in info.chunks}
    if sum(held.values()) != info.size.numel():
        raise CheckpointError(
            f"{name} is not whole in {files[0].parent}: a rank's file is missing",
            next_step="delete the checkpoint to go on from the one before it",
        )
    dtype = info.properties.dtype
    if parameter is not None and parameter.shape == info.size and info.size:
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    return torch.empty(info.size, dtype=dtype)


class _OwnRows(DefaultSavePlanner):
    """Plans for one rank: that the others hold the other rows is not its business."""

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        return all_plans, Metadata({})


class _Writer(HuggingFaceStorageWriter):
    """Calls its file by the rank."""

    def __init__(self, folder: Path, rank: int) -> None:
        super().__init__(str(folder), save_distributed=True)
        self._rank = rank

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [replace(plan, storage_data={"shard_index": self._rank + 1}) for plan in plans]


class _Reader(HuggingFaceStorageReader):
    """Reads these files, and no others that lie beside them."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(str(files[0].parent))
        self.fs = _Listing(files)


class _Listing(FileSystem):
    """A file system that lists these files wherever it is asked."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [str(file) for file in files]

    def ls(self, path: str | os.PathLike[str]) -> list[str]:
        return self._files


@contextmanager
def _alone() -> Iterator[None]:
    """Without torch's remark that nothing is exchanged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
