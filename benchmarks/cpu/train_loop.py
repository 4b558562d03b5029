"""Tokens per second of training: python -m benchmarks.cpu.train_loop [--data forms|pages]

Our run (`manako train`'s own loop: loader with one worker, step, record) beside the same run whose
packs lie ready, so that no worker shares the machine with it, a bare PyTorch loop whose packs lie
ready, the same model in a padded loop whose batches lie ready, and TRL's SFTTrainer with its default
collator and one worker on the same files. Every contestant takes the same number of steps of about
as many tokens, in float32, with fused AdamW over all weights, in one thread. Tokens are real ones:
padding does not count. Opening a model is not timed, nor are the first steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import measure, rows, runs, trl_peer

if TYPE_CHECKING:
    from manako.core.recipe import Recipe

WARMUP_STEPS = 4
RATE = 1e-3
PACK_TOKENS = {"forms": 1856, "pages": 2048}
QUICKSTART: dict[str, Any] = {  # `samples/quickstart_model.yaml`, the words of the data
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
CONTESTANTS: dict[str, Callable[[runs.World], runs.Timed]] = {
    runs.OURS: runs.ours,
    runs.READY: runs.ready,
    runs.BARE: runs.bare,
    runs.PADDED: runs.padded,
    runs.PEER: runs.trl,
}


def make_recipe(folder: Path, data: str, steps: int) -> Recipe:
    """Data, a model of the quickstart's size with random weights, and how it is trained."""
    from manako.core.recipe import Recipe, Source

    words: dict[str, Any] = {}
    if data == "forms":
        stored = _forms(folder)
        words = {"corpus": _texts(stored), "vocabulary": 640}
    else:
        stored = rows.write_rows(folder / "pages", 200)
    return Recipe(
        model=str(rows.make_checkpoint(folder / "model", **words, **QUICKSTART)),
        data=(Source(path=str(stored)),),
        output_dir=str(folder / "run"),
        train=dict.fromkeys(("vision", "projector", "language"), str(RATE)),
        lr_scheduler_type="constant",
        pack_tokens=PACK_TOKENS[data],
        global_batch_packs=1,
        too_long="drop",
        max_steps=WARMUP_STEPS + steps,
        save_steps=10**6,
        cpu_threads=1,
    )


def _forms(folder: Path) -> Path:
    """The quickstart's longest forms, stored as `manako data convert` stores them."""
    from manako.data.convert import convert
    from manako.samples.forms import write_forms

    counts = {"one": 64, "short": 64, "long": 1500}
    write_forms(folder / "raw", rows=counts, test_questions_per_kind=16)
    convert(folder / "raw" / "long", folder / "forms")
    return folder / "forms"


def _texts(stored: Path) -> list[str]:
    """The words of the rows, as the quickstart trains its tokenizer on them."""
    from manako.core.conversation import Text
    from manako.data.store import Store
    from manako.verbs.quickstart import TEMPLATE_WORDS

    store = Store.open(stored)
    parts = (
        part
        for row in range(store.rows)
        for message in store.outline(row).messages
        for part in message.content
    )
    return sorted({part.text for part in parts if isinstance(part, Text)} | set(TEMPLATE_WORDS))


def main() -> None:
    """Measure in turns, profile whole runs (opening included), and write a dated file."""
    options = _options()
    trl_peer.quiet()
    torch.set_num_threads(1)
    backend = trl_peer.choose_backend(options.torchvision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = make_recipe(folder, options.data, options.steps)
        world = runs.make_world(
            folder, recipe, warmup_steps=WARMUP_STEPS, device="cpu", backend=backend
        )
        waits: list[float] = []

        def rate(name: str) -> float:
            timed = CONTESTANTS[name](world)
            if name == runs.OURS and timed.data_wait_seconds is not None:
                waits.append(timed.data_wait_seconds * options.steps / timed.seconds)
            return timed.rate

        rates = measure.paired({n: lambda n=n: rate(n) for n in CONTESTANTS}, options.rounds)
        profiled = {
            name: measure.profile(lambda r=CONTESTANTS[name]: r(world))
            for name in (runs.OURS, runs.PEER)
        }
        share = round(statistics.median(waits[1:]), 3)  # without the round that does not count
        data = {**runs.describe(world), "our_data_wait_share": share}
    table = measure.tabled(rates)
    pairs = [(runs.OURS, peer) for peer in CONTESTANTS if peer != runs.OURS]
    found = measure.ratios(rates, [*pairs, (runs.READY, runs.BARE)])
    measure.show("tokens/s", table, found)
    settings = {"pack_tokens": recipe.pack_tokens, "batch_rows": world.batch_rows, "workers": 1}
    head = measure.header("train_loop", rounds=options.rounds, backend=backend, **settings)
    fields = {"data": data, "tokens_per_second": table, "ratios": found, "profile": profiled}
    measure.write_result(f"train-loop-{options.data}", head, fields, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("forms", "pages"), default="forms")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torchvision", type=Path, help="folder that torchvision lies in")
    parser.add_argument("--out", type=Path, default=measure.RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
