"""Training Qwen2-VL-2B on one GPU, without network: python -m benchmarks.gpu.train

The model has the published dimensions (of its card) and random weights; the conversations have
pictures and texts of usual sizes. Our run, packed, stands beside the same model in a padded loop and
beside TRL's SFTTrainer where it is installed: real tokens per second (padding does not count), share
of the machine's peak (MFU, vision counted; `manako.plan.flops`), peak memory, waiting for data. On
a machine without CUDA everything runs at a tiny size, to show that it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from itertools import accumulate
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import measure, rows, runs, trl_peer
from benchmarks.gpu.attention import Shape, compare

if TYPE_CHECKING:
    from manako.catalogue.cards import Card
    from manako.core.recipe import Recipe
    from manako.plan.dims import Dims

MODEL = "Qwen/Qwen2-VL-2B-Instruct"
MAX_PIXELS = 1_003_520
TINY_PIXELS = 50_176
RATE = 1e-5
ROOM_FOR_FULL_BYTES = 60 * 10**9
"""Weights, gradients and AdamW of the language part in float32 are 25 GB; a pack comes on top."""
PEAK_TFLOPS = {
    "H100 PCIe": 756,
    "H100": 989,
    "H200": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bfloat16 products with float32 sums, from the makers' data sheets as recalled;
`--peak-tflops` says it better."""
CONTESTANTS: dict[str, Callable[[runs.World], runs.Timed]] = {
    runs.OURS: runs.ours,
    runs.PADDED: runs.padded,
    runs.PEER: runs.trl,
}


def make_checkpoint(folder: Path, *, is_tiny: bool, device: str) -> tuple[Path, Card]:
    """A checkpoint with random weights, and its sizes as a card."""
    from manako.catalogue.cards import Card, Config, cards
    from manako.core.files import read_json

    if is_tiny:
        rows.make_checkpoint(folder, max_pixels=TINY_PIXELS)
    else:
        card = next(card for card in cards() if card.id == MODEL)
        assert card.config is not None
        rows.make_checkpoint(folder, max_pixels=MAX_PIXELS)  # tokenizer, template, settings
        _write_random(folder, dict(card.config.fields), device)
    config = Config(by="config.json", fields=read_json(folder / "config.json"))
    made = Card(id=MODEL, series="Qwen2-VL", family="qwen2_vl", takes=None, config=config)
    return folder, made


def _write_random(folder: Path, fields: dict[str, Any], device: str) -> None:
    """Put a model of these dimensions in place of the tiny one, in bfloat16."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    from manako.core.files import read_json, write_json
    from manako.families.qwen2_vl import FAMILY
    from manako.nn.checkpoint import save_model

    config = read_json(folder / "config.json")
    vision = {**config["vision_config"], **fields.pop("vision_config")}
    config = {**config, **fields, "vision_config": vision, "torch_dtype": "bfloat16"}
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(**config)).to(torch.bfloat16)
    (folder / "model.safetensors").unlink()
    save_model(model, FAMILY, folder)
    write_json(folder / "config.json", config)


def make_recipe(folder: Path, model: Path, options: argparse.Namespace) -> Recipe:
    """How it is trained: language and projector, in bfloat16, one pack a step."""
    from manako.core.recipe import Recipe, Source

    lora = {"method": "lora", "train": {"language": f"lora {RATE}", "projector": f"{RATE}"}}
    full = {"method": "full", "train": {"language": f"{RATE}", "projector": f"{RATE}"}}
    stored = rows.write_rows(folder / "rows", options.rows)
    return Recipe(
        model=str(model),
        data=(Source(path=str(stored)),),
        output_dir=str(folder / "run"),
        lr_scheduler_type="constant",
        pack_tokens=options.pack_tokens,
        global_batch_packs=1,
        too_long="drop",
        max_steps=options.warmup_steps + options.steps,
        save_steps=10**6,
        bf16=not options.tiny,
        dataloader_num_workers=options.workers,
        **(lora if options.method == "lora" else full),
    )


def flops_per_token(world: runs.World, dims: Dims) -> dict[str, float]:
    """Operations that the timed steps must compute, per real token, and the share of each part."""
    from manako.plan.flops import training_flops
    from manako.plan.work import NOTHING, work_of_pack

    packs = [step.packs[0] for step in world.timed]
    work = reduce(add, (work_of_pack(dims, pack) for pack in packs), NOTHING)
    recipe = world.recipe
    rank = recipe.lora_r if recipe.method == "lora" else 0
    flops = training_flops(dims, recipe.part_settings(), work, rank=rank)
    parts = {"vision": flops.vision, "projector": flops.projector, "language": flops.language}
    shares = {
        f"{part}_share": round(part_flops / flops.total, 3) for part, part_flops in parts.items()
    }
    return {"flops_per_token": measure.significant(flops.total / world.tokens), **shares}


def compare_attention(world: runs.World, fields: Any, device: str) -> dict[str, Any]:
    """One layer of the decoder and one of the vision tower, on the boundaries of the first pack."""
    pack, vision = world.timed[0].packs[0], fields["vision_config"]
    heads, tower = fields["num_attention_heads"], vision["num_heads"]
    text = Shape(
        heads=heads,
        kv_heads=fields["num_key_value_heads"],
        head_width=fields["hidden_size"] // heads,
        is_causal=True,
    )
    pictures = replace(
        text, heads=tower, kv_heads=tower, head_width=vision["embed_dim"] // tower, is_causal=False
    )
    patches = list(accumulate((len(image.pixels) for image in pack.images), initial=0))
    return {
        "language": compare(text, pack.segments.tolist(), device),
        "vision": compare(pictures, patches, device),
    }


def peak_flops(options: argparse.Namespace) -> float | None:
    """Operations per second at best; None where nobody knows."""
    if options.peak_tflops:
        return float(options.peak_tflops) * 1e12
    if options.device == "cpu":
        return None
    name = torch.cuda.get_device_name()
    return next((peak * 1e12 for kind, peak in PEAK_TFLOPS.items() if kind in name), None)


def rows_of_table(
    details: dict[str, list[runs.Timed]], flops: float, peak: float | None
) -> dict[str, dict[str, Any]]:
    """What is told of each contestant beside its rate. MFU takes the work of our rows per token."""
    table = {}
    for name, timed in details.items():
        rates = sorted(each.rate for each in timed)
        waits = [each.data_wait_seconds for each in timed if each.data_wait_seconds is not None]
        table[name] = {
            "mfu": round(rates[len(rates) // 2] * flops / peak, 4) if peak else None,
            "peak_bytes": timed[-1].peak_bytes,
            "data_wait_seconds": measure.significant(max(waits)) if waits else None,
        }
    return table


def main() -> None:
    """Make everything, measure in turns, and write a dated file."""
    options = _options()
    trl_peer.quiet()
    backend = trl_peer.choose_backend(options.torchvision)
    chosen = dict(CONTESTANTS)
    if importlib.util.find_spec("trl") is None:
        sys.stderr.write("TRL is not installed: it is left out\n")
        del chosen[runs.PEER]
    with tempfile.TemporaryDirectory() as name:
        fields = _measure(Path(name), chosen, backend, options)
    head = measure.header(
        "gpu_train",
        device="cpu" if options.device == "cpu" else torch.cuda.get_device_name(),
        is_tiny=options.tiny,
        method=options.method,
        backend=backend,
        rounds=options.rounds,
        pack_tokens=options.pack_tokens,
        workers=options.workers,
        gradient_checkpointing=False,
    )
    measure.write_result(
        "gpu-train-tiny" if options.tiny else "gpu-train", head, fields, options.out
    )


def _measure(
    folder: Path,
    chosen: dict[str, Callable[[runs.World], runs.Timed]],
    backend: str,
    options: argparse.Namespace,
) -> dict[str, Any]:
    from manako.plan.dims import dims_of

    model, card = make_checkpoint(folder / "model", is_tiny=options.tiny, device=options.device)
    world = runs.make_world(
        folder,
        make_recipe(folder, model, options),
        warmup_steps=options.warmup_steps,
        device=options.device,
        backend=backend,
    )
    details: dict[str, list[runs.Timed]] = {name: [] for name in chosen}

    def rate(name: str) -> float:
        details[name].append(chosen[name](world))
        return details[name][-1].rate

    rates = measure.paired({name: lambda n=name: rate(n) for name in chosen}, options.rounds)
    dims = dims_of(card)
    assert dims is not None
    assert card.config is not None
    flops, peak = flops_per_token(world, dims), peak_flops(options)
    found = measure.ratios(rates, [(runs.OURS, name) for name in chosen if name != runs.OURS])
    table = measure.tabled(rates)
    measure.show("tokens/s", table, found)
    return {
        "data": runs.describe(world),
        "tokens_per_second": table,
        "ratios": found,
        "details": rows_of_table(details, flops["flops_per_token"], peak),
        "flops": {**flops, "peak_flops": peak},
        "attention": compare_attention(world, card.config.fields, options.device),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model; so it is without CUDA")
    parser.add_argument("--method", choices=("full", "lora"), help="by the GPU's memory")
    parser.add_argument("--pack-tokens", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup-steps", type=int, default=2)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, dense bfloat16")
    parser.add_argument("--torchvision", type=Path, help="folder that torchvision lies in")
    parser.add_argument("--out", type=Path, default=measure.RESULTS)
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.tiny = options.tiny or options.device == "cpu"
    usual = {"pack_tokens": 8192, "rows": 256, "steps": 16, "rounds": 3}
    small = {"pack_tokens": 2048, "rows": 24, "steps": 2, "rounds": 1}
    for name, value in (small if options.tiny else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.workers is None:
        options.workers = 0 if options.tiny else max(1, min(8, (os.cpu_count() or 2) - 1))
    options.method = options.method or _method(options)
    return options


def _method(options: argparse.Namespace) -> str:
    if options.tiny:
        return "full"
    memory = torch.cuda.get_device_properties(0).total_memory
    return "full" if memory > ROOM_FOR_FULL_BYTES else "lora"


if __name__ == "__main__":
    main()
