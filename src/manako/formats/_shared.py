"""What every format is made of: the `Format` record, source rows, pictures, left-over columns."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manako.core.conversation import Conversation, Image
from manako.core.errors import InputError, MissingFileError, RowError
from manako.core.files import PARTIAL_MARK

IMAGE_MARK = "<image>"
MAX_DEPTH = 64
"""Far deeper than any real row; a row made to be deeper would exhaust Python's stack."""
TOO_DEEP = "(nested too deep)"
LABEL_COLUMNS = {
    "license": "license",
    "licence": "license",
    "language": "language",
    "lang": "language",
}
"""Columns of any format that become the canonical `license` and `language` when they are text."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a source as it stands there.

    values: normally a mapping; a row that could not even be parsed is its text.
    file, index: which source file (relative to the data set's folder) and which row of it, from 0.
    roots: resolved folders in which the row's picture files may lie; nothing outside is read.
    share: how much of the file has been read, 0..1.
    """

    values: Any
    file: str
    index: int
    roots: tuple[Path, ...] = ()
    share: float = 1.0

    @property
    def made_id(self) -> str:
        """A stable id for a row that brings none: `<file without suffix>:<row index>`."""
        return f"{self.file.rpartition('.')[0] or self.file}:{self.index}"


@dataclass(frozen=True, kw_only=True)
class SourceFiles:
    """The files of a source that are of one format, and why others were left out."""

    folder: Path
    used: tuple[Path, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """Two tiny rows, the files they name, and the (role, text) turns they must become."""

    rows: tuple[Mapping[str, Any], Mapping[str, Any]]
    turns: tuple[tuple[tuple[str, str], ...], ...]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Format:
    """A data set format.

    suffixes: of the files it looks at, lower case.
    refusal: why a file is not of this format; empty when it is.
    values: the rows of one file in order, each with the share of the file read so far.
    convert: a source row as Conversation; raises `RowError` (or `ImageError`) with a reason.
    write: the reverse of `values`, for fixtures: rows into one file.
    """

    name: str
    suffixes: tuple[str, ...]
    refusal: Callable[[Path], str]
    values: Callable[[Path], Iterator[tuple[Any, float]]]
    convert: Callable[[RawRow], Conversation]
    write: Callable[[Path, Sequence[Mapping[str, Any]]], None]
    fixture: Fixture

    def find(self, path: Path) -> SourceFiles:
        """The files of this format at `path`, a file or a folder with all its subfolders.

        Raises `MissingFileError` when `path` does not exist.
        """
        if path.is_file():
            folder, candidates = path.parent, [path]
        elif path.is_dir():
            folder, candidates = path, _files_under(path, self.suffixes)
        else:
            raise MissingFileError(f"no such file or folder: {path}")
        used: list[Path] = []
        left_out: dict[str, str] = {}
        for file in candidates:
            if why := self._refusal(file):
                left_out[file.relative_to(folder).as_posix()] = why
            else:
                used.append(file)
        return SourceFiles(folder=folder, used=tuple(used), left_out=left_out)

    def detect(self, path: Path) -> bool:
        """Whether `path` is, or holds, at least one file of this format."""
        return bool(self.find(path).used)

    def read(self, path: Path, *, images: Path | None = None) -> Iterator[RawRow]:
        """All rows at `path`, file by file; `images`: a further folder where pictures lie."""
        found = self.find(path)
        for file in found.used:
            yield from self.read_file(file, found.folder, images=images)

    def read_file(
        self, file: Path, folder: Path, *, images: Path | None = None
    ) -> Iterator[RawRow]:
        """The rows of one file of the data set in `folder`."""
        wanted = [file.parent, folder] if images is None else [images, file.parent, folder]
        roots = tuple(dict.fromkeys(root.resolve() for root in wanted))
        name = file.relative_to(folder).as_posix()
        try:
            for index, (values, share) in enumerate(self.values(file)):
                yield RawRow(values, name, index, roots, share)
        except OSError as error:
            raise _unreadable(error) from error

    def _refusal(self, file: Path) -> str:
        if file.suffix.lower() not in self.suffixes:
            return f"its name does not end in {' or '.join(self.suffixes)}"
        try:
            return self.refusal(file)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"


def _unreadable(error: OSError) -> InputError:
    """Not `WriteError`, which the same failure would become inside the writing of a data set."""
    return InputError(
        f"{error.filename or 'the source'} cannot be read: {error.strerror or error}",
        next_step="see that it may be read, or take it out of the source",
    )


def _stop(error: OSError) -> None:
    raise _unreadable(error) from error


def _files_under(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=_stop):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and PARTIAL_MARK not in name
        )
        found += [
            Path(parent, name)
            for name in files
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found)


def mapping_of(row: RawRow) -> Mapping[str, Any]:
    """The row's columns. Raises `RowError` when it is no row at all."""
    if isinstance(row.values, Mapping):
        return row.values
    raise RowError(
        f"{row.file} row {row.index} is no JSON object with columns",
        reason="not_a_row",
        row_id=row.made_id,
    )


def id_of(row: RawRow, values: Mapping[str, Any]) -> str:
    """The row's own id as text, or a stable one made of file and row index."""
    own = values.get("id")
    if isinstance(own, str | int) and not isinstance(own, bool) and own != "":
        return str(own)
    return row.made_id


def labels_of(values: Any) -> dict[str, str]:
    """`license` and `language` of a source row, where it states them as text."""
    if not isinstance(values, Mapping):
        return {}
    return {
        column: values[name]
        for name, column in LABEL_COLUMNS.items()
        if isinstance(values.get(name), str)
    }


def left_over(values: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The columns that no canonical column holds, as JSON values; nulls are left out."""
    if values.keys() <= known:
        return {}
    return {
        name: json_value(value)
        for name, value in values.items()
        if name not in known
        and value is not None
        and not (name in LABEL_COLUMNS and isinstance(value, str))
    }


def json_value(value: Any, depth: int = 0) -> Any:
    """A value as JSON can hold it: bytes as their length and sha256, dates and the like as text,
    numbers that are none as null, what lies deeper than `MAX_DEPTH` as a note."""
    if depth > MAX_DEPTH:
        return TOO_DEEP
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Mapping):
        return {str(key): json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, depth + 1) for item in value]
    return str(value)


def load_image(row: RawRow, name: str) -> Image:
    """The picture file that a row names, from the first of its roots that has it.

    Raises `RowError`: `image_by_url`, `image_outside` for a path that leads out of the data set's
    folder (absolute, with `..`, or through a link), `image_missing`, `image_unreadable`.
    """
    if name.startswith(("http://", "https://")):
        raise _image_error(row, f"image {name[:200]} is a URL", "image_by_url")
    leads_out = False
    for root in row.roots:
        try:
            file = (root / name).resolve()
            if not file.is_relative_to(root):
                leads_out = True
            elif file.is_file():
                return Image(file.read_bytes(), path=name)
        except (OSError, ValueError) as error:
            raise _image_error(
                row, f"image {name[:200]!r} cannot be read: {error}", "image_unreadable"
            ) from error
    if leads_out:
        raise _image_error(
            row, f"image {name[:200]} leads out of the data set's folder", "image_outside"
        )
    raise _image_error(row, f"image {name[:200]} does not exist", "image_missing")


def _image_error(row: RawRow, message: str, reason: str) -> RowError:
    return RowError(f"{row.file} row {row.index}: {message}", reason=reason, row_id=row.made_id)


def tiny_png(width: int, height: int, grey: int = 255) -> bytes:
    """A plain grey PNG, for fixtures."""
    lines = (b"\0" + bytes([grey]) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
