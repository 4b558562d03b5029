"""Tokens per second of training: python -m benchmarks.cpu.train_loop [--data forms|pages]

Our run (`manako train`'s own loop: loader with one worker, step, record) beside a bare PyTorch loop
whose packs lie ready, the same model in a padded loop whose batches lie ready, and TRL's SFTTrainer
with its default collator and one worker on the same files. Every contestant takes the same number of
steps of about as many tokens, in float32, with fused AdamW over all weights, in one thread. Tokens
are real ones: padding does not count. Opening a model is not timed, nor are the first steps.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import measure, plain_loop, rows, trl_peer

if TYPE_CHECKING:
    from manako.core.family import Processor
    from manako.core.recipe import Recipe
    from manako.data.step import Step

WARMUP_STEPS = 4
RATE = 1e-3
OURS, BARE = "Manako, run", "bare loop, the same packs ready"
PADDED, PEER = "padded loop, batches ready", "TRL SFTTrainer"
QUICKSTART = {  # `samples/quickstart_model.yaml`; its vocabulary is the data's
    "vision_width": 96,
    "width": 128,
    "layers": 3,
    "ffn_width": 256,
    "mrope_section": (2, 2, 12),
    "initializer_range": 0.05,
    "min_pixels": 784,
    "max_pixels": 50176,
    "system_turn": False,
}


@dataclass(frozen=True, kw_only=True)
class World:
    """One model, one data set, and the steps that our run makes of it."""

    folder: Path
    model: Path
    data: Path
    recipe: Recipe
    processor: Processor
    theirs: Any
    dataset: Any
    steps: tuple[Step, ...]
    batch_rows: int
    runs: Any

    @property
    def timed(self) -> tuple[Step, ...]:
        return self.steps[WARMUP_STEPS:]


def make_world(folder: Path, options: argparse.Namespace, backend: str) -> World:
    """Data, a model of the quickstart's size with random weights, and what reads them."""
    from manako.core.recipe import Recipe, Source
    from manako.families.qwen2_vl import FAMILY

    data = _forms(folder) if options.data == "forms" else rows.write_rows(folder / "pages", 400)
    model = rows.make_checkpoint(folder / "model", **QUICKSTART)
    recipe = Recipe(
        model=str(model),
        data=(Source(path=str(data)),),
        output_dir=str(folder / "run"),
        train=dict.fromkeys(("vision", "projector", "language"), str(RATE)),
        lr_scheduler_type="constant",
        pack_tokens=options.pack_tokens,
        global_batch_packs=1,
        max_steps=WARMUP_STEPS + options.steps,
        save_steps=10**6,
        cpu_threads=1,
    )
    steps = _steps(recipe, FAMILY.open(model))
    return World(
        folder=folder,
        model=model,
        data=data,
        recipe=recipe,
        processor=FAMILY.open(model),
        theirs=trl_peer.open_processor(model, backend=backend),
        dataset=trl_peer.open_dataset(data, folder / "cache"),
        steps=steps,
        batch_rows=max(1, round(fmean(len(step.packs[0].examples) for step in steps))),
        runs=itertools.count(),
    )


def _forms(folder: Path) -> Path:
    """The quickstart's longest forms, stored as `manako data convert` stores them."""
    from manako.data.convert import convert
    from manako.samples.forms import write_forms

    counts = {"one": 64, "short": 64, "long": 1500}
    write_forms(folder / "raw", rows=counts, test_questions_per_kind=16)
    convert(folder / "raw" / "long", folder / "forms")
    return folder / "forms"


def _steps(recipe: Recipe, processor: Processor) -> tuple[Step, ...]:
    """What the loader will give the run: the order is computed, not remembered."""
    from manako.data.loader import Loader
    from manako.data.settings import LoaderSettings
    from manako.data.store import Store
    from manako.data.too_long import Fitted

    fitted = Fitted(processor=processor, pack_tokens=recipe.pack_tokens, policy="error")
    with Loader(
        LoaderSettings.of(recipe),
        {source.name: Store.open(source.path) for source in recipe.data},
        measure=fitted.measure,
        encode=fitted.encode,
        fingerprint=processor.fingerprint,
        workers=0,
    ) as loader:
        return tuple(loader)


def ours(world: World) -> float:
    """Tokens per second of a whole run, from the end of its last step that does not count."""
    from manako.train.loop import run_training

    ends: list[float] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step":
            ends.append(time.perf_counter())

    output = str(world.folder / f"run-{next(world.runs)}")
    run_training(world.recipe.replace(output_dir=output), listener=listen)
    tokens = sum(step.tokens for step in world.timed)
    return tokens / (ends[-1] - ends[WARMUP_STEPS - 1])


def bare(world: World) -> float:
    """Tokens per second of the step alone, on the very packs of our run."""
    model = plain_loop.open_packed(world.model)
    batches = [
        plain_loop.packed_batch(step.packs[0], world.processor, device="cpu", dtype=torch.float32)
        for step in world.steps
    ]
    optimizer = plain_loop.adamw(model, RATE)
    plain_loop.train_packed(model, batches[:WARMUP_STEPS], optimizer)
    start = time.perf_counter()
    plain_loop.train_packed(model, batches[WARMUP_STEPS:], optimizer)
    return sum(step.tokens for step in world.timed) / (time.perf_counter() - start)


def padded(world: World) -> float:
    """Tokens per second of the step alone, on the rows of our packs padded to the longest."""
    model = plain_loop.open_padded(world.model)
    batches = [
        plain_loop.padded_batch(
            step.packs[0].examples, world.processor, device="cpu", dtype=torch.float32
        )
        for step in world.steps
    ]
    optimizer = plain_loop.adamw(model, RATE)
    plain_loop.train_padded(model, batches[:WARMUP_STEPS], optimizer)
    start = time.perf_counter()
    plain_loop.train_padded(model, batches[WARMUP_STEPS:], optimizer)
    return sum(step.tokens for step in world.timed) / (time.perf_counter() - start)


def trl(world: World) -> float:
    """Tokens per second of SFTTrainer."""
    found = trl_peer.train(
        plain_loop.open_padded(world.model),
        world.dataset,
        world.theirs,
        world.folder / f"trl-{next(world.runs)}",
        batch_rows=world.batch_rows,
        steps=len(world.steps),
        warmup_steps=WARMUP_STEPS,
        learning_rate=RATE,
        dataloader_num_workers=1,
        bf16=False,
        use_cpu=True,
    )
    return found["tokens"] / found["seconds"]


def describe(world: World) -> dict[str, float]:
    """What the steps are like."""
    packs = [step.packs[0] for step in world.timed]
    tokens = sum(pack.tokens for pack in packs)
    room = sum(max(e.tokens for e in pack.examples) * len(pack.examples) for pack in packs)
    images = sum(image.tokens for pack in packs for image in pack.images)
    return {
        "steps": len(packs),
        "rows_per_pack": round(fmean(len(pack.examples) for pack in packs), 1),
        "tokens_per_row": round(tokens / sum(len(pack.examples) for pack in packs), 1),
        "image_token_share": round(images / tokens, 3),
        "trained_token_share": round(sum(pack.trained_tokens for pack in packs) / tokens, 3),
        "pack_fill": round(fmean(pack.fill for pack in packs), 4),
        "padded_fill": round(tokens / room, 4),
    }


def main() -> None:
    """Measure in turns, profile whole runs (opening included), and write a dated file."""
    options = _options()
    trl_peer.quiet()
    torch.set_num_threads(1)
    backend = "pil"
    if options.torchvision:
        trl_peer.use_torchvision(options.torchvision)
        backend = "torchvision"
    contestants = {OURS: ours, BARE: bare, PADDED: padded, PEER: trl}
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), options, backend)
        rates = measure.paired(
            {name: lambda r=run: r(world) for name, run in contestants.items()}, options.rounds
        )
        profiled = {
            name: measure.profile(lambda r=contestants[name]: r(world)) for name in (OURS, PEER)
        }
        data = describe(world)
    table = measure.tabled(rates)
    found = measure.ratios(rates, [(OURS, BARE), (OURS, PADDED), (OURS, PEER)])
    measure.show("tokens/s", table, found)
    head = measure.header(
        "train_loop",
        rounds=options.rounds,
        pack_tokens=options.pack_tokens,
        batch_rows=world.batch_rows,
        backend=backend,
        workers=1,
    )
    fields = {"data": data, "tokens_per_second": table, "ratios": found, "profile": profiled}
    measure.write_result(f"train-loop-{options.data}", head, fields, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("forms", "pages"), default="forms")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pack-tokens", type=int, default=1856)
    parser.add_argument("--torchvision", type=Path, help="folder that torchvision lies in")
    parser.add_argument("--out", type=Path, default=measure.RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
