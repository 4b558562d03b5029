"""What saves memory in a run changes what is learned by no bit, or by no more than is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from manako.core.recipe import Recipe
from manako.core.record import read_record
from manako.train.loop import run_training

MakeRecipe = Callable[..., Recipe]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that a checkpoint holds as tensors, optimizer and random states too."""
    return {
        f"{file.name}/{name}": tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def checkpoint(outcome: Any) -> dict[str, torch.Tensor]:
    assert outcome.checkpoint is not None
    return tensors(outcome.checkpoint)


def assert_same(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == others.keys()
    assert [name for name in ours if not torch.equal(ours[name], others[name])] == []


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_record(folder / "record.jsonl").of_kind("step")]


def test_layers_computed_again_end_with_the_same_weights(recipe: MakeRecipe) -> None:
    adapted = {"language": "1e-2", "projector": "1e-2", "vision": "lora 1e-2"}
    lora = {"method": "lora", "train": adapted, "lora_r": 4, "lora_dropout": 0.2}
    for way, changes in {"full": {}, "lora": lora}.items():
        plain = run_training(recipe(f"{way}-plain", **changes))
        again = run_training(recipe(f"{way}-again", gradient_checkpointing=True, **changes))
        assert losses(plain.folder) == losses(again.folder)
        assert_same(checkpoint(plain), checkpoint(again))


def end_at_step(step: int, recipe: Recipe) -> None:
    """Train, and end without warning after this step; the one before it is saved."""

    def end(event: Any) -> None:
        if event["kind"] == "step" and event["step"] == step:
            raise MemoryError

    with pytest.raises(MemoryError):
        run_training(recipe.replace(save_steps=step - 1), listener=end)


def test_a_run_may_go_on_with_less_memory(recipe: MakeRecipe) -> None:
    """Whoever runs out of memory turns the lever and goes on, with the very same weights."""
    whole = run_training(recipe("whole"))
    end_at_step(3, recipe("cut"))
    gone_on = run_training(recipe("cut", gradient_checkpointing="language"))
    assert_same(checkpoint(whole), checkpoint(gone_on))


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_bfloat16_state_is_half_as_large_and_goes_on_bit_for_bit(
    recipe: MakeRecipe, optim: str
) -> None:
    changes = {"optim": optim, "optim_state_dtype": "bfloat16", "weight_decay": 0.1}
    whole = run_training(recipe("whole", **changes))
    end_at_step(4, recipe("cut", **changes))
    gone_on = run_training(recipe("cut", **changes))
    assert_same(checkpoint(whole), checkpoint(gone_on))
    wide = run_training(recipe("float32", optim=optim, max_steps=1))
    sizes = [state_bytes(checkpoint(run)) for run in (whole, wide)]
    assert sizes[0] * 2 == sizes[1]
    setup = next(iter(read_record(whole.folder / "record.jsonl").of_kind("setup")))
    assert "bfloat16 state" in setup["optimizer"]


def state_bytes(found: dict[str, torch.Tensor]) -> int:
    """Bytes of the optimizer's state, without its counters of steps."""
    state = (t for n, t in found.items() if n.startswith("optimizer.") and not n.endswith(".step"))
    return sum(tensor.nbytes for tensor in state)


def test_bfloat16_trains_float32_weights(recipe: MakeRecipe, world: Any) -> None:
    """Steps too small for bfloat16 add up, because what is trained is a float32 weight; bfloat16
    copies are made of it for each pass."""
    before = load_file(world.model / "model.safetensors")
    train = {"language": "1e-7", "projector": "1e-7", "vision": "1e-7"}
    outcome = run_training(recipe(bf16=True, train=train, max_steps=3))
    assert outcome.checkpoint is not None
    after = load_file(outcome.checkpoint / "model.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (after[name] != before[name]).float().mean()
    seen = (after[name].bfloat16() != before[name].bfloat16()).float().mean()
    # 3 · 1e-7 on weights of about 0.05, whose next bfloat16 neighbour is 1e-4 away.
    assert (float(moved) > 0.9, float(seen) < 0.02) == (True, True)
