"""Optimizers: Muon against a plain reading of its papers, groups, and state there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from manako.core.errors import CheckpointError
from manako.core.recipe import Recipe, Source
from manako.families.qwen2_vl import FAMILY
from manako.nn.checkpoint import load_model
from manako.train import optimizers
from manako.train.optimizers import Muon


def plain_muon(
    weight: torch.Tensor, grads: list[torch.Tensor], *, lr: float, decay: float
) -> torch.Tensor:
    """One matrix at a time, in float64, as the papers write it."""
    weight = weight.double().clone()
    momentum = torch.zeros_like(weight)
    for gradient in grads:
        momentum = 0.95 * momentum + 0.05 * gradient.double()
        update = 0.05 * gradient.double() + 0.95 * momentum
        update = update / update.norm()
        for _ in range(5):
            gram = update @ update.T
            update = 3.4445 * update + (-4.7750 * gram + 2.0315 * gram @ gram) @ update
        weight = weight * (1 - lr * decay)
        weight = weight - lr * 0.2 * max(weight.shape) ** 0.5 * update
    return weight


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_muon_equals_a_plain_reference(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(shape, generator=generator) for _ in range(3)]
    grads = [[torch.randn(shape, generator=generator) for _ in range(4)] for _ in weights]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    muon = Muon(parameters, lr=0.1, weight_decay=0.3)
    for step in range(4):
        for parameter, each in zip(parameters, grads, strict=True):
            parameter.grad = each[step].clone()
        muon.step()
    for parameter, weight, each in zip(parameters, weights, grads, strict=True):
        expected = plain_muon(weight, each, lr=0.1, decay=0.3)
        # float32 against float64 over four steps; seen 5e-6 at weights of about 1
        assert torch.allclose(parameter.double(), expected, atol=5e-5)


def test_singular_values_come_near_one() -> None:
    matrices = torch.randn(5, 12, 7, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(optimizers.orthogonalise(matrices))
    # The coefficients are made to land in this range, not on 1 (Keller Jordan, above).
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3


def test_a_matrix_without_gradient_is_left_alone() -> None:
    moved, still = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    muon = Muon([moved, still], lr=0.1, weight_decay=0.1)
    moved.grad = torch.eye(2)
    muon.step()
    assert torch.equal(still, torch.ones(2, 2))
    assert not torch.equal(moved, torch.ones(2, 2))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tiny")
    FAMILY.make_tiny(folder, tie_embeddings=False)
    return load_model(folder, FAMILY)


def recipe_with(**changes: Any) -> Recipe:
    fields = {"language": "1e-3", "projector": "2e-3", "vision": "4e-3"}
    return Recipe(
        model="m", output_dir="o", data=(Source(path="d"),), **{"train": fields, **changes}
    )


def names_in(optimizer: torch.optim.Optimizer, model: Any) -> dict[str, dict[str, Any]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group for group in optimizer.param_groups for p in group["params"]}


def test_muon_takes_hidden_matrices_and_adamw_the_rest(model: Any) -> None:
    recipe = recipe_with(optim="muon", muon_adamw_ratio=0.5, weight_decay=0.01)
    muon, adamw = optimizers.build_optimizers(model, FAMILY, recipe)
    matrices, rest = names_in(muon, model), names_in(adamw, model)
    assert matrices.keys() | rest.keys() == {name for name, _ in model.named_parameters()}
    assert not matrices.keys() & rest.keys()
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in matrices
    assert "model.visual.merger.mlp.0.weight" in matrices
    for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
        assert rest[name]["full_rate"] == 0.5e-3
    assert rest["model.visual.patch_embed.proj.weight"]["full_rate"] == 2e-3
    assert matrices["model.visual.merger.mlp.0.weight"]["full_rate"] == 2e-3
    assert rest["model.language_model.norm.weight"]["weight_decay"] == 0.0
    assert rest["lm_head.weight"]["weight_decay"] == 0.01


def test_rates_follow_the_factor_per_part(model: Any) -> None:
    built = optimizers.build_optimizers(model, FAMILY, recipe_with())
    rates = optimizers.set_rates(built, 0.25)
    assert rates == {"vision": 1e-3, "projector": 5e-4, "language": 2.5e-4}


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_state_goes_there_and_back_bit_for_bit(model: Any, optim: str) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    recipe = recipe_with(optim=optim)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def steps(built: list[torch.optim.Optimizer], seeds: range) -> dict[str, torch.Tensor]:
        optimizers.set_rates(built, 1.0)
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for parameter in names:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            for optimizer in built:
                optimizer.step()
        return {name: parameter.detach().clone() for parameter, name in names.items()}

    first = optimizers.build_optimizers(model, FAMILY, recipe)
    halfway = steps(first, range(2))
    saved = {k: v.clone() for k, v in optimizers.state_tensors(first, names).items()}
    expected = steps(first, range(2, 4))
    for parameter, name in names.items():
        parameter.data.copy_(halfway[name])
    second = optimizers.build_optimizers(model, FAMILY, recipe)
    optimizers.restore_state(second, names, saved)
    found = steps(second, range(2, 4))
    assert all(torch.equal(found[name], expected[name]) for name in names.values())
    for parameter, name in names.items():
        parameter.data.copy_(before[name])


def test_state_of_an_untrained_parameter_is_refused(model: Any) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    built = optimizers.build_optimizers(model, FAMILY, recipe_with())
    with pytest.raises(CheckpointError, match="for x, which is not trained"):
        optimizers.restore_state(built, names, {"x.exp_avg": torch.zeros(1)})


def test_implementations_are_told(model: Any, tmp_path: Path) -> None:
    built = optimizers.build_optimizers(model, FAMILY, recipe_with(optim="muon"))
    assert optimizers.describe(built) == "Muon (float32, batched) + AdamW (fused)"
