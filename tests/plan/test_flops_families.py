"""Operations of every family on its tiny checkpoint against torch's own count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.example import ImageInput, Pack
from manako.core.family import Family, Processor, families, family_of
from manako.core.recipe import Recipe, Source
from manako.nn.batch import make_batch, token_losses
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.plan.dims import Dims, describe
from manako.plan.flops import training_flops
from manako.plan.work import Work, pictures_of, work_of_pack
from manako.train.operations import open_operations
from manako.train.parts import prepare_parts

FAMILIES = sorted(families().items)
SEEING = [name for name in FAMILIES if families().items[name].takes_images]
SIDE = 224
"""Of a picture that every tiny checkpoint fills with whole patches, tiles, pieces and crops."""
UNREAD = ("img_processor.head", "img_processor.encoder.layers.2", "vision_tower.encoder.layers.2")
"""Modules that transformers computes and whose result nobody reads: above the second of three
vision layers where the features are those of layer −2."""
Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("flops") / name
            families().items[name].make_tiny(made[name])
        return made[name]

    return make


def pack_of(processor: Processor, family: Family, width: int = SIDE, height: int = SIDE) -> Pack:
    picture = Image.of(np.full((height, width, 3), 200, np.uint8))
    shown = (picture,) if family.takes_images else ()
    asked = Message("user", (*shown, Text("何? " * 10)))
    row = Conversation((asked, Message("assistant", (Text("これです。" * 6),))))
    return Pack(examples=(processor.encode(row),), pack_tokens=2048)


def recipe_of(folder: Path, train: dict[str, Any]) -> Recipe:
    return Recipe(
        model=str(folder), data=(Source(path="x"),), output_dir="x", train=train, lora_r=4
    )


def counted(folder: Path, recipe: Recipe, pack: Pack) -> int:
    """What torch counts in one pass and back, in eager attention, less what nobody reads."""
    family = family_of(folder)
    model = load_model(folder, family)
    model.set_attn_implementation("eager")
    multiply_patches(model)
    prepare_parts(model, family, recipe)
    batch = make_batch(pack, family.open(folder), device="cpu", dtype=torch.float32)
    for name in ("segments", "image_blocks"):
        batch.inputs.pop(name, None)
    with FlopCounterMode(display=False) as counter, plain_products():
        token_losses(model, batch).sum().backward()
    by_module = counter.get_flop_counts()
    unread = [sum(by_module[m].values()) for m in by_module if m.endswith(UNREAD)]
    return int(counter.get_total_flops()) - sum(unread)


@contextlib.contextmanager
def plain_products() -> Iterator[None]:
    """Experts one by one: torch's counter knows no grouped product."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manako.nn.deepseek_vl2_text.can_group", lambda *_: False)
        yield


def expected(folder: Path, recipe: Recipe, pack: Pack) -> int:
    dims = dims_of_folder(folder)
    work = work_of_pack(dims, pack)
    # Eager attention multiplies every pair of tokens.
    every = Work(**{**vars(work), "token_pairs": work.tokens**2, "near_pairs": work.tokens**2})
    return training_flops(dims, recipe.part_settings(), every, rank=recipe.lora_r).total


def dims_of_folder(folder: Path) -> Dims:
    family = family_of(folder)
    dims = describe(family.read_config(folder), family)
    assert dims is not None
    return dims


def patches_in(dims: Dims, image: ImageInput) -> list[int]:
    """Patches that hold picture, of each field of patches that see each other."""
    seen = pictures_of(dims, image)
    return sorted(p.rows * p.columns for p in seen for _ in range(p.crops))


WAYS = [
    {"vision": "1e-4", "projector": "1e-4", "language": "1e-4"},
    {"vision": "frozen", "projector": "1e-4", "language": "1e-4"},
    {"vision": "frozen", "projector": "1e-4", "language": "lora 1e-4"},
    {"vision": "lora 1e-4", "projector": "lora 1e-4", "language": "lora 1e-4"},
    {"vision": "frozen", "projector": "lora 1e-4", "language": "frozen"},
    {"vision": "1e-4", "projector": "frozen", "language": "1e-4"},
]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "train", WAYS, ids=lambda way: "-".join(value.split()[0] for value in way.values())
)
def test_every_family_is_what_torch_counts(
    name: str, train: dict[str, Any], checkpoint: Checkpoint
) -> None:
    folder, family = checkpoint(name), families().items[name]
    train = {part: how if part in family.parts else "frozen" for part, how in train.items()}
    adapted = {part for part, how in train.items() if how.startswith("lora")}
    if set(train.values()) == {"frozen"} or adapted - set(family.adapter_targets):
        pytest.skip("the family cannot be trained in this way")
    pack = pack_of(family.open(folder), family)
    for image in pack.images:  # nothing is filled up, which torch would count
        assert sum(patches_in(dims_of_folder(folder), image)) == image.vision_patches
    recipe = recipe_of(folder, train)
    # What is left is the rotary angles, which transformers multiplies out: 2 per angle.
    assert expected(folder, recipe, pack) == pytest.approx(counted(folder, recipe, pack), rel=0.001)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_of_every_family_is_counted(name: str, checkpoint: Checkpoint) -> None:
    """Its own matrices come to what its config says, so no run leaves operations out."""
    folder, family = checkpoint(name), families().items[name]
    operations = open_operations(
        load_model(folder, family), family, recipe_of(folder, {"language": "1e-4"}), "cpu"
    )
    assert (operations.why_not, operations.dims) == ("", describe_completed(folder, family))


def describe_completed(folder: Path, family: Family) -> Dims | None:
    return describe(load_model(folder, family).config.to_dict(), family)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_as_published_says_what_the_completed_one_says(
    name: str, checkpoint: Checkpoint
) -> None:
    """But for Mistral's window, which transformers fills in and no tiny conversation reaches."""
    folder, family = checkpoint(name), families().items[name]
    published, completed = dims_of_folder(folder), describe_completed(folder, family)
    assert completed is not None
    pack = pack_of(family.open(folder), family)
    settings = recipe_of(folder, WAYS[0]).part_settings()
    flops = [training_flops(d, settings, work_of_pack(d, pack)) for d in (published, completed)]
    assert flops[0] == flops[1]
    assert published.projector == completed.projector
    assert published.patch_attention == completed.patch_attention


@pytest.mark.parametrize("name", SEEING)
def test_patches_that_only_fill_up_are_no_work(name: str, checkpoint: Checkpoint) -> None:
    """Pieces and crops stand in frames of one size, which the tower is handed whole."""
    folder, family = checkpoint(name), families().items[name]
    (image,) = pack_of(family.open(folder), family, width=84, height=60).images
    found = patches_in(dims_of_folder(folder), image)
    if name == "idefics2":  # four quarters of 42 × 42 pixels, the whole of 84 × 60
        assert (found, image.vision_patches) == ([9, 9, 9, 9, 24], 5 * 24)
    elif name == "phi4_multimodal":  # 8 × 6 patches on a sheet of four crops, and the whole view
        assert (found, image.vision_patches) == ([8, 8, 16, 16, 16], 5 * 16)
    else:
        assert sum(found) == image.vision_patches
