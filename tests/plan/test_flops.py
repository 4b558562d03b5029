"""Operations of a step: one case by hand, and every way of training against torch's own count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from manako.catalogue.cards import Card, Config, cards
from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import NotInThisVersion
from manako.core.example import Pack
from manako.core.files import read_json
from manako.core.recipe import PartSetting, Recipe, Source
from manako.families.qwen2_vl import FAMILY
from manako.nn.adapters import is_adapter_parameter
from manako.nn.batch import make_batch, token_losses
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.plan.dims import Dims, dims_of
from manako.plan.flops import Work, forward_flops, training_flops, work_of
from manako.train.parts import prepare_parts

FULL = {part: PartSetting(how="full", learning_rate=1e-5) for part in FAMILY.parts}


def tiny_dims(folder: Path) -> Dims:
    config = Config(fields=read_json(folder / "config.json"), by="test")
    dims = dims_of(Card(id="tiny", series="tiny", family="qwen2_vl", takes=None, config=config))
    assert dims is not None
    return dims


def test_qwen2_vl_2b_on_one_picture_by_hand() -> None:
    """docs/benchmarks.md has the same case, term by term."""
    card = next(card for card in cards() if card.id == "Qwen/Qwen2-VL-2B-Instruct")
    dims = dims_of(card)
    assert dims is not None
    # A picture of 728 × 532 pixels: 38 × 52 patches, 494 image tokens; 1,000 tokens, 100 trained.
    work = work_of((0, 1000), 100, [(1976, 494)])
    assert work == Work(
        tokens=1000,
        trained_tokens=100,
        token_pairs=500_500,
        image_tokens=494,
        patches=1976,
        patch_pairs=3_904_576,
    )
    flops = forward_flops(dims, work)
    patch_layer = 2 * 1976 * 1176 * 1280
    blocks = 2 * 1976 * 32 * (4 * 1280 * 1280 + 2 * 1280 * 5120)
    pictures = 4 * 3_904_576 * 1280 * 32
    assert flops.vision == patch_layer + blocks + pictures == 3_132_058_009_600
    assert flops.projector == 2 * 494 * (5120 * 5120 + 1536 * 5120) == 33_669_775_360
    layer = 2 * 1536 * 1536 + 2 * 256 * 1536 + 3 * 8960 * 1536
    decoder, pairs = 2 * 1000 * 28 * layer, 4 * 500_500 * 1536 * 28
    head = 2 * 100 * 1536 * 151_936
    assert flops.language == decoder + pairs + head == 2_753_168_179_200
    frozen = {**FULL, "vision": PartSetting(how="frozen")}
    step = training_flops(dims, frozen, work)
    assert step.vision == flops.vision
    assert step.projector == 3 * flops.projector
    assert step.language == 3 * flops.language


def test_a_vision_tower_with_windows_is_refused_not_miscounted() -> None:
    dims = dims_of(next(card for card in cards() if card.id == "Qwen/Qwen2.5-VL-3B-Instruct"))
    assert dims is not None
    work = work_of((0, 10), 3, [(16, 4)])
    with pytest.raises(NotInThisVersion, match="gated blocks are not counted"):
        training_flops(dims, FULL, work)
    with pytest.raises(NotInThisVersion):
        forward_flops(dims, work)


def test_packs_add_up_and_conversations_do_not_see_each_other() -> None:
    one, other = work_of((0, 10), 3, [(16, 4)]), work_of((0, 20), 5, [(64, 16), (16, 4)])
    assert one + other == work_of((0, 10, 30), 8, [(16, 4), (64, 16), (16, 4)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flops") / "model"
    FAMILY.make_tiny(folder, vision_width=48, width=64, layers=3, mrope_section=(2, 2, 4))
    return folder


def counted(folder: Path, recipe: Recipe) -> tuple[int, Work]:
    """What torch counts in one pass and back, in eager attention, which multiplies every pair."""
    processor = FAMILY.open(folder)
    picture = Image.of(np.full((112, 140, 3), 200, np.uint8))
    row = Conversation(
        (Message("user", (picture, Text("何?"))), Message("assistant", (Text("これです。" * 6),)))
    )
    pack = Pack(examples=(processor.encode(row),), pack_tokens=512)
    model = load_model(folder, FAMILY)
    model.set_attn_implementation("eager")
    multiply_patches(model)
    prepare_parts(model, FAMILY, recipe)
    batch = make_batch(pack, processor, device="cpu", dtype=torch.float32)
    batch.inputs.pop("segments")
    with FlopCounterMode(display=False) as counter:
        token_losses(model, batch).sum().backward()
    work = work_of(
        pack.segments.tolist(),
        pack.trained_tokens,
        [(len(image.pixels), image.tokens) for image in pack.images],
    )
    assert any(is_adapter_parameter(n) for n, _ in model.named_parameters()) == (
        "lora" in str(recipe.train)
    )
    return counter.get_total_flops(), work


@pytest.mark.parametrize(
    "train",
    [
        {"vision": "1e-4", "projector": "1e-4", "language": "1e-4"},
        {"vision": "frozen", "projector": "1e-4", "language": "1e-4"},
        {"vision": "frozen", "projector": "1e-4", "language": "frozen"},
        {"vision": "1e-4", "projector": "frozen", "language": "frozen"},
        {"vision": "lora 1e-4", "projector": "lora 1e-4", "language": "lora 1e-4"},
        {"vision": "frozen", "projector": "1e-4", "language": "lora 1e-4"},
        {"vision": "frozen", "projector": "frozen", "language": "lora 1e-4"},
        {"vision": "frozen", "projector": "lora 1e-4", "language": "frozen"},
        {"vision": "frozen", "projector": "frozen", "language": "1e-4"},
    ],
    ids=lambda train: "-".join(value.split()[0] for value in train.values()),
)
def test_every_way_of_training_is_what_torch_counts(
    checkpoint: Path, train: dict[str, Any]
) -> None:
    recipe = Recipe(
        model=str(checkpoint), data=(Source(path="x"),), output_dir="x", train=train, lora_r=4
    )
    found, work = counted(checkpoint, recipe)
    every_pair = Work(**{**vars(work), "token_pairs": work.tokens**2})
    dims, settings = tiny_dims(checkpoint), recipe.part_settings()
    flops = training_flops(dims, settings, every_pair, rank=4)
    # What is left is the rotary angles, which transformers multiplies out: 2 per angle.
    assert flops.total == pytest.approx(found, rel=0.001)
