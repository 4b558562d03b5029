"""Names, shapes and types of all tensors, read from the head of safetensors files.

A file begins with eight bytes that say how long the JSON after them is; the JSON names each tensor
with its place. The places must fill the file without gap or overlap, so a header that was cut,
moved or mixed up is noticed. Format: the README of `safetensors` 0.6 (Apache-2.0).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Protocol

from manako.core.errors import CheckpointError, MissingFileError, WrongBytesError
from manako.hub import cache
from manako.hub.files import Progress
from manako.hub.kinds import MAX_HEADER_BYTES, check_path
from manako.hub.ranges import read_range
from manako.hub.repo import Repo

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST_READ_BYTES = 1 << 17
"""Long enough for most headers, so that one request does."""
MAX_INDEX_BYTES = 50_000_000
BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of one number, by the format's names of types."""
AGAIN = "copy or download the file again"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor as a header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether they are parameters, and not indices or packed integers."""
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True, kw_only=True)
class SafetensorsHeaders:
    """All tensors of a checkpoint, by name. file_bytes: the length of each of its files."""

    tensors: Mapping[str, Tensor] = field(repr=False)
    file_bytes: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Numbers in all floating-point tensors; a tensor that two modules share is stored once."""
        return sum(tensor.count for tensor in self.tensors.values() if tensor.is_float)

    @property
    def weight_bytes(self) -> int:
        """The length of all files together."""
        return sum(self.file_bytes.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """How many numbers there are of each type, most first."""
        found: dict[str, int] = {}
        for tensor in self.tensors.values():
            found[tensor.dtype] = found.get(tensor.dtype, 0) + tensor.count
        return dict(sorted(found.items(), key=lambda item: -item[1]))


class _Files(Protocol):
    """Where files are read from: a repository at a commit, or a folder."""

    name: str

    def sizes(self) -> Mapping[str, int]: ...

    def read(self, path: str, start: int, stop: int) -> bytes: ...


def read_headers(source: Repo | Path, *, progress: Progress | None = None) -> SafetensorsHeaders:
    """The tensors of a checkpoint on the Hub or in a folder; no weight is read.

    progress: called with (files read, files in all). Raises `CheckpointError` for a source
    without safetensors, for a broken header, and for an index that its files contradict.
    """
    files: _Files = _Remote(source) if isinstance(source, Repo) else _Folder(source)
    sizes = files.sizes()
    mapping = _read_index(files, sizes) if INDEX in sizes else None
    names = sorted(set(mapping.values())) if mapping is not None else [_only_file(files, sizes)]
    tensors: dict[str, Tensor] = {}
    for done, name in enumerate(names, start=1):
        for tensor in _read_file(files, name, sizes):
            if tensor.name in tensors:
                raise CheckpointError(
                    f"{files.name}: {tensor.name} is in {tensors[tensor.name].file} and in {name}"
                )
            tensors[tensor.name] = tensor
        if progress:
            progress(done, len(names))
    if mapping is not None:
        _check_index(files, mapping, tensors)
    return SafetensorsHeaders(tensors=tensors, file_bytes={name: sizes[name] for name in names})


def parse_header(head: bytes, file: str, size_bytes: int) -> list[Tensor]:
    """The tensors that the JSON of a header names, in order of place.

    head: the JSON alone. size_bytes: of the whole file. Raises `CheckpointError` naming what is
    wrong.
    """
    try:
        values = json.loads(head.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(file, f"it is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise _broken(file, "it is no JSON object")
    values.pop("__metadata__", None)
    placed = sorted(_placed(file, values), key=lambda item: item[:2])
    end = 0
    for start, stop, tensor in placed:
        if start != end:
            raise _broken(file, f"{tensor.name} begins at byte {start}, expected {end}")
        end = stop
    if 8 + len(head) + end != size_bytes:
        raise _broken(file, f"it describes {8 + len(head) + end:,} bytes, there are {size_bytes:,}")
    return [tensor for _, _, tensor in placed]


def _placed(file: str, values: Mapping[str, Any]) -> Iterator[tuple[int, int, Tensor]]:
    for name, entry in values.items():
        try:
            dtype, shape = entry["dtype"], entry["shape"]
            start, stop = entry["data_offsets"]
            is_whole = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
            bits = BITS[dtype] * prod(shape) if is_whole else -1
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(
                file, f"{name}: wrong type, shape or place in {str(entry)[:80]}"
            ) from error
        if bits < 0 or bits != 8 * (stop - start):
            raise _broken(file, f"{name}: {dtype} {shape} does not fill bytes {start} to {stop}")
        yield start, stop, Tensor(name=name, dtype=dtype, shape=tuple(shape), file=file)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _read_file(files: _Files, name: str, sizes: Mapping[str, int]) -> list[Tensor]:
    size = sizes.get(name)
    where = f"{files.name}/{name}"
    if size is None:
        raise CheckpointError(f"{where} is missing, but {INDEX} names it", next_step=AGAIN)
    if size < 8:
        raise _broken(where, f"the file has {size} bytes, a header has at least 8")
    first = files.read(name, 0, min(size, FIRST_READ_BYTES))
    (length,) = struct.unpack("<Q", first[:8])
    if not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
        raise _broken(where, f"it would have {length:,} bytes, the file has {size:,}")
    end = 8 + length
    head = first[8:end]
    if end > len(first):
        head += files.read(name, len(first), end)
    return [
        Tensor(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, file=name)
        for tensor in parse_header(head, where, size)
    ]


def _read_index(files: _Files, sizes: Mapping[str, int]) -> dict[str, str]:
    """Tensor → file, by the index of a checkpoint in several files."""
    if sizes[INDEX] > MAX_INDEX_BYTES:
        raise CheckpointError(f"{files.name}: {INDEX} has {sizes[INDEX]:,} bytes")
    try:
        found = json.loads(files.read(INDEX, 0, sizes[INDEX]))["weight_map"]
        if not found or not all(isinstance(name, str) for name in found.values()):
            raise ValueError("weight_map names no files")
        for name in set(found.values()):
            check_path(name)
        return dict(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{files.name}: {INDEX} is broken: {error}", next_step=AGAIN
        ) from error


def _check_index(files: _Files, mapping: Mapping[str, str], found: Mapping[str, Tensor]) -> None:
    wrong = [n for n, file in mapping.items() if n not in found or found[n].file != file]
    wrong += [name for name in found if name not in mapping]
    if wrong:
        raise CheckpointError(
            f"{files.name}: {INDEX} and the files disagree on {len(wrong)} tensors, such as "
            f"{', '.join(wrong[:3])}",
            next_step="take index and weights from the same revision",
        )


def _only_file(files: _Files, sizes: Mapping[str, int]) -> str:
    """The weights of a checkpoint in one file."""
    found = [name for name in sizes if name.endswith(".safetensors") and "/" not in name]
    if WHOLE in found or len(found) == 1:
        return WHOLE if WHOLE in found else found[0]
    has = f"{len(found)} safetensors files and no index" if found else "no safetensors files"
    others = [name for name in sizes if name.endswith((".bin", ".pt", ".pth", ".gguf"))]
    raise CheckpointError(
        f"{files.name} has {has}{f' (but {others[0]}, which is not read)' if others else ''}",
        next_step="take a revision that holds model.safetensors",
    )


def _broken(where: str, what: str) -> CheckpointError:
    return CheckpointError(f"{where}: the safetensors header is broken: {what}", next_step=AGAIN)


class _Remote:
    def __init__(self, repo: Repo) -> None:
        self.name, self._repo = repo.page, repo

    def sizes(self) -> Mapping[str, int]:
        return {path: file.size_bytes for path, file in self._repo.files.items()}

    def read(self, path: str, start: int, stop: int) -> bytes:
        data = read_range(self._repo, path, start, stop)
        if (start, stop) == (0, self._repo.file(path).size_bytes):
            self._check_whole(path, data)
        return data

    def _check_whole(self, path: str, data: bytes) -> None:
        """A whole file has a hash, however it came."""
        file = self._repo.file(path)
        found = cache.Checksum(file)
        found.update(data)
        if found.value != file.hash:
            raise WrongBytesError(
                f"{self.name}/{path}: {len(data):,} bytes came whose hash is {found.value}, "
                f"expected {file.hash}"
            )


class _Folder:
    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise MissingFileError(f"no such checkpoint folder: {folder}")
        self.name, self._folder = str(folder), folder

    def sizes(self) -> Mapping[str, int]:
        files = (path for path in self._folder.iterdir() if path.is_file())
        return {path.name: path.stat().st_size for path in files}

    def read(self, path: str, start: int, stop: int) -> bytes:
        with (self._folder / path).open("rb") as opened:
            opened.seek(start)
            return opened.read(stop - start)
