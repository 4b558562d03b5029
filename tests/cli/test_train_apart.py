"""A run is a process of its own: it survives its terminal, is watched, stopped and gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_makers import Call

from manako.core.record import read_record
from manako.verbs.runs import is_held, read_run

PATIENCE_SECONDS = 120
MANAKO = [sys.executable, "-m", "manako.cli"]
RUN = Path("runs/forms")


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_SECONDS} s\n{said()}"
        time.sleep(0.05)


def said() -> str:
    log = RUN / "train.log"
    return log.read_text(encoding="utf-8") if log.is_file() else "no log"


def steps() -> int:
    return read_run(RUN).step if RUN.is_dir() else 0


def saved() -> int:
    names = [path.name for path in (RUN / "checkpoints").glob("step-*")]
    return max((int(name.removeprefix("step-")) for name in names if name[5:].isdigit()), default=0)


@pytest.fixture
def recipe(call: Call, source: Path, tiny_qwen: Path) -> Path:
    assert call("data", "convert", source, "--out", "data").exit_code == 0
    fields = {
        "model": str(tiny_qwen),
        "data": [{"path": "data"}],
        "train": {"language": 1e-4},
        "pack_tokens": 128,
        "global_batch_packs": 1,
        "max_steps": 1_000_000,
        "save_steps": 1_000_000,
        "dataloader_num_workers": 0,
        "output_dir": str(RUN),
    }
    path = Path("recipe.yaml")
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


@pytest.mark.skipif(not hasattr(os, "forkpty"), reason="needs a terminal to close")
def test_a_run_outlives_its_terminal_and_goes_on_where_it_stopped(call: Call, recipe: Path) -> None:
    terminal = start_in_a_terminal([*MANAKO, "train", str(recipe)])
    try:
        wait_until(lambda: steps() >= 2, "the first steps")
        hang_up(*terminal)
        before = steps()
        wait_until(lambda: steps() > before, "steps after the terminal was closed")
        other = call("train", recipe, "--set", "seed=1")
        assert (other.exit_code, "going on" in other.stderr) == (2, True)
        listed = json.loads(call("runs", "list", "--json").stdout)
        assert [(run["name"], run["state"]) for run in listed] == [("forms", "running")]
        watch_and_leave()
        assert is_held(RUN)
        stopped = call("runs", "stop", "forms")
    finally:
        call("runs", "stop", "forms")
    assert stopped.exit_code == 0
    assert read_run(RUN).state == "stopped"
    assert saved() == steps() >= before
    go_on(recipe)


def start_in_a_terminal(command: list[str]) -> tuple[int, int]:
    """Process id and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    return pid, terminal


def hang_up(pid: int, terminal: int) -> None:
    """Close a terminal; what was started in it gets SIGHUP and ends."""
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) != 0


def watch_and_leave() -> None:
    with calling("runs", "attach", "forms") as watching:
        read_until("language", watching)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=PATIENCE_SECONDS)
    assert watching.returncode == 0, err
    assert "manako runs attach" in err


def go_on(recipe: Path) -> None:
    """Start it again, join it with the same call, and end that call as a container would."""
    before = steps()
    with calling("train", str(recipe)) as training:
        wait_until(lambda: is_held(RUN) and steps() > before, "steps after going on")
        with calling("train", str(recipe)) as joined:
            read_until("language", joined)
            joined.send_signal(signal.SIGTERM)
            _, joined_err = joined.communicate(timeout=PATIENCE_SECONDS)
        out, err = training.communicate(timeout=PATIENCE_SECONDS)
    assert "goes on already" in joined_err
    assert (joined.returncode, training.returncode) == (3, 3), err
    assert f"Going on from step {before:,}/1,000,000" in out
    assert f"manako train {recipe}" in out
    assert read_run(RUN).state == "stopped"
    resumed = read_record(RUN / "record.jsonl").of_kind("resumed")
    assert [event["step"] for event in resumed] == [before]


@contextlib.contextmanager
def calling(*args: str) -> Iterator[subprocess.Popen[str]]:
    """A call in a process of its own, which is gone when the block ends."""
    process = subprocess.Popen(
        [*MANAKO, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert any(word in line for line in process.stdout), f"{word!r} never came"


def test_a_start_that_fails_says_why_and_ends_with_its_code(call: Call, recipe: Path) -> None:
    result = call("train", recipe, "--set", "pack_tokens=8", "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)["error"]
    assert found["kind"] == "TooLongError"
    assert "too_long" in found["next_step"]
    assert read_run(RUN).state == "failed"


@pytest.mark.parametrize("field", ["model", "data.0.path"])
def test_what_is_no_model_or_data_is_refused_before_anything_starts(
    call: Call, recipe: Path, tmp_path: Path, field: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = call("train", recipe, "--set", f"{field}={empty}")
    assert result.exit_code == 2
    assert str(empty) in result.stderr
    assert not RUN.exists()


def test_a_run_in_the_foreground_ends_with_its_weights(call: Call, recipe: Path) -> None:
    result = call("train", recipe, "--foreground", "--set", "max_steps=2")
    assert result.exit_code == 0, result.output
    assert "Training language full at 0.0001" in result.stdout
    assert "step-2" in result.stdout
    assert read_run(RUN).state == "finished"
    assert "step-2" in call("runs", "attach", RUN).stdout
    assert "not running" in call("runs", "stop", RUN).stdout
    assert "finished" in call("runs", "list").stdout


def test_a_killed_run_shows_the_end_of_its_log(call: Call) -> None:
    RUN.mkdir(parents=True)
    state = {"state": "running", "step": 3, "total_steps": 9, "pid": 1, "checkpoint": "c"}
    (RUN / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (RUN / "train.log").write_text("the last words\n", encoding="utf-8")
    result = call("runs", "attach", "forms")
    assert result.exit_code == 1
    assert "the last words" in result.stderr
    assert "manako train runs/forms/recipe.yaml" in result.stderr


def test_no_runs_is_no_error(call: Call) -> None:
    assert "no run in runs" in call("runs", "list").stdout
    assert json.loads(call("runs", "list", "--json").stdout) == []
