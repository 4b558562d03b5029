"""A process that has imported everything and forks the ranks of a run, one run at a time.

Reads lines of JSON from its input: {arguments (of each rank), port, folder, fails_at, dies}. Answers two lines each: `pids`
with the process id of each rank, and `ends` with how each ended (below zero: the signal that
killed it). Forking after the imports makes a start cost a tenth of a second instead of six.

A rank is the command line itself: `manako ARGUMENTS` with what torchrun puts into the environment.
What it prints goes to FOLDER/rank-N.out and .err; the packs that it takes go to rank-N.packs, one
line of JSON each: {step, number, rows, images, hash}. With `fails_at` = [rank, step] that rank
raises a `WorkerError` instead of taking that step; with step 0 it is sent SIGTERM while it opens
the run. With `dies` = [rank, step, "forward" or "backward"] it is killed in the middle of the model.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import accelerate.state  # noqa: F401 - imported before the fork
import peft.tuners.lora  # noqa: F401
import pyarrow.parquet  # noqa: F401
import torch
import torch.distributed  # noqa: F401
import transformers.models.qwen2_vl.modeling_qwen2_vl  # noqa: F401

from manako.cli.root import ROOT
from manako.core.errors import WorkerError
from manako.data.loader import Loader
from manako.data.step import Step, batch_hash
from manako.train import loop, setup


class WrittenLoader(Loader):
    """Writes down the packs that it hands out for training on this rank."""

    file = Path()
    fails_at = -1

    def check_first(self) -> None:
        if self.fails_at == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        super().check_first()

    def __next__(self) -> Step:
        if self.step + 1 == self.fails_at:
            raise WorkerError("the disk is on fire", next_step="fetch water")
        step = super().__next__()
        lines = [
            {
                "step": step.number,
                "number": pack.number,
                "rows": [example.id for example in pack.examples],
                "images": len(pack.images),
                "hash": batch_hash(Step(number=step.number, packs=(pack,))),
            }
            for pack in step.packs
            if pack.examples
        ]
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return step


def main() -> None:
    torch.set_num_threads(1)
    say("ready")
    asking = os.fdopen(os.dup(0), encoding="utf-8")  # the command line sets up `sys.stdin` anew
    for line in asking:
        asked = json.loads(line)
        children = []
        for rank in range(len(asked["arguments"])):
            child = os.fork()
            if child == 0:
                run_rank(rank, asked)
            children.append(child)
        say("pids " + json.dumps(children))
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        say("ends " + json.dumps(ends))


def run_rank(rank: int, asked: dict[str, Any]) -> None:
    """Run the command line, then leave without the parent's clean-up."""
    code = 1
    folder = Path(asked["folder"])
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / f"rank-{rank}.{name}", os.O_WRONLY | os.O_CREAT), number)
        size = len(asked["arguments"])
        if size > 1:
            os.environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(asked["port"]),
            }
        WrittenLoader.file = folder / f"rank-{rank}.packs"
        failing, step = asked["fails_at"]
        WrittenLoader.fails_at = step if failing == rank else -1
        if asked["dies"] and asked["dies"][0] == rank:
            die_within(*asked["dies"][1:])
        setup.Loader = WrittenLoader  # type: ignore[misc]
        ROOT(asked["arguments"][rank])
    except SystemExit as done:
        code = int(done.code or 0)
    except BaseException:  # noqa: BLE001 - into the file of this rank
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_within(step: int, when: str) -> None:
    """Let the second language layer kill this process when it computes that step."""
    real = loop.training_step

    def dying(model: Any, batches: Any, **others: Any) -> Any:
        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        dying.calls += 1  # type: ignore[attr-defined]
        if dying.calls == step:  # type: ignore[attr-defined]
            layer = model.get_decoder().layers[1]
            if when == "forward":
                layer.mlp.register_forward_hook(die)
            else:
                layer.mlp.register_full_backward_hook(die)
        return real(model, batches, **others)

    dying.calls = 0  # type: ignore[attr-defined]
    loop.training_step = dying  # type: ignore[assignment]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
