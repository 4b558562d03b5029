"""The launchers themselves: torchrun and Accelerate, as docs/training.md calls them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from train_worlds import make_recipe

from manako.core.files import read_json
from manako.core.record import read_record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX"),
]

PAGE = Path(__file__).parent.parent.parent / "docs" / "training.md"
COMMANDS = [
    line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith(("torchrun ", "accelerate ")) and " -m manako " in line
]
SLOWEST_SECONDS = 180.0


@pytest.fixture
def folder(world: Any, tmp_path: Path) -> Path:
    """A folder with the recipe that the page names."""
    changes = {"cpu_threads": 1, "dataloader_num_workers": 1, "save_steps": 2}
    recipe = make_recipe(world.model, world.data, tmp_path / "run", **changes)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    return tmp_path


class Launcher:
    """A launcher with all that it starts; nothing of it outlives the test."""

    def __init__(self, command: str, folder: Path) -> None:
        program, *words = shlex.split(command)
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MANAKO_LANG": "en"}
            | {"TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"},
        )
        self.children: list[psutil.Process] = []

    def look(self) -> None:
        """Note the processes that run now."""
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def ended(self) -> str:
        said, _ = self.process.communicate(timeout=SLOWEST_SECONDS)
        assert not psutil.wait_procs(self.children, timeout=10)[1]
        return said

    def close(self) -> None:
        for process in self.children:
            if process.is_running():
                process.kill()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def started(folder: Path) -> Iterator[list[Launcher]]:
    launchers: list[Launcher] = []
    yield launchers
    for launcher in launchers:
        launcher.close()


def test_the_page_has_all() -> None:
    assert [command.split()[0] for command in COMMANDS] == ["torchrun", "accelerate", "accelerate"]
    assert ["--use_fsdp" in command for command in COMMANDS] == [False, False, True]


@pytest.mark.parametrize("command", COMMANDS, ids=["torchrun", "accelerate", "fsdp"])
def test_a_launcher_trains_in_two_processes(
    command: str, folder: Path, started: list[Launcher]
) -> None:
    started.append(Launcher(command, folder))
    said = started[0].ended()
    assert started[0].process.returncode == 0, said
    assert said.count("Finished after 6 steps") == 1
    record = read_record(folder / "run" / "record.jsonl")
    setup = record.of_kind("setup")[0]
    assert setup["world_size"] == 2
    assert setup.get("sharding") == ("fsdp2" if "--use_fsdp" in command else None)
    assert read_json(folder / "run" / "state.json")["state"] == "finished"


def wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + SLOWEST_SECONDS
    while not (run / "checkpoints" / f"step-{step}").is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start_long(folder: Path, started: list[Launcher]) -> Launcher:
    started.append(Launcher(f"{COMMANDS[0]} --set max_steps=5000", folder))
    wait_for_step(folder / "run", 2)
    started[0].look()
    return started[0]


def test_ctrl_c_stops_all_ranks_with_a_checkpoint(folder: Path, started: list[Launcher]) -> None:
    launcher = start_long(folder, started)
    launcher.process.send_signal(signal.SIGINT)
    said = launcher.ended()
    state = read_json(folder / "run" / "state.json")
    assert state["state"] == "stopped", said
    assert (folder / "run" / "checkpoints" / f"step-{state['step']}").is_dir()
    assert said.count("Stopped at step") == 1
    assert read_json(folder / "run" / "process.json")["exit_code"] == 3


@pytest.mark.kill
def test_a_killed_rank_ends_the_launcher_and_all_that_it_started(
    folder: Path, started: list[Launcher]
) -> None:
    launcher = start_long(folder, started)
    first = read_json(folder / "run" / "process.json")["pid"]
    ranks = [each for each in launcher.children if each.ppid() == launcher.process.pid]
    (other,) = (each for each in ranks if each.pid != first)
    other.kill()
    said = launcher.ended()
    assert launcher.process.returncode != 0
    assert "rank 0 of 2 waited at step" in said
    assert "no answer, killed or hanging" in said
    assert read_json(folder / "run" / "state.json")["state"] == "failed"
