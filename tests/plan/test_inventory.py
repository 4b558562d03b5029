"""Parameters, optimizer state and dtypes by the recipe."""

from __future__ import annotations

from typing import Any

from manako.core.recipe import Recipe, Source
from manako.plan.inventory import Inventory, Weight

WEIGHTS = (
    Weight(name="v.proj", part="vision", shape=(8, 8), is_hidden_matrix=True),
    Weight(name="p.0", part="projector", shape=(4, 8), is_hidden_matrix=True),
    Weight(
        name="l.q", part="language", shape=(6, 4), is_hidden_matrix=True, is_adapter_target=True
    ),
    Weight(name="l.norm", part="language", shape=(4,)),
    Weight(name="head", part="language", shape=(10, 4), is_head=True),
)


def recipe(**changes: Any) -> Recipe:
    return Recipe(model="m", data=(Source(path="d"),), output_dir="o", **changes)


def test_adapters_are_counted_beside_the_weights_they_leave_alone() -> None:
    parts = Inventory(WEIGHTS).count_parts(
        recipe(method="lora", lora_r=2, train={"language": "1e-4", "projector": "1e-4"})
    )
    assert parts["language"].adapter_parameters == parts["language"].trained == 2 * (6 + 4)
    assert parts["language"].parameters == 24 + 4 + 40
    assert parts["projector"].trained == 32
    assert parts["vision"].trained == 0


def test_muon_keeps_one_state_for_hidden_matrices_and_two_for_the_rest() -> None:
    full = {"language": "1e-4", "projector": "1e-4", "vision": "1e-4"}
    inventory = Inventory(WEIGHTS)
    assert inventory.state_parameters(recipe(train=full)) == 2 * inventory.parameters
    matrices, others = 64 + 32 + 24, 4 + 40
    assert inventory.state_parameters(recipe(train=full, optim="muon")) == matrices + 2 * others


def test_only_frozen_weights_of_a_half_checkpoint_stay_half_under_bf16() -> None:
    frozen_vision = {"language": "1e-4", "projector": "1e-4"}
    inventory = Inventory(WEIGHTS, is_half=True)
    assert inventory.weight_bytes(recipe(train=frozen_vision)) == 4 * inventory.parameters
    mixed = recipe(train=frozen_vision, bf16=True)
    assert inventory.weight_bytes(mixed) == 2 * 64 + 4 * (inventory.parameters - 64)
    assert inventory.cast_bytes(mixed) == 2 * (32 + 24 + 40)


def test_a_branch_that_nothing_reaches_is_held_and_never_trained() -> None:
    """As the branch for sound that stands in a vision part."""
    sound = Weight(
        name="s", part="vision", shape=(70, 70), is_hidden_matrix=True, is_trainable=False
    )
    full = {"language": "1e-4", "projector": "1e-4", "vision": "1e-4"}
    without = Inventory(WEIGHTS, is_half=True)
    with_sound = Inventory((*WEIGHTS, sound), is_half=True)
    counted = with_sound.count_parts(recipe(train=full))["vision"]
    assert (counted.parameters, counted.trained) == (64 + 4900, 64)
    for optim in ("adamw", "muon", "adamw_bnb_8bit"):
        asked = recipe(train=full, optim=optim, bf16=True)
        assert with_sound.state_bytes(asked) == without.state_bytes(asked)
        assert with_sound.cast_bytes(asked) == without.cast_bytes(asked)
        assert with_sound.largest_shape_group(asked) == without.largest_shape_group(asked)
        assert with_sound.weight_bytes(asked) == without.weight_bytes(asked) + 2 * 4900


def test_muon_works_on_matrices_of_one_shape_together() -> None:
    full = {"language": "1e-4", "projector": "1e-4", "vision": "1e-4"}
    twice = (*WEIGHTS, Weight(name="v.b", part="vision", shape=(8, 8), is_hidden_matrix=True))
    inventory = Inventory(twice)
    assert inventory.largest_shape_group(recipe(train=full, optim="muon")) == 2 * 64
    assert inventory.largest_shape_group(recipe(train=full)) == 0


def test_layers_that_are_computed_again_keep_no_casts() -> None:
    inventory = Inventory(WEIGHTS)
    trained = {"language": "1e-4", "projector": "1e-4", "vision": "1e-4"}
    for asked, left in ((False, 160), ("vision", 96), ("language", 136), (True, 72)):
        mixed = recipe(train=trained, bf16=True, gradient_checkpointing=asked)
        assert inventory.cast_bytes(mixed) == 2 * 160
        assert inventory.kept_cast_bytes(mixed) == 2 * left


def test_optimizer_state_takes_its_own_dtype() -> None:
    inventory, full = Inventory(WEIGHTS), {"language": "1e-4"}
    wide = recipe(train=full)
    assert inventory.state_bytes(wide) == 8 * (24 + 4 + 40)
    half = recipe(train=full, optim_state_dtype="bfloat16")
    assert 2 * inventory.state_bytes(half) == inventory.state_bytes(wide)


def test_eight_bits_are_for_tensors_of_4096_numbers_and_more() -> None:
    large = Weight(name="l", part="language", shape=(512, 64), is_adapter_target=True)
    inventory = Inventory((large, Weight(name="s", part="language", shape=(64, 63))))
    eight = recipe(train={"language": "1e-4"}, optim="adamw_torch_8bit")
    numbers, scales, small = 512 * 64, 512 * 64 // 256, 64 * 63
    assert inventory.state_bytes(eight) == 2 * (numbers + 4 * scales) + 8 * small
    adapters = recipe(method="lora", lora_r=8, optim="adamw_bnb_8bit")
    assert inventory.state_bytes(adapters) == 2 * (8 * 512 + 4 * 16) + 8 * (8 * 64)
