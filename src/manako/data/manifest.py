"""The manifest of a data set: which files belong to it, what came in, what was left out.

`manifest.json` is written last and names every file with its size and hash, so a folder that has
one is whole. It holds no time and no path of the machine: the same source gives the same bytes, and
its sha256 can stand for the data set in a run's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manako.core.errors import InputError, MissingFileError, RecipeError
from manako.core.files import read_json
from manako.core.settings import build

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
DROPPED_NAME = "dropped.parquet"
CONVERT_STEP = "make the data set with `manako data convert SRC --out DIR`"


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of a data set: its name in the folder, its sha256, rows and size."""

    path: str
    sha256: str
    rows: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a data set's folder holds.

    sources, licences, languages: rows by what their column says ("" where it says nothing).
    origin: what was converted (format, source files, files that were left out and why).
    settings: how it was written.
    by_reason: dropped rows by reason; the rows themselves lie in `dropped.parquet`.
    """

    rows: int
    images: int
    files: tuple[StoredFile, ...]
    dropped: StoredFile
    by_reason: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    licences: Mapping[str, int] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        values = asdict(self)
        ordered = {"schema_version": values.pop("schema_version"), **values}
        return json.dumps(ordered, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check `folder`'s manifest, and that its files are there with their sizes.

        Raises `MissingFileError` for a folder or file that is not there, `InputError` for a folder
        that is no data set, another schema version, or a file of another size.
        """
        if not folder.is_dir():
            raise MissingFileError(f"no such data set folder: {folder}", next_step=CONVERT_STEP)
        path = folder / MANIFEST_NAME
        if not path.is_file():
            raise InputError(
                f"{folder} is no data set in canonical form: it has no {MANIFEST_NAME}",
                next_step=CONVERT_STEP,
            )
        manifest = cls._parsed(read_json(path), path)
        for file in (*manifest.files, manifest.dropped):
            _check_file(folder, file)
        return manifest

    @classmethod
    def _parsed(cls, values: Any, path: Path) -> Manifest:
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}",
                next_step="convert the data set again, or use the version of Manako that made it",
            )
        try:
            return build(cls, values, where=path.name)
        except RecipeError as error:
            raise InputError(
                f"{path} is no manifest of this version: {error.message}",
                next_step="convert the data set again",
            ) from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(folder: Path, file: StoredFile) -> None:
    path = folder / file.path
    if Path(file.path).name != file.path:
        raise InputError(f"{folder / MANIFEST_NAME} names {file.path!r}: no file of this folder")
    if not path.is_file():
        raise MissingFileError(
            f"data set {folder} lacks {file.path}, which its manifest names",
            next_step="copy the whole folder again, or convert the data set again",
        )
    if (found_bytes := path.stat().st_size) != file.bytes:
        raise InputError(
            f"{path} has {found_bytes:,} bytes, the manifest says {file.bytes:,}",
            next_step="copy the whole folder again, or convert the data set again",
        )
