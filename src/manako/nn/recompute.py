"""Layers that are computed a second time in the backward pass, instead of keeping what they made.

What stays of such a layer is its input (Chen et al., arXiv 1604.06174); the price is one more
forward pass of it. `torch.utils.checkpoint` hands the layer the same keywords again (segments,
boundaries of pictures, rotary angles), in the same autocast, and dropout draws the same numbers,
so nothing that is learned changes.

The layers are those that `transformers` marks for this. Its own switch is left alone: it covers
the whole model, and PEFT answers it by making the embeddings require gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from manako.core.errors import RecipeError

if TYPE_CHECKING:
    from manako.core.family import Family, PartName


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a model, with their names: blocks of its vision tower, decoder layers."""
    for name, module in model.named_modules():
        if isinstance(module, GradientCheckpointingLayer):
            yield name, module


def recompute_layers(
    model: nn.Module, family: Family, parts: Collection[PartName]
) -> dict[PartName, int]:
    """Let the layers of these parts be computed again; how many there are in each.

    Once per model. Raises `RecipeError` for a part without such layers.
    """
    counts: dict[PartName, int] = dict.fromkeys(parts, 0)
    for name, module in layers_of(model):
        part = family.part_of(name)
        if part in counts:
            module.forward = _Twice(module, module.forward)
            counts[part] += 1
    for part, count in counts.items():
        if not count:
            raise RecipeError(
                f"gradient_checkpointing: the {part} part of family {family.name} has no layer "
                "that could be computed again",
                next_step="leave that part out of gradient_checkpointing",
            )
    return counts


class _Twice:
    """Stands in for the forward of one layer; as it was, where no gradient is asked for."""

    def __init__(self, layer: nn.Module, forward: Callable[..., Any]) -> None:
        self._layer = layer
        self._forward = forward

    def __call__(self, *args: Any, **others: Any) -> Any:
        if not (self._layer.training and torch.is_grad_enabled()):
            return self._forward(*args, **others)
        return checkpoint(self._forward, *args, use_reentrant=False, **others)
