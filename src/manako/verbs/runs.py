"""Runs: a run is a process of its own that writes files; whoever looks at it only reads them.

Beside what training writes (`train/run_folder.py`), a run that was started in the background has

process.json   {pid, started, exit_code, error: {kind, message, next_step}}; `started` in seconds
               since 1970, the last two null until the process ends
process.lock   held from before the process starts until it is gone, however it ends
start.jsonl    what training tells before its first step: where it resumes, rows measured so far
train.log      everything the process printed

So whether a run goes on is asked of the system (is a lock held?), never guessed from a process id
that may belong to somebody else by now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manako.core.errors import InputError, MissingFileError
from manako.core.files import read_json, write_error
from manako.report.live import Progress, RecordTail
from manako.verbs.exits import Exit

RUNS = Path("runs")
RECORD = "record.jsonl"
STATE = "state.json"
PROCESS = "process.json"
PROCESS_LOCK = "process.lock"
TRAIN_LOCK = "run.lock"
"""The lock that `train/run_folder.py` holds; only asked about here."""
START = "start.jsonl"
LOG = "train.log"
POLL_SECONDS = 0.2
TRIES, TRY_SECONDS = 5, 0.05

State = Literal["starting", "running", "stopped", "finished", "failed", "killed"]
ENDED: frozenset[State] = frozenset({"stopped", "finished", "failed", "killed"})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a run failed, as it left it on the disk. kind: the name of the error's class."""

    kind: str
    message: str
    next_step: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its folder shows it. `pid` is the process that has it, while one has; `failure` is
    why the last start failed, if it did."""

    folder: Path
    state: State
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    tflops: float | None = None
    mfu: float | None = None
    seconds_left: float | None = None
    checkpoint: str | None = None
    pid: int | None = None
    failure: Failure | None = None
    exit_code: int | None = None
    updated: float = 0.0

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def is_alive(self) -> bool:
        return self.state not in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        values = {**vars(self), "name": self.name, "folder": str(self.folder)}
        return {**values, "failure": vars(self.failure) if self.failure else None}


def find_run(name: str | Path) -> Path:
    """The folder of a run: a path, or a name below `runs/`. Raises `MissingFileError`."""
    for folder in (Path(name), RUNS / name):
        if is_run(folder):
            return folder
    known = ", ".join(run.name for run in list_runs()) or "none"
    raise MissingFileError(f"no run at {name}", next_step=f"runs here: {known}")


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, or of one about to start."""
    return any((folder / name).is_file() for name in (STATE, PROCESS, RECORD))


def list_runs(root: Path = RUNS) -> list[Run]:
    """The runs below `root`, one level deep, latest first."""
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    runs = [read_run(folder) for folder in folders if is_run(folder)]
    return sorted(runs, key=lambda run: -run.updated)


def read_run(folder: Path) -> Run:
    """Where a run stands."""
    alive = is_held(
        folder
    )  # asked first: a run that ends while its files are read has written them
    state, process = _read(folder / STATE), _read(folder / PROCESS)
    progress = Progress()
    progress.take(RecordTail(folder / RECORD).read()[0])
    current = _state(folder, alive, state, process)
    return Run(
        folder=folder,
        state=current,
        step=max(int(state.get("step") or 0), progress.step),
        total_steps=int(state.get("total_steps") or progress.total_steps),
        loss=progress.loss,
        tokens_per_second=progress.tokens_per_second,
        tflops=progress.tflops,
        mfu=progress.mfu,
        seconds_left=progress.seconds_left if alive else None,
        checkpoint=state.get("checkpoint"),
        pid=(process.get("pid") or state.get("pid")) if alive else None,
        failure=None if alive else _failure(state, process),
        exit_code=None if alive else process.get("exit_code"),
        updated=_updated(folder),
    )


def state_now(folder: Path) -> State:
    """The state alone, without reading the record."""
    alive = is_held(folder)
    return _state(folder, alive, _read(folder / STATE), _read(folder / PROCESS))


def is_held(folder: Path) -> bool:
    """Whether a process has this run, by the locks that it holds."""
    return any(_is_locked(folder / name) for name in (PROCESS_LOCK, TRAIN_LOCK))


def ask_to_stop(folder: Path) -> bool:
    """Ask a run to save and stop; False when no process has it any more."""
    run = read_run(folder)
    if not run.is_alive or run.pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(run.pid, signal.SIGTERM)
    return True


def wait_for_end(
    folder: Path, *, timeout_seconds: float | None = None, poll_seconds: float = POLL_SECONDS
) -> Run:
    """Wait until no process has the run; where it then stands."""
    ends = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while is_held(folder) and (ends is None or time.monotonic() < ends):
        time.sleep(poll_seconds)
    return read_run(folder)


def log_tail(folder: Path, *, lines: int = 20) -> str:
    """The end of what a run printed."""
    path = folder / LOG
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[int]:
    """Hold the lock of a run's process; its descriptor, which a child may inherit.

    The lock is given up when the last process that has the descriptor is gone. Raises
    `InputError` when the run goes on already.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / PROCESS_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        if not _take(descriptor) or _is_locked(folder / TRAIN_LOCK):
            raise InputError(
                f"a run is going on in {folder}",
                next_step=f"`manako runs attach {folder}` shows it, `manako runs stop {folder}` "
                "ends it; or choose another output_dir",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Take a lock. Whoever asks whether it is held has it for a moment: so, a few tries."""
    import fcntl

    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_SECONDS)
        else:
            return True
    return False


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _state(folder: Path, alive: bool, state: dict[str, Any], process: dict[str, Any]) -> State:
    """state.json speaks for the last process only where it is younger than that process.

    A start that was refused (`ResumeError`) leaves the run as it stood.
    """
    known: dict[str, State] = {"stopped": "stopped", "finished": "finished", "failed": "failed"}
    found = str(state.get("state", ""))
    is_of_last = not process or _modified(folder / STATE) >= float(process.get("started") or 0.0)
    if alive:
        return "running" if found and is_of_last else "starting"
    error = process.get("error")
    if error and not (found and error.get("kind") == "ResumeError"):
        return "failed"
    if error or is_of_last:
        return known.get(found, "killed")
    return "stopped" if process.get("exit_code") == Exit.STOPPED else "killed"


def _failure(state: dict[str, Any], process: dict[str, Any]) -> Failure | None:
    if isinstance(found := process.get("error"), dict):
        return Failure(**found)
    told = state.get("error")
    return Failure(kind="", message=str(told)) if told else None


def _read(path: Path) -> dict[str, Any]:
    """A small file that its writer replaces as a whole; empty where there is none."""
    try:
        found = read_json(path)
    except (MissingFileError, InputError):
        return {}
    return found if isinstance(found, dict) else {}


def _updated(folder: Path) -> float:
    return max(_modified(folder / name) for name in (RECORD, STATE, PROCESS))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
