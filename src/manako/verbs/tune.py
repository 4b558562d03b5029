"""Tune: train by a recipe, in this process or in one of its own that no terminal can end.

`python -m manako.verbs.tune RUN LOCK` is the process of a run that was started in the background:
it trains by `RUN/start.yaml`, holds the lock whose descriptor its starter handed down, and says in
`process.json` how it ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from manako.core.errors import ManakoError
from manako.core.files import write_error, write_json, write_text
from manako.core.recipe import Recipe
from manako.core.record import RecordWriter
from manako.verbs.exits import Exit, exit_of
from manako.verbs.runs import LOG, PROCESS, START, hold, is_held

if TYPE_CHECKING:
    from manako.hub.files import Progress
    from manako.train.outcome import Outcome
    from manako.train.ranks import Ranks

START_RECIPE = "start.yaml"
"""The recipe, as resolved, that a process in the background is handed."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOLD_ONLY = ("resume", "measure")
"""Events that training tells its listener and does not record, because they are before any step."""
TELL_SECONDS = 0.5
Listener = Callable[[Mapping[str, Any]], None]


class StoppedEarly(BaseException):
    """The run was asked to stop before training began; there is nothing to save."""


def train(recipe: Recipe, *, listener: Listener = lambda event: None) -> Outcome:
    """Train in this process, and go on from the last checkpoint where `output_dir` has one.

    `listener` is handed every event of the run as it happens (`train.loop.run_training`). Where a
    launcher started several processes, all of them call this, and the first has the run's folder.

    Raises `InputError` when another process trains there, `ResumeError` when the run cannot go on
    (nothing remains, or other data or settings), and what `train.loop.run_training` raises.
    """
    from manako.infer.source import with_model_folder
    from manako.train.ranks import open_ranks

    with open_ranks(recipe.ddp_timeout) as ranks:
        recipe, folder = with_model_folder(recipe), Path(recipe.output_dir)
        if not ranks.is_first:
            return _train(recipe, listener, ranks)
        with hold(folder), _recorded(folder) as ending:
            outcome = _train(recipe, _also_written(folder, listener), ranks)
            ending["exit_code"] = outcome.exit_code
    return outcome


def rank_of_launcher() -> int | None:
    """Which of several processes torchrun or Accelerate made this one; None where it is alone."""
    from manako.train.ranks import launched

    place = launched()
    return place.rank if place else None


def start_training(recipe: Recipe, *, progress: Progress | None = None) -> bool:
    """Train in a process of its own, in a session of its own, that no closed terminal reaches.

    progress: is told (bytes so far, bytes in all) where the model is downloaded first. False where a process trains by this very recipe already: there is nothing to start. Raises
    `InputError` when a run by another recipe goes on there, and what can be refused without a
    framework: a model or data set that is none.
    """
    from manako.infer.source import with_model_folder

    recipe, folder = with_model_folder(recipe, progress), Path(recipe.output_dir)
    _look_first(recipe)
    if is_held(folder) and _started_with(folder) == recipe.to_yaml():
        return False
    with hold(folder) as lock:
        write_text(folder / START_RECIPE, recipe.to_yaml())
        _write_process(folder, pid=None, started=time.time())
        _spawn(folder, lock)
    return True


def _started_with(folder: Path) -> str:
    path = folder / START_RECIPE
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _look_first(recipe: Recipe) -> None:
    """Refuse at once what the new process would refuse after seconds of loading."""
    from manako.core.family import family_of
    from manako.data.manifest import Manifest

    family_of(Path(recipe.model))
    paths = [source.path for source in recipe.data]
    if recipe.eval is not None:
        paths.append(recipe.eval.data)
    for path in paths:
        Manifest.load(Path(path))


def _train(recipe: Recipe, listener: Listener, ranks: Ranks | None = None) -> Outcome:
    from manako.train.loop import run_training

    return run_training(recipe, listener=listener, ranks=ranks)


def _also_written(folder: Path, listener: Listener) -> Listener:
    """A listener that also writes down what is told only, for those who watch the folder."""
    path, told_at = folder / START, 0.0
    path.unlink(missing_ok=True)

    def listen(event: Mapping[str, Any]) -> None:
        nonlocal told_at
        is_due = event["kind"] != "measure" or time.monotonic() - told_at >= TELL_SECONDS
        if event["kind"] in TOLD_ONLY and is_due:
            told_at = time.monotonic()
            with RecordWriter(path, verb="train") as record:
                record.write(**event)
        listener(event)

    return listen


def _spawn(folder: Path, lock: int) -> None:
    try:
        log = (folder / LOG).open("ab")
    except OSError as error:
        raise write_error(folder / LOG, error) from error
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "manako.verbs.tune", str(folder), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        )
    # Somebody must take note when it ends, or it stays in the system's table of processes.
    threading.Thread(target=process.wait, daemon=True).start()


@contextlib.contextmanager
def _recorded(folder: Path) -> Iterator[dict[str, Any]]:
    """Say in `process.json` that this process has the run and, at the end, how it ended."""
    ending: dict[str, Any] = {}
    started = time.time()
    _write_process(folder, pid=os.getpid(), started=started)
    try:
        yield ending
    except BaseException as error:
        ending["exit_code"] = int(Exit.STOPPED)
        if not isinstance(error, StoppedEarly | KeyboardInterrupt):
            ending |= {"exit_code": int(exit_of(error)), "error": _described(error)}
        with contextlib.suppress(ManakoError):  # the failure itself is what must be seen
            _write_process(folder, pid=os.getpid(), started=started, **ending)
        raise
    _write_process(folder, pid=os.getpid(), started=started, **ending)


def _write_process(folder: Path, **values: Any) -> None:
    write_json(folder / PROCESS, {"exit_code": None, "error": None, **values})


def _described(error: BaseException) -> dict[str, str]:
    if isinstance(error, ManakoError):
        return {
            "kind": type(error).__name__,
            "message": error.message,
            "next_step": error.next_step,
        }
    return {"kind": type(error).__name__, "message": str(error), "next_step": ""}


def _stop_early(number: int, frame: FrameType | None) -> None:
    raise StoppedEarly


def main(folder: Path, lock: int) -> int:
    """The process of a run in the background; its exit code."""
    os.set_inheritable(lock, False)  # worker processes must not keep the run's lock
    for number in STOP_SIGNALS:
        signal.signal(number, _stop_early)
    try:
        with _recorded(folder) as ending:
            outcome = _train(
                Recipe.load(folder / START_RECIPE), _also_written(folder, lambda event: None)
            )
            ending["exit_code"] = outcome.exit_code
    except StoppedEarly:
        return int(Exit.STOPPED)
    # Whatever it is goes to the log and `process.json`; there is nobody else to see it.
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        return int(exit_of(error))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
