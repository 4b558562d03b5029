"""A full disk: whichever write of a checkpoint fails, what was there before is as it was."""

from __future__ import annotations

import builtins
import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors import SafetensorError

from manako.core.errors import WriteError
from manako.core.files import PARTIAL_MARK, read_json
from manako.core.recipe import Recipe
from manako.core.record import RecordWriter
from manako.train import checkpoints, loop
from manako.train.loop import run_training
from manako.train.outcome import Outcome

MakeRecipe = Callable[..., Recipe]
NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """Counts what writes below a folder, and lets the call number `fails_at` find no space."""

    def __init__(self, fails_at: int) -> None:
        self.fails_at = fails_at
        self.calls = 0

    def _is_next(self) -> bool:
        self.calls += 1
        return self.calls == self.fails_at

    def write(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """For calls that open a file or change a folder."""

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            mode = args[0] if args and isinstance(args[0], str) else kwargs.get("mode", "r")
            is_reading = real in (OPEN, IO_OPEN) and not set(mode) & set("wax+")
            is_there = real is MKDIR and Path(path).is_dir()
            if is_reading or is_there or PARTIAL_MARK not in str(path):
                return real(path, *args, **kwargs)
            if self._is_next():
                raise NO_SPACE
            return real(path, *args, **kwargs)

        return call

    def tensors(self, flat: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        """Half a file, then the error that safetensors makes of it."""
        if self._is_next():
            with OPEN(path, "wb") as file:
                file.write(bytes(100))
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        SERIALIZE(flat, path, *args, **kwargs)

    def sync(self, descriptor: int) -> None:
        if self._is_next():
            raise NO_SPACE
        FSYNC(descriptor)


OPEN, IO_OPEN, FSYNC, MKDIR = builtins.open, io.open, os.fsync, os.mkdir
SERIALIZE = safetensors.torch.serialize_file


@contextmanager
def full_disk(fails_at: int) -> Iterator[FullDisk]:
    disk = FullDisk(fails_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors.torch, "serialize_file", disk.tensors)
        patch.setattr(builtins, "open", disk.write(OPEN))
        patch.setattr(io, "open", disk.write(IO_OPEN))
        patch.setattr(os, "fsync", disk.sync)
        for name in ("mkdir", "rename", "replace"):
            patch.setattr(os, name, disk.write(getattr(os, name)))
        yield disk


def checkpoint_of(outcome: Outcome) -> Path:
    assert outcome.checkpoint is not None
    return outcome.checkpoint


def content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "lora", "train": {"language": "1e-2"}, "lora_r": 2}],
    ids=["full", "lora"],
)
def test_every_write_of_a_checkpoint_may_fail(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = run_training(recipe("whole", max_steps=2, save_steps=1, **changes))
    real = checkpoints.write
    failures = 0

    def write(folder: Path, *args: Any) -> None:
        nonlocal failures
        before = content(folder.parent)
        while folder.name == "step-2":
            with full_disk(failures + 1) as disk:
                if not isinstance(error := attempt(folder, *args), WriteError):
                    return
            assert "No space left on device" in error.message
            assert error.next_step
            failures += 1
            assert disk.calls == failures
            if folder.exists():  # only the last flush came after the rename: it is whole
                return
            assert content(folder.parent) == before
        real(folder, *args)

    def attempt(*args: Any) -> WriteError | None:
        try:
            real(*args)
        except WriteError as error:
            return error
        return None

    monkeypatch.setattr(loop.checkpoints, "write", write)
    outcome = run_training(recipe(max_steps=2, save_steps=1, **changes))
    assert failures > 20
    assert content(checkpoint_of(outcome)) | {"trainer.json": ""} == content(
        checkpoint_of(whole)
    ) | {"trainer.json": ""}


@pytest.mark.parametrize("fails_at", [1, 12, 18])
def test_a_run_that_met_a_full_disk_says_so_and_goes_on_later(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    whole = run_training(recipe("whole", max_steps=3, save_steps=1))
    real = checkpoints.write

    def write(folder: Path, *args: Any) -> None:
        with full_disk(fails_at if folder.name == "step-2" else 0):
            real(folder, *args)

    monkeypatch.setattr(loop.checkpoints, "write", write)
    made = recipe(max_steps=3, save_steps=1)
    with pytest.raises(WriteError, match="No space left"):
        run_training(made)
    state = read_json(Path(made.output_dir) / "state.json")
    assert (state["state"], state["checkpoint"]) == ("failed", "checkpoints/step-1")
    assert "No space left" in state["error"]
    monkeypatch.undo()
    outcome = run_training(made)
    weights = checkpoint_of(outcome) / "model.safetensors"
    assert weights.read_bytes() == (checkpoint_of(whole) / "model.safetensors").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_record_that_cannot_be_written_is_a_write_error(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RecordWriter.__init__

    def open_full(self: RecordWriter, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        self._file.close()
        self._file = OPEN("/dev/full", "w", encoding="utf-8")

    monkeypatch.setattr(RecordWriter, "__init__", open_full)
    with pytest.raises(WriteError, match="No space left"):
        run_training(recipe(max_steps=1))
    monkeypatch.undo()
    assert run_training(recipe(max_steps=1)).state == "finished"
