"""Training a model of 2 or 3 B on one GPU, without network: python -m benchmarks.gpu.train

The model has the published dimensions (of its card) and random weights; the conversations have
pictures and texts of usual sizes. Our run, packed, stands beside itself with its layers computed
again, beside the same model in a padded loop, and beside TRL's SFTTrainer where it is installed: real
tokens per second (padding does not count), share of the machine's peak (MFU, vision counted;
`manako.plan.flops`), peak memory, waiting for data. It ends by itself within `--minutes`, and what it
has found by then is written. On a machine without CUDA everything runs at a tiny size, to show that
it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import reduce
from itertools import accumulate
from operator import add
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU: TRL would spread over all it sees

import torch

from benchmarks import measure, rows, runs, trl_peer
from benchmarks.gpu.attention import Shape, compare
from benchmarks.gpu.parts import Parts

if TYPE_CHECKING:
    from manako.catalogue.cards import Card
    from manako.core.recipe import Recipe
    from manako.plan.dims import Dims

MODELS = ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct")
MAX_PIXELS = 1_003_520
TINY_PIXELS = 50_176
RATE = 1e-5
FULL_BYTES = 16
"""Of a trained number: itself, its gradient and both moments of AdamW, in float32."""
ROOM_FOR_FULL = 0.45
"""Of the memory, at most: what is left must hold the activations of a batch that is padded, and its
logits at every position."""
AGAIN = "Manako, layers computed again"
WRITE_RESERVE_SECONDS = 5.0
CONTESTANTS: dict[str, Callable[[runs.World], runs.Timed]] = {
    runs.OURS: runs.ours,
    AGAIN: lambda world: runs.ours(world, gradient_checkpointing=True),
    runs.PADDED: runs.padded,
    runs.PEER: runs.trl,
}


def card_of(model: str) -> Card:
    """The card of a published model."""
    from manako.catalogue.cards import cards

    return next(card for card in cards() if card.id == model)


def make_checkpoint(folder: Path, options: argparse.Namespace) -> Path:
    """A checkpoint with random weights, of the published sizes or tiny."""
    card = card_of(options.model)
    pixels = TINY_PIXELS if options.tiny else MAX_PIXELS
    rows.make_checkpoint(folder, family=card.family, max_pixels=pixels)
    if not options.tiny:  # tokenizer, template and settings stay
        assert card.config is not None
        _write_random(folder, dict(card.config.fields), options.device)
    return folder


def _write_random(folder: Path, fields: dict[str, Any], device: str) -> None:
    """Put a model of these dimensions in place of the tiny one, in bfloat16."""
    from manako.core.family import family_of
    from manako.core.files import read_json, write_json
    from manako.nn.checkpoint import model_class, save_model

    family, config = family_of(folder), read_json(folder / "config.json")
    vision = {**config["vision_config"], **fields.pop("vision_config")}
    config = {**config, **fields, "vision_config": vision, "torch_dtype": "bfloat16"}
    kind = model_class(family)
    torch.manual_seed(0)
    with torch.device(device):
        model = kind(kind.config_class(**config)).to(torch.bfloat16)
    (folder / "model.safetensors").unlink()
    save_model(model, family, folder)
    write_json(folder / "config.json", config)


def make_recipe(folder: Path, model: Path, options: argparse.Namespace) -> Recipe:
    """How it is trained: language and projector, in bfloat16, one pack a step."""
    from manako.core.recipe import Recipe, Source

    how = "lora " if options.method == "lora" else ""
    return Recipe(
        model=str(model),
        data=(Source(path=str(rows.write_rows(folder / "rows", options.rows))),),
        output_dir=str(folder / "run"),
        method=options.method,
        train={"language": f"{how}{RATE}", "projector": f"{RATE}"},
        lr_scheduler_type="constant",
        pack_tokens=options.pack_tokens,
        global_batch_packs=1,
        too_long="drop",
        max_steps=options.warmup_steps + options.steps,
        save_steps=10**6,
        bf16=not options.tiny,
        dataloader_num_workers=options.workers,
    )


def dims_of_folder(model: Path) -> Dims:
    """The sizes that the made checkpoint's own config.json names."""
    from manako.core.family import family_of
    from manako.core.files import read_json
    from manako.plan.dims import describe

    dims = describe(read_json(model / "config.json"), family_of(model))
    assert dims is not None
    return dims


def count_flops(world: runs.World, dims: Dims, options: argparse.Namespace) -> dict[str, Any]:
    """Operations that the timed steps must compute, per real token, the share of each part, and what
    the device could do at best (None where nobody knows)."""
    from manako.plan.flops import training_flops
    from manako.plan.work import NOTHING, work_of_pack
    from manako.train.operations import device_peak

    packs = [step.packs[0] for step in world.timed]
    work = reduce(add, (work_of_pack(dims, pack) for pack in packs), NOTHING)
    recipe = world.recipe
    flops = training_flops(dims, recipe.part_settings(), work, rank=recipe.lora_r)
    parts = {"vision": flops.vision, "projector": flops.projector, "language": flops.language}
    peak = device_peak(options.device, bf16=recipe.bf16)
    tflops = options.peak_tflops or (peak.value if peak else None)
    return {
        "flops_per_token": measure.significant(flops.total / world.tokens),
        **{f"{part}_share": round(count / flops.total, 3) for part, count in parts.items()},
        "peak_flops": tflops * 1e12 if tflops else None,
    }


def compare_attention(world: runs.World, model: Path, dims: Dims, device: str) -> dict[str, Any]:
    """One layer of the decoder and one of the vision tower, on the boundaries of the first pack."""
    from manako.core.files import read_json

    config, pack = read_json(model / "config.json"), world.timed[0].packs[0]
    language, vision = dims.shapes.language, dims.shapes.vision
    text = Shape(
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_width=language.head_width,
        is_causal=True,
    )
    heads = vision.width // vision.head_width
    pictures = Shape(heads=heads, kv_heads=heads, head_width=vision.head_width, is_causal=False)
    patches = list(accumulate((len(image.pixels) for image in pack.images), initial=0))
    found = {"language": compare(text, pack.segments.tolist(), device)}
    if pack.images:
        found["vision"] = compare(pictures, patches, device)
    return found


def details_of(timed: list[runs.Timed], flops: dict[str, Any]) -> dict[str, Any]:
    """What is told of a contestant beside its rate. The work per token is that of our rows."""
    rate = median(each.rate for each in timed) * flops["flops_per_token"]
    waits = [each.data_wait_seconds for each in timed if each.data_wait_seconds is not None]
    peak = flops["peak_flops"]
    return {
        "tflops": measure.significant(rate / 1e12),
        "mfu": round(rate / peak, 4) if peak else None,
        "peak_bytes": timed[-1].peak_bytes,
        "data_wait_seconds": measure.significant(max(waits)) if waits else None,
        "step_seconds": measure.significant(median(each.seconds for each in timed)),
    }


class Race:
    """Contestants in turns, as many rounds as there is time for; every result is in the fields."""

    def __init__(self, world: runs.World, flops: dict[str, Any], parts: Parts) -> None:
        self._world, self._flops, self._parts = world, flops, parts
        self._timed: dict[str, dict[int, runs.Timed]] = {}
        self._took: dict[str, float] = {}

    def run(self, names: list[str], rounds: int) -> None:
        """The order turns round every time. Who has failed once is left out from then on."""
        for number in range(rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                if name not in self._parts.failed:
                    self._take_turn(name, number)

    def _take_turn(self, name: str, number: int) -> None:
        begun = time.monotonic()
        timed = self._parts.run(
            name, lambda: CONTESTANTS[name](self._world), takes=self._took.get(name, 0.0)
        )
        if timed is None:
            return
        self._took[name] = time.monotonic() - begun
        self._timed.setdefault(name, {})[number] = timed
        self._parts.fields |= self._results()
        self._parts.write()
        memory = f", peak {timed.peak_bytes / 1e9:.1f} GB" if timed.peak_bytes else ""
        self._parts.say(f"{name}: {timed.rate:,.0f} tokens/s{memory}")

    def _results(self) -> dict[str, Any]:
        rates = {name: [t.rate for t in turns.values()] for name, turns in self._timed.items()}
        return {
            "tokens_per_second": measure.tabled(rates),
            "ratios": [row for peer in rates if peer != runs.OURS for row in self._ratio(peer)],
            "details": {
                name: details_of(list(turns.values()), self._flops)
                for name, turns in self._timed.items()
            },
        }

    def _ratio(self, peer: str) -> list[dict[str, Any]]:
        """Ours over the peer's, in the rounds that both have run."""
        ours, theirs = self._timed.get(runs.OURS, {}), self._timed[peer]
        both = sorted(ours.keys() & theirs.keys())
        if not both:
            return []
        rates = {
            runs.OURS: [ours[number].rate for number in both],
            peer: [theirs[number].rate for number in both],
        }
        return measure.ratios(rates, [(runs.OURS, peer)])


def main() -> None:
    """Make everything, measure in turns, and write a dated file."""
    options = _options()
    trl_peer.quiet()
    backend = trl_peer.choose_backend(options.torchvision)
    is_cuda = options.device == "cuda"
    head = measure.header(
        "gpu_train",
        device=torch.cuda.get_device_name() if is_cuda else "cpu",
        model=options.model,
        is_tiny=options.tiny,
        method=options.method,
        backend=backend,
        rounds=options.rounds,
        pack_tokens=options.pack_tokens,
        workers=options.workers,
    )
    name = "gpu-tiny" if options.tiny else f"gpu-train-{options.model.rsplit('/')[-1]}"

    def write(fields: dict[str, Any]) -> None:
        measure.write_result(name, head, fields, options.out, is_told=fields["is_complete"])

    minutes = options.minutes - WRITE_RESERVE_SECONDS / 60
    parts = Parts(minutes=minutes, part_minutes=options.part_minutes, write=write)
    parts.say(f"{options.model}, {options.method}, on {head['device']}; {options.minutes:g} min")
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), parts, backend, options)
    fields = parts.fields
    fields["is_complete"] = True
    parts.write()
    measure.show("tokens/s", fields.get("tokens_per_second", {}), fields.get("ratios", ()))
    if runs.OURS not in fields.get("details", {}):
        sys.exit("our own run gave no result: see the notes")


def _measure(folder: Path, parts: Parts, backend: str, options: argparse.Namespace) -> None:
    names = [name for name in CONTESTANTS if name not in options.without]
    if runs.PEER in names and importlib.util.find_spec("trl") is None:
        parts.note("TRL is not installed: it is left out")
        names.remove(runs.PEER)

    def prepare() -> runs.World:
        model = make_checkpoint(folder / "model", options)
        recipe, warmup_steps = make_recipe(folder, model, options), options.warmup_steps
        return runs.make_world(
            folder, recipe, warmup_steps=warmup_steps, device=options.device, backend=backend
        )

    world = parts.run("weights, rows and packs", prepare)
    if world is None:
        return
    model = Path(world.recipe.model)
    dims = dims_of_folder(model)
    flops = count_flops(world, dims, options)
    parts.fields |= {"data": runs.describe(world), "flops": flops}
    attention = parts.run(
        "attention, one layer", lambda: compare_attention(world, model, dims, options.device)
    )
    parts.fields["attention"] = attention or {}
    Race(world, flops, parts).run(names, options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model; so it is without CUDA")
    parser.add_argument("--minutes", type=float, default=9.0, help="of everything together")
    parser.add_argument("--part-minutes", type=float, default=3.0, help="of one turn")
    parser.add_argument("--method", choices=("full", "lora"), help="by the GPU's memory")
    parser.add_argument("--pack-tokens", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--without", nargs="*", default=(), choices=tuple(CONTESTANTS))
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, dense bfloat16")
    parser.add_argument("--torchvision", type=Path, help="folder that torchvision lies in")
    parser.add_argument("--out", type=Path, default=measure.RESULTS)
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.tiny = options.tiny or options.device == "cpu"
    usual = {"pack_tokens": 4096, "rows": 128, "steps": 24, "rounds": 3}
    small = {"pack_tokens": 2048, "rows": 24, "steps": 2, "rounds": 1}
    for name, value in (small if options.tiny else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.workers is None:
        options.workers = 0 if options.tiny else max(1, min(8, (os.cpu_count() or 2) - 1))
    options.method = options.method or _method(options)
    return options


def _method(options: argparse.Namespace) -> str:
    """In full where weights, gradients and moments leave room enough, else through adapters."""
    if options.tiny:
        return "full"
    parameters = card_of(options.model).parameters
    assert parameters is not None
    trained = (parameters.language or 0) + (parameters.projector or 0)
    memory: int = torch.cuda.get_device_properties(0).total_memory
    return "full" if FULL_BYTES * trained < ROOM_FOR_FULL * memory else "lora"


if __name__ == "__main__":
    main()
