"""Files are whole or not there, whatever fails, and the error says what really failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from manako.core.errors import InputError, MissingFileError, WriteError
from manako.core.files import (
    PARTIAL_MARK,
    atomic_folder,
    atomic_path,
    read_json,
    remove_partials,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_at(monkeypatch: pytest.MonkeyPatch, target: str, code: int = errno.ENOSPC) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(target, fail)


@pytest.mark.parametrize("target", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.write_text"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    fail_at(monkeypatch, target)
    with pytest.raises(WriteError, match="No space left") as caught:
        write_text(path, "new")
    monkeypatch.undo()
    assert caught.value.next_step
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("target", ["os.fsync", "pathlib.Path.rename"])
def test_a_full_disk_leaves_no_half_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "out") as partial:
            (partial / "sub").mkdir()
            (partial / "sub" / "a").write_bytes(b"1")

    fail_at(monkeypatch, target)
    with pytest.raises(WriteError, match="No space left"):
        write()
    monkeypatch.undo()
    assert names(tmp_path) == []


def test_a_folder_appears_whole_also_in_place_of_an_empty_one(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    with atomic_folder(out) as partial:
        (partial / "a").write_bytes(b"1")
        assert names(out) == []
    assert names(out) == ["a"]
    with pytest.raises(WriteError, match="not empty"), atomic_folder(out) as partial:
        (partial / "b").write_bytes(b"2")
    assert names(out) == ["a"]
    assert names(out.parent) == ["out"]


@pytest.mark.parametrize("atomic", [atomic_path, atomic_folder])
@pytest.mark.parametrize(
    "error",
    [
        MissingFileError("the source is gone"),
        InputError("no"),
        KeyboardInterrupt(),
        ZeroDivisionError(),
    ],
)
def test_errors_of_the_block_pass_as_they_are(
    tmp_path: Path, atomic: Any, error: BaseException
) -> None:
    def fail() -> None:
        with atomic(tmp_path / "a") as partial:
            if atomic is atomic_path:
                partial.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert names(tmp_path) == []


def test_json_is_utf8_readable_and_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": "眼", "a": [1, None]})
    assert "眼".encode() in path.read_bytes()
    assert read_json(path) == {"b": "眼", "a": [1, None]}
    path.write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"a\.json is not readable JSON"):
        read_json(path)
    with pytest.raises(MissingFileError):
        read_json(tmp_path / "none.json")


def test_left_overs_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / f"a{PARTIAL_MARK}1").mkdir()
    (tmp_path / f"a{PARTIAL_MARK}1" / "x").write_bytes(b"1")
    (tmp_path / f"b{PARTIAL_MARK}2").write_bytes(b"1")
    remove_partials(tmp_path)
    remove_partials(tmp_path / "none")
    assert names(tmp_path) == ["keep"]
