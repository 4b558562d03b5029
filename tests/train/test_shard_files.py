"""Files of which each holds some rows: whole again for whoever reads, and never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from manako.core.errors import CheckpointError
from manako.train.shard_files import read_shards, write_shard


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Of this process alone."""
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def write_rows(file: Path, name: str, rows: torch.Tensor, first: int) -> Path:
    """A file as one of several ranks writes it."""
    offsets = {name: {"saved_offsets": [first, *[0] * (rows.ndim - 1)]}}
    file.parent.mkdir(exist_ok=True)
    save_file({name: rows}, file, metadata={"DCP_SHARDING_INFO": json.dumps(offsets)})
    return file


def test_rows_of_several_files_are_one_tensor(tmp_path: Path) -> None:
    whole = torch.randn(5, 3)
    files = [
        write_rows(tmp_path / "a.safetensors", "w.exp_avg", whole[:3].clone(), 0),
        write_rows(tmp_path / "b.safetensors", "w.exp_avg", whole[3:].clone(), 3),
    ]
    assert torch.equal(read_shards(files, {})["w.exp_avg"], whole)
    with pytest.raises(CheckpointError, match="a rank's file is missing"):
        read_shards(files[1:], {})


def test_what_is_written_is_read_by_rows_and_whole(tmp_path: Path, mesh: DeviceMesh) -> None:
    whole = torch.randn(4, 3)
    shared = DTensor.from_local(whole.clone(), mesh, [Shard(0)])
    state = {"w.exp_avg": shared, "w.step": torch.tensor(7.0)}
    write_shard(tmp_path / "optimizer", state, rank=1)
    files = list((tmp_path / "optimizer").iterdir())
    assert [file.name for file in files] == ["shard-00002-model-00001-of-00001.safetensors"]
    rows = read_shards(files, {"w": shared})
    assert isinstance(rows["w.exp_avg"], DTensor)
    assert torch.equal(rows["w.exp_avg"].to_local(), whole)
    assert rows["w.step"] == 7.0
    assert torch.equal(read_shards(files, {})["w.exp_avg"], whole)


def test_a_file_of_one_process_is_read_by_rows(tmp_path: Path, mesh: DeviceMesh) -> None:
    file = tmp_path / "optimizer.safetensors"
    whole = torch.randn(4, 3)
    save_file({"w.exp_avg": whole}, file)
    save_file({"other": whole}, tmp_path / "model.safetensors")
    found = read_shards([file], {"w": DTensor.from_local(torch.zeros(4, 3), mesh, [Shard(0)])})
    assert found.keys() == {"w.exp_avg"}
    assert torch.equal(found["w.exp_avg"].full_tensor(), whole)  # type: ignore[attr-defined]


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.safetensors", "w", torch.zeros(2, 2), 0)
    os.truncate(file, file.stat().st_size - 5)
    with pytest.raises(CheckpointError, match="corrupt or cut short"):
        read_shards([file], {})
