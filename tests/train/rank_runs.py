"""Runs of one or several ranks, and how they compare: for the tests of ranks and of sharding."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from manako.core.errors import ManakoError
from manako.core.recipe import Recipe
from manako.core.record import read_record
from manako.nn import adapters

STEPS = 20
TOLERANCE = 1e-5
"""Of the loss, and of each tensor by norm. Float32 sums in another order: one process adds packs
one by one, two add half each and then both, which differs in the last bits."""
EPSILON = 1e-5
"""Of AdamW, above the rounding of the gradients. With the default of 1e-8 one kind of tensor leaves
the tolerance (measured: 2.5e-4), `k_proj.bias`: attention takes no notice of what is added to all
keys alike, so but for the rotation its gradient is zero, and what is left (5e-9) is rounding, which
AdamW makes as large as every other step. See `test_with_the_default_epsilon`."""
SLOWEST_SECONDS = 120.0


@dataclass(frozen=True)
class Ended:
    """What the ranks of a run left."""

    folder: Path
    run: Path
    codes: list[int]

    def out(self, rank: int) -> str:
        return (self.folder / f"rank-{rank}.out").read_text(encoding="utf-8")

    def err(self, rank: int) -> str:
        return (self.folder / f"rank-{rank}.err").read_text(encoding="utf-8")

    def packs(self, rank: int) -> list[dict[str, Any]]:
        file = self.folder / f"rank-{rank}.packs"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return [json.loads(line) for line in lines]

    @property
    def all_packs(self) -> list[dict[str, Any]]:
        packs = [pack for rank in range(len(self.codes)) for pack in self.packs(rank)]
        return sorted(packs, key=lambda pack: int(pack["number"]))

    @property
    def losses(self) -> dict[int, float]:
        events = read_record(self.run / "record.jsonl").of_kind("step")
        return {event["step"]: event["loss"] for event in events}

    @property
    def evals(self) -> dict[int, float]:
        events = read_record(self.run / "record.jsonl").of_kind("eval")
        return {event["step"]: event["loss"] for event in events}

    def weights(self, step: int = STEPS) -> dict[str, torch.Tensor]:
        folder = self.run / "checkpoints" / f"step-{step}"
        name = adapters.ADAPTER if (folder / adapters.ADAPTER).exists() else "model.safetensors"
        return load_file(folder / name)


class Zygote:
    """Starts runs of one or several ranks, one run at a time."""

    def __init__(self) -> None:
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(here) / "rank_zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MANAKO_LANG": "en"}
            | {"TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"},
        )
        self._said = b""
        self._started = (Path(), Path())
        self.pids: list[int] = []
        self.answer("ready")

    def start(
        self,
        recipe: Recipe,
        folder: Path,
        size: int,
        *,
        fails_at: tuple[int, int] = (-1, 0),
        dies: tuple[int, int, str] | None = None,
        also: Sequence[str] = (),
    ) -> list[int]:
        """Start a run; the process ids of its ranks. also: more arguments of the last rank."""
        folder.mkdir(parents=True)
        file = folder / "recipe.yaml"
        file.write_text(recipe.to_yaml(), encoding="utf-8")
        call = ["train", str(file), "--foreground"]
        asked = {
            "arguments": [call] * (size - 1) + [[*call, *also]],
            "port": free_port(),
            "folder": str(folder),
            "fails_at": fails_at,
            "dies": dies,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        self._started = (folder, Path(recipe.output_dir))
        self.pids = json.loads(self.answer("pids"))
        return self.pids

    def ended(self) -> Ended:
        """Wait until all ranks have ended."""
        codes = json.loads(self.answer("ends"))
        self.pids = []
        return Ended(*self._started, codes)

    def answer(self, word: str) -> str:
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + SLOWEST_SECONDS
        while b"\n" not in self._said:
            left = deadline - time.monotonic()
            assert left > 0, f"no {word!r} within {SLOWEST_SECONDS} s"
            if select.select([descriptor], [], [], left)[0]:
                read = os.read(descriptor, 1 << 16)
                assert read, f"the zygote ended before {word!r}"
                self._said += read
        line, _, self._said = self._said.partition(b"\n")
        assert line.startswith(word.encode()), line
        return line.decode().removeprefix(word).strip()

    def end_what_runs(self) -> None:
        """After a test that failed: nothing of it goes on."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.pids:
            self.ended()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


MakeRun = Callable[..., Recipe]


def start(zygote: Zygote, recipe: Recipe, size: int, **settings: Any) -> list[int]:
    place = Path(recipe.output_dir)
    folder = place.with_name(f"{place.name}-{size}-{len(list(place.parent.iterdir()))}")
    return zygote.start(recipe, folder, size, **settings)


def run(zygote: Zygote, recipe: Recipe, size: int) -> Ended:
    start(zygote, recipe, size)
    ended = zygote.ended()
    assert set(ended.codes) == {0}, (ended.codes, ended.err(0), ended.err(size - 1))
    said = [ended.out(rank) + ended.err(rank) for rank in range(1, size)]
    assert not any(said), said
    return ended


def wait_for_step(run_folder: Path, step: int) -> None:
    """Until the run has recorded that step."""
    deadline = time.monotonic() + SLOWEST_SECONDS
    while True:
        with contextlib.suppress(ManakoError):
            events = read_record(run_folder / "record.jsonl").of_kind("step")
            if any(event["step"] >= step for event in events):
                return
        assert time.monotonic() < deadline, f"step {step} did not come"
        time.sleep(0.01)


def differences(one: Ended, other: Ended, steps: int = STEPS) -> tuple[float, str, float]:
    """Largest relative difference of the loss, the worst tensor, and its difference by norm."""
    assert one.losses.keys() == other.losses.keys()
    loss = max(abs(one.losses[s] - other.losses[s]) / abs(one.losses[s]) for s in one.losses)
    by_name = by_norm_of(one, other, steps)
    worst = max(by_name, key=lambda name: by_name[name])
    return loss, worst, by_name[worst]


def by_norm_of(one: Ended, other: Ended, steps: int = STEPS) -> dict[str, float]:
    """Per tensor the norm of the difference, relative to the tensor's own."""
    before, after = one.weights(steps), other.weights(steps)
    assert before.keys() == after.keys()
    return {
        name: float((after[name] - before[name]).norm() / before[name].norm().clamp(min=1e-12))
        for name in before
    }


def check_alike(case: str, one: Ended, other: Ended, steps: int = STEPS) -> None:
    loss, worst, by_norm = differences(one, other, steps)
    print(f"{case} | loss {loss:.1e} | {worst} {by_norm:.1e}")  # noqa: T201
    assert loss < TOLERANCE
    assert by_norm < TOLERANCE, worst
    taken = [[pack["hash"] for pack in each.all_packs] for each in (one, other)]
    assert taken[0] == taken[1]


def pictures_by_rank(ended: Ended, step: int) -> tuple[bool, ...]:
    """Whether each rank had pictures in that step."""
    return tuple(
        any(pack["images"] for pack in ended.packs(rank) if pack["step"] == step)
        for rank in range(len(ended.codes))
    )
