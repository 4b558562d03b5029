"""Patch embeddings as matrix products.

A convolution whose kernel is its whole input, as in Qwen's vision towers, is one matrix product per
patch, and convolution kernels are slower at that. Same weights, same numbers up to the order of
additions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def multiply_patches(model: nn.Module) -> int:
    """Let every three-dimensional patch convolution of `model` multiply where its input is one
    patch each; returns how many there are. Weights and their names stay as they are."""
    found = [module for module in model.modules() if _is_patch_convolution(module)]
    for module in found:
        module.forward = _Multiplied(module)
    return len(found)


class _Multiplied:
    """Stands in for the forward of one convolution; input [N, C, t, h, w] → [N, D, 1, 1, 1]."""

    def __init__(self, convolution: Any) -> None:
        self._convolution = convolution

    def __call__(self, patches: Tensor) -> Tensor:
        weight = self._convolution.weight
        if patches.shape[1:] != weight.shape[1:]:
            return nn.Conv3d.forward(self._convolution, patches)
        found = functional.linear(patches.flatten(1), weight.flatten(1), self._convolution.bias)
        return found[:, :, None, None, None]


def _is_patch_convolution(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv3d)
        and module.kernel_size == module.stride
        and not any(int(pad) for pad in module.padding)
        and module.groups == 1
    )
