"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from manako.core.errors import InputError, ManakoError, MissingFileError, WriteError

PARTIAL_MARK = ".partial-"
"""Stands in the name of everything half written; what carries it may be deleted at any time."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes `path`'s place when the block ends well.

    When the block or the disk fails, the half-written file is deleted and `path` is untouched.
    Raises `WriteError` for operating-system errors; errors that Manako raises on purpose (some of
    them are `OSError`s too) pass as they are.
    """
    partial = path.with_name(f"{path.name}{PARTIAL_MARK}{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if _is_from_the_system(error):
            raise write_error(path, error) from error
        raise


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Like `atomic_path` for a whole folder; `folder` must not exist yet, or be empty.

    Every file in it is flushed to the disk before the rename, so a folder of that name is whole.
    """
    partial = folder.with_name(f"{folder.name}{PARTIAL_MARK}{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        yield partial
        for file in sorted(partial.rglob("*")):
            if file.is_file():
                sync_file(file)
        sync_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if _is_from_the_system(error):
            raise write_error(folder, error) from error
        raise


def _is_from_the_system(error: BaseException) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and not isinstance(error, ManakoError)


def write_error(path: Path, error: OSError) -> WriteError:
    """Say what could not be written, why, and that nothing was lost."""
    return WriteError(
        f"could not write {path}: {error.strerror or error}",
        next_step="free some space or choose another folder, then run the same command again; "
        "what was complete before is unchanged",
    )


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, so that a rename survives a power cut (POSIX only)."""
    if os.name == "posix":
        sync_file(folder)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: UTF-8, readable, keys in the order given."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is an error that names it."""
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error


def remove_partials(folder: Path) -> None:
    """Delete what a killed process left half written directly in `folder`."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if PARTIAL_MARK in path.name:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
