"""The folder of a run: what lies in it, in which state it is, and that one process has it.

Where several processes train together the first one has it; the others read checkpoints there.

recipe.yaml           as resolved
state.json            {state: running | stopped | finished | failed, step, total_steps, pid,
                      checkpoint: path within the folder or null, error?}
record.jsonl          every event, the one file that reports and live lines read
checkpoints/step-N/   whole or not there
lengths/              measured lengths of the data, kept between starts
run.lock              held by the process that trains
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from manako.core.errors import InputError
from manako.core.files import (
    PARTIAL_MARK,
    read_json,
    remove_partials,
    write_error,
    write_json,
    write_text,
)

STEP_NAME = re.compile(r"step-(\d+)")
State = Literal["running", "stopped", "finished", "failed"]


class RunFolder:
    """A run's folder, held by this process inside `with`; made where it is missing.

    What a killed process left half written is deleted. Raises `InputError` where another process
    trains in the folder, `WriteError` where it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._lock: int | None = None
        self._total_steps = 0

    @property
    def record(self) -> Path:
        return self.path / "record.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def lengths(self) -> Path:
        return self.path / "lengths"

    def __enter__(self) -> RunFolder:
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._hold()
            for folder in (self.path, self.checkpoints, self.lengths):
                remove_partials(folder)
        except OSError as error:
            if isinstance(error, InputError):
                raise
            raise write_error(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, in order."""
        matches = (STEP_NAME.fullmatch(path.name) for path in self.checkpoints.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step}"

    def latest(self) -> Path | None:
        """The last checkpoint, None where there is none yet."""
        steps = self.steps()
        return self.checkpoint(steps[-1]) if steps else None

    def keep_last(self, count: int) -> None:
        """Delete all but the last `count` checkpoints.

        Each is renamed first, so that one half deleted is never taken for a whole one.
        """
        for step in self.steps()[:-count]:
            gone = self.checkpoints / f"step-{step}{PARTIAL_MARK}old"
            self.checkpoint(step).rename(gone)
            shutil.rmtree(gone)

    def write_recipe(self, text: str) -> None:
        write_text(self.path / "recipe.yaml", text)

    def read_state(self) -> str:
        """The state that was written last; empty where there is none."""
        file = self.path / "state.json"
        return str(read_json(file).get("state", "")) if file.is_file() else ""

    def write_state(
        self, state: State, *, step: int, total_steps: int | None = None, error: str = ""
    ) -> None:
        """Say where the run is; the last checkpoint is named whatever happened. `total_steps` are
        those told last where they are not given."""
        self._total_steps = self._total_steps if total_steps is None else total_steps
        latest = self.latest()
        values: dict[str, Any] = {
            "state": state,
            "step": step,
            "total_steps": self._total_steps,
            "pid": os.getpid(),
            "checkpoint": str(latest.relative_to(self.path)) if latest else None,
        }
        write_json(self.path / "state.json", {**values, **({"error": error} if error else {})})

    def _hold(self) -> None:
        """Take the lock; the system gives it up with the process, however that ends."""
        self._lock = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        if os.name != "posix":
            return
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is training in {self.path}",
                next_step="wait for it, stop it, or choose another output_dir",
            ) from error


class SharedRunFolder(RunFolder):
    """The folder as ranks see it that only read: what they would write or delete, nobody does."""

    def __enter__(self) -> SharedRunFolder:
        return self

    def keep_last(self, count: int) -> None:
        return

    def write_recipe(self, text: str) -> None:
        return

    def read_state(self) -> str:
        """What state means is the first rank's business."""
        return ""

    def write_state(
        self, state: State, *, step: int, total_steps: int | None = None, error: str = ""
    ) -> None:
        return
