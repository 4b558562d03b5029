"""Where a run stands is read from its files and its locks, whatever happened to its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from manako.core.errors import InputError, MissingFileError
from manako.core.record import RecordWriter
from manako.verbs.runs import (
    ask_to_stop,
    find_run,
    hold,
    is_held,
    list_runs,
    log_tail,
    read_run,
    state_now,
    wait_for_end,
)

LONG_AGO, NOW = 1_000_000.0, time.time()


def write_state(folder: Path, state: str, *, written: float = NOW + 60, **fields: Any) -> None:
    values = {"state": state, "step": 5, "total_steps": 9, "pid": 1, "checkpoint": "c", **fields}
    path = folder / "state.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    os.utime(path, (written, written))


def write_process(folder: Path, **fields: Any) -> None:
    values = {"pid": 1, "started": NOW, "exit_code": None, "error": None, **fields}
    (folder / "process.json").write_text(json.dumps(values), encoding="utf-8")


ERROR = {"kind": "RowError", "message": "row 3 is broken", "next_step": "drop it"}
REFUSED = {"kind": "ResumeError", "message": "nothing remains", "next_step": ""}


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_run_that_ended_is_what_it_says(tmp_path: Path, state: str) -> None:
    write_state(tmp_path, state)
    write_process(tmp_path, exit_code=0)
    found = read_run(tmp_path)
    assert (found.state, found.step, found.total_steps) == (state, 5, 9)
    assert not found.is_alive


def test_running_without_a_process_is_killed(tmp_path: Path) -> None:
    write_state(tmp_path, "running")
    assert read_run(tmp_path).state == "killed"


def test_an_old_state_does_not_speak_for_a_new_process(tmp_path: Path) -> None:
    write_state(tmp_path, "finished", written=LONG_AGO)
    write_process(tmp_path)
    assert read_run(tmp_path).state == "killed"
    write_process(tmp_path, exit_code=3)
    assert read_run(tmp_path).state == "stopped"
    write_process(tmp_path, exit_code=1, error=ERROR)
    assert read_run(tmp_path).state == "failed"
    with hold(tmp_path):
        assert read_run(tmp_path).state == "starting"


def test_a_failure_keeps_message_and_next_step(tmp_path: Path) -> None:
    write_process(tmp_path, exit_code=2, error=ERROR)
    found = read_run(tmp_path)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.next_step) == ("RowError", "drop it")
    assert found.exit_code == 2


def test_a_start_that_was_refused_leaves_the_run_as_it_stood(tmp_path: Path) -> None:
    write_state(tmp_path, "finished", written=LONG_AGO)
    write_process(tmp_path, exit_code=2, error=REFUSED)
    found = read_run(tmp_path)
    assert found.state == "finished"
    assert found.failure is not None


def test_a_held_run_with_a_fresh_state_is_running(tmp_path: Path) -> None:
    write_process(tmp_path, pid=4321)
    write_state(tmp_path, "running")
    with hold(tmp_path):
        found = read_run(tmp_path)
        assert (found.state, found.pid, found.is_alive) == ("running", 4321, True)
        assert state_now(tmp_path) == "running"
    assert not is_held(tmp_path)


def test_two_cannot_hold_one_run(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(InputError, match="going on"), hold(tmp_path):
        pass
    with hold(tmp_path):
        assert is_held(tmp_path)


def test_the_lock_of_training_alone_counts_too(tmp_path: Path) -> None:
    from manako.train.run_folder import RunFolder

    with RunFolder(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(InputError, match="going on"), hold(tmp_path):
            pass
    assert not is_held(tmp_path)


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from manako.verbs.runs import hold
with hold(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert is_held(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not is_held(tmp_path)


def test_a_record_says_how_far_a_run_is(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "record.jsonl", verb="train") as record:
        record.write("setup", total_steps=40)
        record.write("step", step=3, loss=2.0)
        record.write("step", step=4, loss=1.0)
    found = read_run(tmp_path)
    assert (found.step, found.total_steps, found.loss) == (4, 40, 1.5)


def test_the_record_is_ahead_of_the_state_that_a_resumed_run_began_with(tmp_path: Path) -> None:
    write_state(tmp_path, "running")
    with RecordWriter(tmp_path / "record.jsonl", verb="train") as record:
        record.write("step", step=7, loss=1.0)
    assert read_run(tmp_path).step == 7


def test_runs_are_listed_latest_first_and_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(("old", "new")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        write_state(folder, "finished", written=LONG_AGO + place)
    (tmp_path / "runs" / "no-run").mkdir()
    assert [run.name for run in list_runs()] == ["new", "old"]
    assert find_run("old") == Path("runs/old")
    assert find_run(tmp_path / "runs" / "new") == tmp_path / "runs" / "new"
    with pytest.raises(MissingFileError, match="nothing") as raised:
        find_run("nothing")
    assert "new, old" in raised.value.next_step


def test_no_folder_of_runs_is_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "runs") == []


def test_a_run_that_is_over_cannot_be_asked_to_stop(tmp_path: Path) -> None:
    write_state(tmp_path, "finished")
    assert not ask_to_stop(tmp_path)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    write_state(tmp_path, "running")
    with hold(tmp_path):
        assert wait_for_end(tmp_path, timeout_seconds=0.01, poll_seconds=0.001).is_alive


def test_the_end_of_the_log(tmp_path: Path) -> None:
    assert log_tail(tmp_path) == ""
    (tmp_path / "train.log").write_text("一\n二\n三\n", encoding="utf-8")
    assert log_tail(tmp_path, lines=2) == "二\n三"


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (InputError("wrong"), "failed", 2),
        (RuntimeError("surprise"), "failed", 1),
        (KeyboardInterrupt(), "stopped", 3),
    ],
)
def test_how_training_ended_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, state: str, code: int
) -> None:
    from manako.core.recipe import Recipe, Source
    from manako.verbs.tune import train

    def run_training(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("manako.train.loop.run_training", run_training)
    recipe = Recipe(model="m", data=(Source(path="d"),), output_dir=str(tmp_path))
    with pytest.raises(type(error)):
        train(recipe)
    found = read_run(tmp_path)
    assert (found.state, found.exit_code) == (state, code)
