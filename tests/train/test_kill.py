"""Killed at any moment and started again, a run takes the same batches and ends in the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from train_worlds import make_recipe

from manako.core.files import read_json
from manako.core.recipe import Evaluation, Recipe
from manako.core.record import read_record

pytestmark = [
    pytest.mark.kill,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

SEED = 20251124
DELAYS = 20
STEPS = 8
SAVE_STEPS = 3
PHASES = [
    ("half of model.safetensors", 1),
    ("half of model.safetensors", 2),
    ("half of optimizer.safetensors", 2),
    ("half of rng.safetensors", 1),
    ("half of trainer.json", 2),
    ("before the flush", 2),
    ("before the rename", 1),
    ("before the rename", 3),
    ("after the rename", 2),
    ("half deleted", 1),
    ("before the state", 3),
]
"""Moments inside a checkpoint's life, and at which of the run's checkpoints."""
ANSWER_SECONDS = 120.0
COMPARED = ("model.safetensors", "optimizer.safetensors", "rng.safetensors")


class Zygote:
    """Starts training runs in processes of their own, one at a time."""

    def __init__(self) -> None:
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(here) / "train_zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            | {"TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"},
        )
        self._said = b""
        self.answer("ready")

    def start(self, recipe: Recipe, hashes: Path, hold: tuple[str, int] | None = None) -> int:
        """Start a run; the process id of its child."""
        asked = {"recipe": recipe.to_dict(), "hashes": str(hashes), "hold": hold}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return int(self.answer("pid"))

    def answer(self, word: str, seconds: float = ANSWER_SECONDS) -> str:
        """The rest of the next line, which must begin with `word`."""
        line = self.line(seconds)
        assert line is not None, f"no {word!r} within {seconds} s"
        assert line.startswith(word), line
        return line.removeprefix(word).strip()

    def line(self, seconds: float) -> str | None:
        """The next line, None where there is none within `seconds`."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._said:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return None
            self._said += os.read(descriptor, 1 << 16)
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def ended(self) -> int:
        """Wait until the child has ended; its exit code, or minus the signal that killed it."""
        return int(self.answer("end"))

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclasses.dataclass(frozen=True)
class Left:
    """What a run that was left alone took, and left behind."""

    seconds: float
    batches: dict[int, str]
    files: dict[str, bytes]
    losses: list[tuple[int, float]]
    evals: list[tuple[int, float]]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


MakeRun = Callable[[str], Recipe]


@pytest.fixture(scope="module")
def make_run(world: Any, tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    folder = tmp_path_factory.mktemp("runs")

    def make(name: str, **changes: Any) -> Recipe:
        evaluation = Evaluation(data=str(world.held_out), every_steps=STEPS, max_rows=4)
        fields = {"max_steps": STEPS, "save_steps": SAVE_STEPS, "optim": "muon", **changes}
        fields["global_batch_packs"] = 1
        return make_recipe(
            world.model, world.data, folder / name, eval=evaluation, save_total_limit=1, **fields
        )

    return make


def run_whole(zygote: Zygote, recipe: Recipe) -> Left:
    hashes = hashes_of(recipe)
    begun = time.monotonic()
    zygote.start(recipe, hashes)
    assert zygote.ended() == 0
    return left_by(recipe, time.monotonic() - begun)


@pytest.fixture(scope="module")
def alone(zygote: Zygote, make_run: MakeRun) -> Left:
    left = run_whole(zygote, make_run("alone"))
    assert sorted(left.batches) == list(range(1, STEPS + 1))
    return left


def hashes_of(recipe: Recipe) -> Path:
    return Path(recipe.output_dir + ".hashes")


def left_by(recipe: Recipe, seconds: float) -> Left:
    lines = hashes_of(recipe).read_text(encoding="ascii").splitlines()
    taken = [(int(step), digest) for step, digest in (line.split() for line in lines)]
    assert len(set(taken)) == len(dict(taken)), "a step saw two different batches"
    checkpoint = Path(recipe.output_dir) / "checkpoints" / f"step-{recipe.max_steps}"
    record = read_record(Path(recipe.output_dir) / "record.jsonl")
    return Left(
        seconds,
        dict(taken),
        {name: (checkpoint / name).read_bytes() for name in COMPARED},
        [(event["step"], event["loss"]) for event in record.of_kind("step")],
        [(event["step"], event["loss"]) for event in record.of_kind("eval")],
    )


def finish(zygote: Zygote, recipe: Recipe, alone: Left) -> None:
    """Start the run again, and compare what it took and left with the run left alone."""
    state = read_json(Path(recipe.output_dir) / "state.json") if has_state(recipe) else {}
    if state.get("state") != "finished":
        zygote.start(recipe, hashes_of(recipe))
        assert zygote.ended() == 0
    left = left_by(recipe, 0.0)
    assert left.batches == alone.batches
    assert left.losses == alone.losses
    assert left.evals == alone.evals
    assert left.files == alone.files
    names = [path.name for path in (Path(recipe.output_dir) / "checkpoints").iterdir()]
    assert names == [f"step-{recipe.max_steps}"]


def has_state(recipe: Recipe) -> bool:
    return (Path(recipe.output_dir) / "state.json").is_file()


@pytest.mark.parametrize("number", range(DELAYS))
def test_killed_after_a_random_while(
    zygote: Zygote, make_run: MakeRun, alone: Left, number: int
) -> None:
    """The moments are spread over the whole run, its start included; a busy machine shifts them."""
    share = (number + random.Random(SEED + number).random()) / DELAYS
    steps, rest = divmod(share * (STEPS + 1), 1)
    seconds = rest * alone.seconds / (STEPS + 1)
    for attempt in range(9):
        recipe = make_run(f"delay-{number}-{attempt}")
        child = zygote.start(recipe, hashes_of(recipe))
        wait_for_batches(hashes_of(recipe), int(steps))
        if zygote.line(seconds / 2**attempt) is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            if zygote.ended() == -signal.SIGKILL:
                break
        # It was faster than the run left alone, by a little or by much: sooner, then.
    else:
        pytest.fail("every run ended before it was killed")
    finish(zygote, recipe, alone)


def wait_for_batches(hashes: Path, count: int) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while count and not (hashes.is_file() and hashes.read_bytes().count(b"\n") >= count):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(("phase", "number"), PHASES)
def test_killed_inside_a_checkpoint(
    zygote: Zygote, make_run: MakeRun, alone: Left, phase: str, number: int
) -> None:
    recipe = make_run(f"{phase}-{number}".replace(" ", "-"))
    child = zygote.start(recipe, hashes_of(recipe), (phase, number))
    zygote.answer("held")
    os.kill(child, signal.SIGKILL)
    assert zygote.ended() == -signal.SIGKILL
    finish(zygote, recipe, alone)


def test_killed_again_and_again(zygote: Zygote, make_run: MakeRun, alone: Left) -> None:
    recipe = make_run("again")
    for phase, number in PHASES[::2]:
        child = zygote.start(recipe, hashes_of(recipe), (phase, number))
        if zygote.line(ANSWER_SECONDS) != "held":  # no such moment was left: it has finished
            break
        os.kill(child, signal.SIGKILL)
        assert zygote.ended() == -signal.SIGKILL
    finish(zygote, recipe, alone)


def test_killed_with_worker_processes(zygote: Zygote, make_run: MakeRun, alone: Left) -> None:
    recipe = make_run("workers", dataloader_num_workers=1)  # type: ignore[call-arg]
    child = zygote.start(recipe, hashes_of(recipe), ("after the rename", 1))
    zygote.answer("held")
    os.kill(child, signal.SIGKILL)
    assert zygote.ended() == -signal.SIGKILL
    finish(zygote, recipe, alone)


def test_asked_to_stop_it_saves_and_says_so(zygote: Zygote, make_run: MakeRun, alone: Left) -> None:
    recipe = make_run("stopped")
    child = zygote.start(recipe, hashes_of(recipe), ("after the rename", 1))
    zygote.answer("held")
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGHUP)  # its terminal closes
    assert zygote.ended() == 3
    state = read_json(Path(recipe.output_dir) / "state.json")
    assert state["state"] == "stopped"
    assert state["checkpoint"] == f"checkpoints/step-{state['step']}"
    finish(zygote, recipe, alone)


def test_the_terminal_may_close(zygote: Zygote, make_run: MakeRun, alone: Left) -> None:
    recipe = make_run("hangup")
    child = zygote.start(recipe, hashes_of(recipe), ("after the rename", 1))
    zygote.answer("held")
    os.kill(child, signal.SIGHUP)
    assert zygote.line(0.2) is None
    os.kill(child, signal.SIGKILL)
    assert zygote.ended() == -signal.SIGKILL
    finish(zygote, recipe, alone)
