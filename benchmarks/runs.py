"""One recipe's training, timed: as our run does it, by hand, and by TRL.

All train the same weights in the same precision, take the same number of steps of about as many
tokens, and are timed from the end of the last step that does not count. Opening a model is not timed.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from benchmarks import plain_loop, trl_peer

if TYPE_CHECKING:
    from manako.core.family import Processor
    from manako.core.recipe import Recipe
    from manako.data.step import Step

OURS, BARE = "Manako, run", "bare loop, the same packs ready"
READY = "Manako, run, the same packs ready"
PADDED, PEER = "padded loop, batches ready", "TRL SFTTrainer"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Real tokens and seconds of the steps that count.

    data_wait_seconds: per step, where it is known. peak_bytes: of the accelerator, of everything
    from opening the model on; None on a CPU, where one process holds all contestants.
    """

    tokens: int
    seconds: float
    data_wait_seconds: float | None = None
    peak_bytes: int | None = None

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True)
class World:
    """A recipe, the steps that a run makes of it, and what the peers need to do the same.

    theirs: transformers' processor; dataset: the rows as `datasets` shows them.
    """

    folder: Path
    recipe: Recipe
    processor: Processor
    steps: tuple[Step, ...]
    warmup_steps: int
    device: str
    theirs: Any
    dataset: Any
    runs: Iterator[int]

    @property
    def timed(self) -> tuple[Step, ...]:
        return self.steps[self.warmup_steps :]

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.timed)

    @property
    def batch_rows(self) -> int:
        """Rows of a batch that holds about as many tokens as a pack."""
        return max(1, round(fmean(len(step.packs[0].examples) for step in self.steps)))

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.recipe.bf16 else torch.float32

    def next_folder(self) -> Path:
        """A folder that no run has had."""
        return self.folder / f"run-{next(self.runs)}"


def make_world(
    folder: Path, recipe: Recipe, *, warmup_steps: int, device: str, backend: str
) -> World:
    """Read the steps of a recipe of one source, and open what the peers read. backend: of
    transformers' image processor."""
    from manako.core.family import family_of

    model = Path(recipe.model)
    family = family_of(model)
    processor = family.open(model)
    return World(
        folder=folder,
        recipe=recipe,
        processor=processor,
        steps=_steps(recipe, processor),
        warmup_steps=warmup_steps,
        device=device,
        theirs=trl_peer.open_processor(model, family=family.name, backend=backend),
        dataset=trl_peer.open_dataset(Path(recipe.data[0].path), folder / "cache"),
        runs=itertools.count(),
    )


def _steps(recipe: Recipe, processor: Processor) -> tuple[Step, ...]:
    """What the loader will give the run: the order is computed, not remembered."""
    from manako.data.loader import Loader
    from manako.data.settings import LoaderSettings
    from manako.data.store import Store
    from manako.data.too_long import Fitted

    fitted = Fitted(processor=processor, pack_tokens=recipe.pack_tokens, policy=recipe.too_long)
    with Loader(
        LoaderSettings.of(recipe),
        {source.name: Store.open(source.path) for source in recipe.data},
        measure=fitted.measure,
        encode=fitted.encode,
        fingerprint=processor.fingerprint,
        workers=0,
    ) as loader:
        return tuple(loader)


class _Done(Exception):
    """All steps are timed: the checkpoint that would follow, 20 GB of a 2B model, is not written."""


def ours(world: World, **changes: Any) -> Timed:
    """`manako train`'s own loop: loader, workers, step, record; `changes` to the recipe."""
    from manako.train.loop import run_training

    ends: list[float] = []
    waits: list[float] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step":
            ends.append(time.perf_counter())
            waits.append(event["data_wait_seconds"])
            if len(ends) == len(world.steps):
                raise _Done

    recipe = world.recipe.replace(output_dir=str(world.next_folder()), **changes)
    with _memory(world) as peak, contextlib.suppress(_Done):
        run_training(recipe, listener=listen)
    seconds = ends[-1] - ends[world.warmup_steps - 1]
    wait = fmean(waits[world.warmup_steps :])
    return Timed(tokens=world.tokens, seconds=seconds, data_wait_seconds=wait, peak_bytes=peak())


def ready(world: World) -> Timed:
    """Our loop on packs that lie ready, with no worker: what is between it and `ours` is the
    making of the packs, what is between it and `bare` is the loop."""
    from manako.data.loader import Loader

    class Ready(Loader):
        def check_first(self) -> None:
            """Nothing: the first step lies ready too."""

        def __next__(self) -> Step:
            step = world.steps[self._position.step]
            self._position = replace(self._position, step=step.number)
            return step

    with mock.patch("manako.train.setup.Loader", Ready):
        return ours(world)


def bare(world: World) -> Timed:
    """The step alone, on the very packs of our run."""
    where = {"device": world.device, "dtype": world.dtype}
    with _memory(world) as peak:
        model = plain_loop.open_packed(world.recipe, world.device)
        batches = [
            plain_loop.packed_batch(step.packs[0], world.processor, **where) for step in world.steps
        ]
        seconds = _timed(world, model, plain_loop.train_packed, batches)
        del model, batches
    return Timed(tokens=world.tokens, seconds=seconds, peak_bytes=peak())


def padded(world: World) -> Timed:
    """The step alone, on the rows of our packs filled up to the longest."""
    with _memory(world) as peak:
        model = plain_loop.open_padded(world.recipe, world.device)
        batches = [
            plain_loop.padded_batch(
                step.packs[0].examples, world.processor, device=world.device, dtype=world.dtype
            )
            for step in world.steps
        ]
        seconds = _timed(world, model, plain_loop.train_padded, batches)
        del model, batches
    return Timed(tokens=world.tokens, seconds=seconds, peak_bytes=peak())


def _timed(world: World, model: Any, train: Any, batches: Sequence[Any]) -> float:
    optimizer = plain_loop.adamw(model, world.recipe)
    computing = plain_loop.autocast(world.device, world.recipe)
    train(model, batches[: world.warmup_steps], optimizer, computing)
    _wait(world.device)
    start = time.perf_counter()
    train(model, batches[world.warmup_steps :], optimizer, computing)
    _wait(world.device)
    return time.perf_counter() - start


def trl(world: World) -> Timed:
    """SFTTrainer with its default collator: its own batches of the same rows."""
    with _memory(world) as peak:
        found = trl_peer.train(
            plain_loop.open_padded(world.recipe, world.device),
            world.dataset,
            world.theirs,
            world.next_folder(),
            batch_rows=world.batch_rows,
            steps=len(world.steps),
            warmup_steps=world.warmup_steps,
            learning_rate=world.recipe.part_settings()["language"].learning_rate,
            dataloader_num_workers=world.recipe.dataloader_num_workers,
            bf16=world.recipe.bf16,
            use_cpu=world.device == "cpu",
        )
    return Timed(tokens=found["tokens"], seconds=found["seconds"], peak_bytes=peak())


def describe(world: World) -> dict[str, float]:
    """What the steps are like."""
    packs = [step.packs[0] for step in world.timed]
    rows = sum(len(pack.examples) for pack in packs)
    room = sum(max(e.tokens for e in pack.examples) * len(pack.examples) for pack in packs)
    images = [image for pack in packs for image in pack.images]
    return {
        "steps": len(packs),
        "rows_per_pack": round(rows / len(packs), 1),
        "tokens_per_row": round(world.tokens / rows, 1),
        "pictures_per_row": round(len(images) / rows, 2),
        "image_token_share": round(sum(image.tokens for image in images) / world.tokens, 3),
        "trained_token_share": round(sum(p.trained_tokens for p in packs) / world.tokens, 3),
        "pack_fill": round(fmean(pack.fill for pack in packs), 4),
        "padded_fill": round(world.tokens / room, 4),
    }


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


@contextlib.contextmanager
def _memory(world: World) -> Iterator[Any]:
    """Give what the one before left, and then the peak of this one."""
    is_cuda = world.device != "cpu"
    gc.collect()
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() if is_cuda else None
