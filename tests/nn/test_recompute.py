"""Layers that are computed again: the same loss and the same gradients, packed and with pictures."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manako.core.errors import RecipeError
from manako.core.family import Family, families
from manako.core.recipe import Recipe, Source
from manako.nn import attention, recompute
from manako.nn.attention import use_segments
from manako.nn.batch import Batch, make_batch
from manako.nn.checkpoint import load_model
from manako.nn.patches import multiply_patches
from manako.train.parts import prepare_parts
from manako.train.step import training_step
from manako.verify._subject import Subject

FAMILIES = sorted(families().items)
WAYS: dict[str, dict[str, Any]] = {
    "all": {"train": {"language": "1e-3", "projector": "1e-3", "vision": "1e-3"}},
    "frozen-vision": {"train": {"language": "1e-3", "projector": "1e-3"}},
    "frozen-language": {"train": {"projector": "1e-3"}},
    "adapters": {
        "method": "lora",
        "train": {"language": "1e-3", "projector": "1e-3", "vision": "lora 1e-3"},
        "lora_r": 4,
        "lora_dropout": 0.3,
    },
}
CASES = [
    (name, way)
    for name in FAMILIES
    for way in sorted(WAYS)
    if families().items[name].takes_images or way == "all"  # a text model has one part
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("recompute")
    for name in FAMILIES:
        families().items[name].make_tiny(parent / name, seed=1)
    return {name: parent / name for name in FAMILIES}


def recipe_for(way: str, name: str = "qwen2_vl", **changes: Any) -> Recipe:
    """A way to train a family, of the parts that it has."""
    parts = families().items[name].parts
    train = {part: how for part, how in WAYS[way]["train"].items() if part in parts}
    settings = {**WAYS[way], "train": train, **changes}
    return Recipe(model="m", data=(Source(path="d"),), output_dir="o", **settings)


def opened(folder: Path, recipe: Recipe) -> tuple[Any, Family, list[Batch]]:
    """A model as training opens it, and two packs of several conversations with pictures."""
    subject = Subject(folder)
    model = load_model(folder, subject.family, dtype="float32")
    use_segments(model)
    multiply_patches(model)
    recompute.recompute_layers(model, subject.family, recipe.recomputed_parts())
    torch.manual_seed(3)
    prepare_parts(model, subject.family, recipe)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.1)  # zeros would hide what dropout does
    examples = [subject.processor.encode(probe) for probe in subject.probes()]
    dtype = torch.bfloat16 if recipe.bf16 else torch.float32
    batches = [
        make_batch(subject.pack(part), subject.processor, device="cpu", dtype=dtype)
        for part in (examples[:4], examples[4:])
    ]
    return model.train(), subject.family, batches


def learned(folder: Path, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Loss, gradients, and the random state after one step."""
    model, _, batches = opened(folder, recipe)
    torch.manual_seed(7)
    context = torch.autocast("cpu", torch.bfloat16) if recipe.bf16 else contextlib.nullcontext()
    tokens = sum(len(batch.targets) for batch in batches)
    plain, model.forward = model.forward, lambda **inputs: _within(context, plain, inputs)
    loss = training_step(model, batches, trained_tokens=tokens)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss, gradients, torch.get_rng_state()


def _within(context: Any, forward: Any, inputs: dict[str, Any]) -> Any:
    """As Accelerate does it: the forward pass alone is under autocast, the backward pass is not."""
    with context:
        return forward(**inputs)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("family", "way"), CASES)
def test_nothing_that_is_learned_changes_by_a_bit(
    folders: dict[str, Path], family: str, way: str, bf16: bool
) -> None:
    loss, gradients, state = learned(folders[family], recipe_for(way, family, bf16=bf16))
    again = recipe_for(way, family, bf16=bf16, gradient_checkpointing=True)
    same_loss, same_gradients, same_state = learned(folders[family], again)
    # The same kernels on the same numbers in the same order: no tolerance is needed on a CPU.
    assert torch.equal(loss, same_loss)
    assert gradients.keys() == same_gradients.keys()
    assert gradients
    different = [n for n in gradients if not torch.equal(gradients[n], same_gradients[n])]
    assert different == []
    assert torch.equal(state, same_state)  # the second pass draws no number of its own


@pytest.mark.parametrize("family", FAMILIES)
def test_conversations_and_pictures_stay_apart_in_the_second_pass(
    folders: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that lost the boundaries when it is computed again would mix its neighbours in."""
    attend, seen = attention._attend_segments, Counter[Any]()

    def spy(query: Tensor, key: Tensor, value: Tensor, boundaries: Any, *others: Any) -> Tensor:
        seen[boundaries] += 1
        return attend(query, key, value, boundaries, *others)

    monkeypatch.setattr(attention, "_attend_segments", spy)
    learned(folders[family], recipe_for("all", family))
    once, seen = dict(seen), Counter[Any]()
    learned(folders[family], recipe_for("all", family, gradient_checkpointing=True))
    assert len(once) >= 2  # texts of two packs, and pictures where a tower is told their boundaries
    assert seen == {boundaries: 2 * times for boundaries, times in once.items()}


@pytest.mark.parametrize("asked", ["vision", "language", True])
def test_only_the_named_parts_run_twice(folders: dict[str, Path], asked: Any) -> None:
    model, family, batches = opened(
        folders["qwen2_vl"], recipe_for("all", gradient_checkpointing=asked)
    )
    runs: Counter[str] = Counter()
    for name, module in model.named_modules():
        if name.endswith((".norm1", ".input_layernorm")):
            part = family.part_of(name)
            module.register_forward_hook(lambda *_, part=part: runs.update([part]))
    training_step(model, batches[:1], trained_tokens=9)
    layers = {
        "vision": model.config.vision_config.depth,
        "language": model.config.text_config.num_hidden_layers,
    }
    twice = [part for part in layers if asked in (True, part)]
    assert runs == {part: n * (2 if part in twice else 1) for part, n in layers.items()}


def test_without_gradients_a_layer_runs_as_it_is(folders: dict[str, Path]) -> None:
    model, _, (batch, _) = opened(
        folders["qwen2_vl"], recipe_for("all", gradient_checkpointing=True)
    )
    plain, _, _ = opened(folders["qwen2_vl"], recipe_for("all"))
    with torch.no_grad():
        assert torch.equal(model(**batch.inputs).logits, plain(**batch.inputs).logits)
    model.eval()
    assert model(**batch.inputs).logits.requires_grad


def test_a_part_without_layers_is_refused() -> None:
    family = families().items["qwen2_vl"]
    with pytest.raises(RecipeError, match="the language part of family qwen2_vl has no layer"):
        recompute.recompute_layers(nn.Linear(2, 2), family, ["language"])
