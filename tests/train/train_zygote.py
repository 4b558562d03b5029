"""A process that has imported everything and starts nothing: it forks one child per training run.

Reads lines of JSON from its input: {recipe, hashes, hold?}. Answers two lines each: `pid N` when
the child runs, `end CODE` when it has ended (below zero: the signal that killed it). Forking after
the imports makes a start cost a tenth of a second instead of six.

The child appends `step hash` of every batch it takes to `hashes`. With `hold` = [phase, number] it
writes `held` to its output and waits for ever when it comes to that phase for the number-th time;
phases are moments inside the writing, renaming and deleting of checkpoints.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import accelerate.state  # noqa: F401 - imported before the fork
import peft.tuners.lora  # noqa: F401
import pyarrow.parquet  # noqa: F401
import safetensors.torch
import torch
import transformers.models.qwen2_vl.modeling_qwen2_vl  # noqa: F401

from manako.core import files
from manako.core.recipe import Recipe
from manako.data.loader import Loader
from manako.data.step import batch_hash
from manako.train import checkpoints, setup
from manako.train.loop import run_training
from manako.train.run_folder import STEP_NAME, RunFolder


class Hold:
    """Holds the process at the n-th passing of one phase. Stands in for what writes."""

    def __init__(self, phase: str, number: int) -> None:
        self.phase = phase
        self.left = number
        self.serialize = safetensors.torch.serialize_file
        self.write_json = checkpoints.write_json  # type: ignore[attr-defined]
        self.sync = files.sync_file
        self.rename = os.rename
        self.remove = shutil.rmtree
        self.write_state = RunFolder.write_state

    def install(self) -> None:
        safetensors.torch.serialize_file = self.half_tensors
        checkpoints.write_json = self.half_trainer  # type: ignore[attr-defined]
        files.sync_file = self.before_sync
        os.rename = self.around_rename
        shutil.rmtree = self.half_removed  # type: ignore[assignment]
        RunFolder.write_state = functools.partialmethod(before_state, self)  # type: ignore[assignment]

    def is_now(self, phase: str) -> bool:
        self.left -= phase == self.phase
        return phase == self.phase and self.left == 0

    def half_tensors(self, flat: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        self.serialize(flat, path, *args, **kwargs)
        if self.is_now(f"half of {Path(path).name}"):
            os.truncate(path, Path(path).stat().st_size // 2)
            wait()

    def half_trainer(self, path: Path, value: Any) -> None:
        if self.is_now("half of trainer.json"):
            path.write_text(json.dumps(value)[:200], encoding="utf-8")
            wait()
        self.write_json(path, value)

    def before_sync(self, path: Path) -> None:
        if path.name == "rng.safetensors" and self.is_now("before the flush"):
            wait()
        self.sync(path)

    def around_rename(self, source: Any, target: Any) -> None:
        is_new = STEP_NAME.fullmatch(Path(target).name)
        if is_new and self.is_now("before the rename"):
            wait()
        self.rename(source, target)
        if is_new and self.is_now("after the rename"):
            wait()

    def half_removed(self, path: Any, *args: Any, **kwargs: Any) -> None:
        if self.is_now("half deleted"):
            (Path(path) / "trainer.json").unlink()
            wait()
        self.remove(path, *args, **kwargs)


def before_state(folder: RunFolder, hold: Hold, *args: Any, **kwargs: Any) -> None:
    if hold.is_now("before the state"):
        wait()
    hold.write_state(folder, *args, **kwargs)


def wait() -> None:
    """Until the process is killed; asked to stop instead, it goes on."""
    say("held")
    while signal.getsignal(signal.SIGTERM).__self__.requested is False:  # type: ignore[union-attr]
        time.sleep(0.02)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class HashedLoader(Loader):
    """Writes down the hash of every batch that it hands out."""

    hashes = Path()

    def __next__(self) -> Any:
        step = super().__next__()
        with self.hashes.open("a", encoding="ascii") as file:
            file.write(f"{step.number} {batch_hash(step)}\n")
        return step


def main() -> None:
    torch.set_num_threads(1)
    say("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            run_child(asked)
        say(f"pid {child}")
        _, status = os.waitpid(child, 0)
        say(f"end {os.waitstatus_to_exitcode(status)}")


def run_child(asked: dict[str, Any]) -> None:
    """Train, then leave without the parent's clean-up."""
    code = 1
    try:
        HashedLoader.hashes = Path(asked["hashes"])
        setup.Loader = HashedLoader  # type: ignore[misc]
        if asked.get("hold"):
            Hold(*asked["hold"]).install()
        code = run_training(Recipe.from_dict(asked["recipe"])).exit_code
    finally:
        if code == 1:
            traceback.print_exc()
        os._exit(code)


if __name__ == "__main__":
    main()
