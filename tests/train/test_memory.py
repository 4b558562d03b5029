"""What saves memory in a run changes what is learned by no bit, or by no more than is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_a_run_may_go_on_with_less_memory(recipe: MakeRecipe) -> None:
    """Whoever runs out of memory turns the lever and goes on, with the very same weights."""
    whole = run_training(recipe("whole"))

    def stop(event: Any) -> None:
        if event["kind"] == "step" and event["step"] == 3:
            raise MemoryError

    with contextlib.suppress(MemoryError):
        run_training(recipe("cut", save_steps=2), listener=stop)
    gone_on = run_training(recipe("cut", gradient_checkpointing="language"))
    assert_same(checkpoint(whole), checkpoint(gone_on))
