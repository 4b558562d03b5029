"""Parameters are counted from headers alone, and a header that does not fit its file is an error."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, ID, World, safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from manako.core.errors import CheckpointError, MissingFileError
from manako.hub import headers as room
from manako.hub.client import Hub
from manako.hub.headers import BITS, parse_header, read_headers
from manako.hub.repo import resolve

INDEX = "model.safetensors.index.json"
ONE = {"a.weight": ("BF16", (4, 8), 64)}
TWO = {"b.weight": ("F32", (2,), 8), "b.ids": ("I64", (3,), 24)}


def sharded(**changes: Any) -> dict[str, bytes]:
    """A checkpoint in two files with its index."""
    mapping = {
        "a.weight": "one.safetensors",
        "b.weight": "two.safetensors",
        "b.ids": "two.safetensors",
    }
    index = {"metadata": {"total_size": 96}, "weight_map": {**mapping, **changes}}
    return {
        "one.safetensors": safetensors(ONE),
        "two.safetensors": safetensors(TWO),
        INDEX: json.dumps(index).encode(),
    }


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_in_one_file(tmp_path: Path) -> None:
    found = read_headers(written(tmp_path, {"model.safetensors": safetensors({**ONE, **TWO})}))
    assert found.parameters == 34
    assert found.dtypes == {"BF16": 32, "I64": 3, "F32": 2}
    assert found.weight_bytes == (tmp_path / "model.safetensors").stat().st_size
    assert found.tensors["a.weight"].shape == (4, 8)


def test_a_folder_in_several_files(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = written(tmp_path, sharded())
    found = read_headers(folder, progress=lambda done, total: seen.append((done, total)))
    assert (found.parameters, seen) == (34, [(1, 2), (2, 2)])
    assert {t.name: t.file for t in found.tensors.values()}["b.ids"] == "two.safetensors"


def test_the_hub_and_a_folder_say_the_same(tmp_path: Path, hub: Hub, world: World) -> None:
    files = sharded()
    world.commits[COMMIT] = files
    found = read_headers(resolve(ID, hub=hub))
    assert found == read_headers(written(tmp_path, files))
    assert not list(hub.cache.glob("*/blobs/*"))


def test_a_published_checkpoint_reads_as_safetensors_reads_it(tiny_qwen: Path) -> None:
    from safetensors import safe_open

    found = read_headers(tiny_qwen)
    with safe_open(str(tiny_qwen / "model.safetensors"), framework="np") as opened:
        assert set(found.tensors) == set(opened.keys())
        for name, tensor in found.tensors.items():
            piece = opened.get_slice(name)
            assert (tensor.dtype, list(tensor.shape)) == (piece.get_dtype(), piece.get_shape())


def test_a_long_header_takes_a_second_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "FIRST_READ_BYTES", 16)
    assert read_headers(written(tmp_path, {"model.safetensors": safetensors(ONE)})).parameters == 32


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "has no safetensors files"),
        ({"pytorch_model.bin": b""}, r"\(but pytorch_model\.bin, which is not read\)"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "has 2 safetensors files and no index"),
        ({"model.safetensors": b""}, "the file has 0 bytes"),
        ({"model.safetensors": struct.pack("<Q", 99) + b"{}"}, "it would have 99 bytes"),
        ({"model.safetensors": struct.pack("<Q", 0) + b"{}"}, "it would have 0 bytes"),
        ({"model.safetensors": safetensors(ONE) + b"x"}, "it describes"),
        ({"model.safetensors": safetensors(ONE)[:-1]}, "it describes"),
        ({"model.safetensors": b"<html>please sign in</html>"}, "it would have"),
        ({INDEX: b"[]"}, "is broken"),
        ({INDEX: b'{"weight_map": {"a": "../../x.safetensors"}}'}, "no plain path"),
        ({INDEX: b'{"weight_map": {"a": "x.safetensors"}}'}, r"x\.safetensors is missing"),
        (sharded(c="one.safetensors"), "disagree on 1 tensors, such as c"),
        (sharded(**{"b.ids": "one.safetensors"}), "disagree on 1 tensors, such as b.ids"),
        (
            {**sharded(), "two.safetensors": safetensors({**ONE, **TWO})},
            "a.weight is in one.safetensors and in two.safetensors",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    with pytest.raises((CheckpointError, ValueError), match=says):
        read_headers(written(tmp_path, files))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such checkpoint folder"):
        read_headers(tmp_path / "nowhere")


def head_of(entry: dict[str, Any]) -> bytes:
    return json.dumps({"x": entry}).encode()


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
    ],
)
def test_an_entry_that_describes_no_tensor(entry: dict[str, Any]) -> None:
    head = head_of(entry)
    with pytest.raises(CheckpointError, match="x: "):
        parse_header(head, "f", 8 + len(head) + 8)


SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
TENSORS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(set(BITS) - {"F4", "F6_E2M3", "F6_E3M2"})), SHAPES),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(TENSORS, st.integers(0, 9))
def test_what_was_written_is_read(tensors: dict[str, Any], pad: int) -> None:
    from math import prod

    data = safetensors(
        {n: (dtype, s, BITS[dtype] // 8 * prod(s)) for n, (dtype, s) in tensors.items()}, pad=pad
    )
    (length,) = struct.unpack("<Q", data[:8])
    found = parse_header(data[8 : 8 + length], "f", len(data))
    assert {t.name: (t.dtype, t.shape) for t in found} == tensors


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text('{}[]",:ax0123456789 ', max_size=60).map(str.encode))
)
def test_no_bytes_end_in_another_error(head: bytes) -> None:
    try:
        found = parse_header(head, "f", 8 + len(head))
    except CheckpointError:
        return
    assert all(tensor.count == 0 for tensor in found)
