"""From Parquet to tensors: python -m benchmarks.cpu.input_path [--torchvision FOLDER]

Samples per second in one process and one thread, beside the input path that TRL's SFTTrainer uses on
the same files (`datasets`, its collator, transformers' processor). That both give the same tokens,
and pictures that are equal (torchvision) or as near as Pillow's filter allows, is checked first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import measure, rows, trl_peer

if TYPE_CHECKING:
    from manako.core.example import Pack
    from manako.core.family import Processor

MAX_PIXELS = 1_003_520
"""The limit of transformers' class defaults: 1,280 tokens a picture."""
PACK_TOKENS = 8192
BATCH_ROWS = 8
SAME_PIXELS = 1e-5
"""Normalised values of one uint8 pixel: float32 rounding of the same two constants, near 1e-6."""
NEAR_PIXELS = 0.05
"""Share of values that Pillow's bicubic filter may round to another level than torch's."""

PACKS = "Manako, uint8 packs for the device"
TENSORS = "Manako, float32 tensors on the CPU"


@dataclass(frozen=True, kw_only=True)
class World:
    """The same rows for both, and what opens them."""

    folder: Path
    processor: Processor
    dataset: Any
    collator: Any
    rows: int


def make_world(folder: Path, count: int, backend: str) -> World:
    """Rows, a checkpoint for its tokenizer and picture settings, and both ways to read them."""
    from manako.families.qwen2_vl import FAMILY

    checkpoint = rows.make_checkpoint(folder / "model", max_pixels=MAX_PIXELS)
    stored = rows.write_rows(folder / "rows", count)
    theirs = trl_peer.open_processor(checkpoint, backend=backend, max_pixels=MAX_PIXELS)
    return World(
        folder=stored,
        processor=FAMILY.open(checkpoint),
        dataset=trl_peer.open_dataset(stored, folder / "cache"),
        collator=trl_peer.open_collator(theirs),
        rows=count,
    )


def read_packs(world: World) -> Iterator[Pack]:
    """Every row once, through our loader in this process, lengths measured on the way."""
    from manako.data.loader import Loader
    from manako.data.settings import LoaderSettings
    from manako.data.store import Store
    from manako.data.too_long import Fitted

    settings = LoaderSettings(
        weights={"rows": 1.0}, pack_tokens=PACK_TOKENS, global_batch_packs=1, num_train_epochs=1
    )
    fitted = Fitted(processor=world.processor, pack_tokens=PACK_TOKENS, policy="error")
    with Loader(
        settings,
        {"rows": Store.open(world.folder)},
        measure=fitted.measure,
        encode=fitted.encode,
        fingerprint=world.processor.fingerprint,
        workers=0,
    ) as loader:
        for step in loader:
            yield from step.packs


def ours_packs(world: World) -> int:
    """Packs as they cross to the device: uint8 pixels. The number of rows."""
    return sum(len(pack.examples) for pack in read_packs(world))


def ours_tensors(world: World) -> int:
    """The model's arguments as float32 tensors, as TRL's collator gives them. The number of rows."""
    from manako.nn.batch import make_batch

    seen = 0
    for pack in read_packs(world):
        make_batch(pack, world.processor, device="cpu", dtype=torch.float32)
        seen += len(pack.examples)
    return seen


def theirs_tensors(world: World) -> int:
    """Batches of eight as SFTTrainer reads them. The number of rows."""
    from torch.utils.data import DataLoader

    reader = DataLoader(world.dataset, batch_size=BATCH_ROWS, collate_fn=world.collator)
    return sum(len(batch["input_ids"]) for batch in reader)


def rate_of(world: World, work: Any) -> float:
    """Samples per second; raises where a way of reading lost a row."""
    start = time.perf_counter()
    seen = work(world)
    seconds = time.perf_counter() - start
    if seen != world.rows:
        raise SystemExit(f"{work.__name__} gave {seen} rows of {world.rows}")
    return seen / seconds


def check_same(world: World) -> dict[str, float]:
    """Tokens must be equal row by row; how far pixel values differ. Raises where they are not the
    same pictures."""
    from manako.data.store import Store
    from manako.nn.batch import normalise

    worst, unequal, values = 0.0, 0, 0
    for shown, conversation in zip(world.dataset, Store.open(world.folder), strict=True):
        theirs = world.collator([shown])
        example = world.processor.encode(conversation)
        if theirs["input_ids"][0].tolist() != example.input_ids.tolist():
            raise SystemExit(f"{conversation.id}: not the same tokens")
        pixels = [torch.from_numpy(image.pixels) for image in example.images]
        if not pixels:
            continue
        apart = normalise(torch.cat(pixels), world.processor.pixel_rule) - theirs["pixel_values"]
        worst = max(worst, float(apart.abs().max()))
        unequal += int((apart.abs() > SAME_PIXELS).sum())
        values += apart.numel()
    return {"largest_difference": measure.significant(worst), "share_unequal": unequal / values}


def describe(world: World) -> dict[str, float]:
    """What the rows are like."""
    lengths = [example.lengths for pack in read_packs(world) for example in pack.examples]
    images = [image for pack in read_packs(world) for image in pack.images]
    tokens = sum(each.tokens for each in lengths)
    pixels = sum(image.size[0] * image.size[1] for image in images)
    return {
        "rows": world.rows,
        "pictures": len(images),
        "megapixels_per_picture": round(pixels / len(images) / 1e6, 3),
        "tokens_per_row": round(tokens / world.rows, 1),
        "image_token_share": round(sum(each.image_tokens for each in lengths) / tokens, 3),
    }


def main() -> None:
    """Check, measure in turns, profile, and write a dated file."""
    options = _options()
    trl_peer.quiet()
    torch.set_num_threads(1)
    backend = trl_peer.choose_backend(options.torchvision)
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), options.rows, backend)
        same = check_same(world)
        allowed = 0.0 if backend == "torchvision" else NEAR_PIXELS
        if same["share_unequal"] > allowed:
            raise SystemExit(f"not the same pixels: {same}")
        peer = f"datasets + TRL's collator ({backend})"
        contestants = {PACKS: ours_packs, TENSORS: ours_tensors, peer: theirs_tensors}
        rates = measure.paired(
            {name: lambda w=work: rate_of(world, w) for name, work in contestants.items()},
            options.rounds,
        )
        profiles = {
            name: measure.profile(lambda w=work: w(world)) for name, work in contestants.items()
        }
        data = describe(world)
    table = measure.tabled(rates)
    found = measure.ratios(rates, [(PACKS, peer), (TENSORS, peer)])
    measure.show("samples/s", table, found)
    for line in profiles[PACKS]:
        sys.stdout.write(f"  {line['share']:6.1%} {line['function']}\n")
    settings = {"rounds": options.rounds, "batch_rows": BATCH_ROWS, "pack_tokens": PACK_TOKENS}
    head = measure.header("input_path", **settings, backend=backend, max_pixels=MAX_PIXELS)
    fields = {
        "data": data,
        "pixels": same,
        "samples_per_second": table,
        "ratios": found,
        "profile": profiles,
    }
    measure.write_result(f"input-path-{backend}", head, fields, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torchvision", type=Path, help="folder that torchvision lies in")
    parser.add_argument("--out", type=Path, default=measure.RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
