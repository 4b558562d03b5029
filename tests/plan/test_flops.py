"""Operations of a step: one case by hand, and every way of training against torch's own count."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from manako.catalogue.cards import cards
from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import NotInThisVersion
from manako.core.example import Pack
from manako.core.family import PARTS, families, family_of
from manako.core.files import read_json
from manako.core.recipe import PartSetting, Recipe, Source
from manako.nn.adapters import is_adapter_parameter
from manako.nn.batch import make_batch, token_losses
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.plan.dims import Dims, describe, dims_of
from manako.plan.flops import (
    check_counted,
    check_weights,
    forward_flops,
    matrix_numbers,
    training_flops,
)
from manako.plan.work import NOTHING, Picture, Work, near_pairs, window_pairs, work_of, work_of_pack
from manako.train.parts import prepare_parts

FULL = {part: PartSetting(how="full", learning_rate=1e-5) for part in PARTS}


def tiny_dims(folder: Path) -> Dims:
    dims = describe(read_json(folder / "config.json"), family_of(folder))
    assert dims is not None
    return dims


def published(name: str) -> Dims:
    dims = dims_of(next(card for card in cards() if card.id == name))
    assert dims is not None
    return dims


PAGE = Picture(rows=38, columns=52, tokens=494)
"""728 × 532 pixels: 38 × 52 patches, 494 image tokens."""


def test_qwen2_vl_2b_on_one_picture_by_hand() -> None:
    """docs/benchmarks.md has the same case, term by term."""
    dims = published("Qwen/Qwen2-VL-2B-Instruct")
    work = work_of(dims, (0, 1000), 100, [PAGE])  # 1,000 tokens, 100 of them trained
    assert work == Work(
        tokens=1000,
        trained_tokens=100,
        token_pairs=500_500,
        image_tokens=494,
        patches=1976,
        vision_tokens=1976,
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


def test_the_tower_of_qwen2_5_vl_3b_on_the_same_picture_by_hand() -> None:
    """docs/benchmarks.md has the same case, term by term."""
    dims = published("Qwen/Qwen2.5-VL-3B-Instruct")
    work = work_of(dims, (0, 1000), 100, [PAGE])
    # Windows of 8 × 8 patches: rows 8 8 8 8 6, columns 8 8 8 8 8 8 4.
    assert work.window_pairs == (4 * 64 + 36) * (6 * 64 + 16) == 116_800
    assert work.patch_pairs == 3_904_576
    flops = forward_flops(dims, work)
    patch_layer = 2 * 1976 * 1176 * 1280
    blocks = 2 * 1976 * 32 * (4 * 1280 * 1280 + 3 * 1280 * 3420)
    pairs = 4 * 1280 * (4 * 3_904_576 + 28 * 116_800)
    assert flops.vision == patch_layer + blocks + pairs == 2_592_279_920_640
    assert flops.projector == 2 * 494 * (5120 * 5120 + 2048 * 5120) == 36_259_758_080


def test_windows_tile_a_picture_and_leave_a_rest() -> None:
    for rows, columns, window in ((8, 8, 8), (9, 8, 4), (3, 5, 4), (1, 1, 8), (20, 14, 8)):
        boxes: dict[tuple[int, int], int] = {}
        for row in range(rows):
            for column in range(columns):
                box = (row // window, column // window)
                boxes[box] = boxes.get(box, 0) + 1
        found = window_pairs(Picture(rows=rows, columns=columns, tokens=0), window)
        assert found == sum(patches**2 for patches in boxes.values())
    assert window_pairs(PAGE, 0) == 0


def test_a_sliding_window_is_counted_token_by_token() -> None:
    for tokens, window in ((1, 4), (4, 4), (5, 4), (100, 7)):
        assert near_pairs(tokens, window) == sum(min(at + 1, window) for at in range(tokens))
    assert near_pairs(100, 0) == 0


def test_what_is_not_counted_is_refused_by_name() -> None:
    """Of every card of the catalogue: counted exactly, or refused with the reason."""
    reasons = {}
    for card in cards():
        dims = dims_of(card)
        if dims is None:
            continue
        try:
            check_counted(dims)
        except NotInThisVersion as error:
            reasons[card.id] = error.message
            with pytest.raises(NotInThisVersion):
                forward_flops(dims, NOTHING)
            with pytest.raises(NotInThisVersion):
                training_flops(dims, FULL, NOTHING)
        else:
            assert card.family in families().items
    assert "experts" in reasons["Qwen/Qwen3-VL-30B-A3B-Instruct"]
    assert "Qwen/Qwen2.5-VL-7B-Instruct" not in reasons
    dims = dataclasses.replace(published("Qwen/Qwen2-VL-2B-Instruct"), rule=None)
    with pytest.raises(NotInThisVersion, match="no family file knows"):
        check_counted(dims)
    with pytest.raises(NotInThisVersion, match="segment_split"):
        check_counted(dataclasses.replace(dims, rule="segment_split"))


def test_a_model_with_other_matrices_than_its_config_says_is_refused() -> None:
    dims = published("Qwen/Qwen2.5-VL-3B-Instruct")
    numbers = matrix_numbers(dims)
    check_weights(dims, numbers)
    with pytest.raises(NotInThisVersion, match="the projector part has matrices of 7 numbers"):
        check_weights(dims, {**numbers, "projector": 7})


def test_packs_add_up_and_conversations_do_not_see_each_other() -> None:
    dims = published("Qwen/Qwen2.5-VL-3B-Instruct")
    small, large = Picture(rows=4, columns=4, tokens=4), Picture(rows=8, columns=12, tokens=24)
    one, other = work_of(dims, (0, 10), 3, [small]), work_of(dims, (0, 20), 5, [large, small])
    assert one + other == work_of(dims, (0, 10, 30), 8, [small, large, small])


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flops") / "model"
    sizes = {"vision_width": 48, "width": 64, "layers": 3, "mrope_section": (2, 2, 4)}
    families().items[request.param].make_tiny(folder, **sizes)
    return folder


def counted(folder: Path, recipe: Recipe) -> tuple[int, Work]:
    """What torch counts in one pass and back, in eager attention, which multiplies every pair."""
    family = family_of(folder)
    processor = family.open(folder)
    picture = Image.of(np.full((112, 140, 3), 200, np.uint8))
    row = Conversation(
        (Message("user", (picture, Text("何?"))), Message("assistant", (Text("これです。" * 6),)))
    )
    pack = Pack(examples=(processor.encode(row),), pack_tokens=512)
    model = load_model(folder, family)
    model.set_attn_implementation("eager")
    multiply_patches(model)
    prepare_parts(model, family, recipe)
    batch = make_batch(pack, processor, device="cpu", dtype=torch.float32)
    batch.inputs.pop("segments")
    with FlopCounterMode(display=False) as counter:
        token_losses(model, batch).sum().backward()
    work = work_of_pack(tiny_dims(folder), pack)
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
