"""What is trained: each part frozen, in full or through adapters, as the recipe says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from manako.core.errors import RecipeError
from manako.core.family import PARTS
from manako.core.recipe import DEFAULT_TRAIN
from manako.nn import adapters
from manako.nn.checkpoint import count_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from manako.core.family import Family, PartName
    from manako.core.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainedPart:
    """How one part is trained. parameters: all it has, adapters included; trained: those that
    move; modules: how many of its modules carry adapters."""

    how: Literal["frozen", "full", "lora"]
    learning_rate: float
    parameters: int
    trained: int
    modules: int


def prepare_parts(
    model: PreTrainedModel, family: Family, recipe: Recipe
) -> dict[PartName, TrainedPart]:
    """Attach adapters, freeze what is frozen, and say what came of it.

    Fresh adapters come from torch's random state. Raises `RecipeError` for a part that is to be
    trained and that the model does not have, `AdapterError` where adapters find no module.
    """
    settings = recipe.part_settings()
    _check_parts(model, family, recipe)
    adapted = [part for part in PARTS if settings[part].how == "lora"]
    names: Iterable[str] = ()
    if adapted:
        names = adapters.attach(
            model,
            family,
            adapted,
            r=recipe.lora_r,
            alpha=recipe.lora_alpha,
            dropout=recipe.lora_dropout,
        )
    for name, parameter in model.named_parameters():
        how = settings[family.part_of(name)].how
        is_full = how == "full" and family.is_trainable(name)
        parameter.requires_grad_(is_full or adapters.is_adapter_parameter(name))
    return _summary(model, family, recipe, [family.part_of(name) for name in names])


def full_parameters(model: torch.nn.Module) -> list[str]:
    """Names of the trained parameters that belong to no adapter."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not adapters.is_adapter_parameter(name)
    ]


def set_precision(model: torch.nn.Module, *, bf16: bool) -> None:
    """Trained weights in float32, whatever computes. With `bf16`, frozen ones in bfloat16 where
    that loses nothing: half the memory, the same model."""
    for parameter in model.parameters():
        if parameter.requires_grad or not bf16:
            parameter.data = parameter.data.float()
        elif parameter.dtype == torch.float32:
            rounded = parameter.data.to(torch.bfloat16)
            if torch.equal(rounded.float(), parameter.data):
                parameter.data = rounded


def _check_parts(model: Any, family: Family, recipe: Recipe) -> None:
    if recipe.train == DEFAULT_TRAIN:
        return
    counts = count_parameters(model, family)
    for part, setting in recipe.part_settings().items():
        if setting.how != "frozen" and not counts[part]:
            raise RecipeError(
                f"train.{part}: family {family.name} has no {part} part",
                next_step=f"take {part} out of `train`",
            )


def _summary(
    model: torch.nn.Module, family: Family, recipe: Recipe, adapted: list[PartName]
) -> dict[PartName, TrainedPart]:
    counts = count_parameters(model, family)
    trained = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            trained[family.part_of(name)] += parameter.numel()
    return {
        part: TrainedPart(
            how=setting.how,
            learning_rate=setting.learning_rate,
            parameters=counts[part],
            trained=trained[part],
            modules=adapted.count(part),
        )
        for part, setting in recipe.part_settings().items()
    }
