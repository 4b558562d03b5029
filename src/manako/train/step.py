"""One global step: gradients of the loss per trained token, then one clipped update.

Free of any launcher, so that the laws of `verify/` run the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from manako.core.family import PARTS
from manako.nn.batch import Batch, token_losses

if TYPE_CHECKING:
    from torch import Tensor

    from manako.core.family import Family, PartName

Backward = Callable[["Tensor"], object]


def training_step(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    trained_tokens: int,
    backward: Backward = torch.autograd.backward,
) -> Tensor:
    """Add the gradients of a global step to `.grad`; its loss per trained token, float32 [].

    The loss is the sum over trained tokens divided by `trained_tokens` of the *whole* step, so
    how the step is cut into packs changes nothing but the order of additions.
    """
    total: Tensor | None = None
    for batch in batches:
        loss = token_losses(model, batch).sum() / trained_tokens
        backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
    return torch.zeros(()) if total is None else total


def trained_by_part(model: nn.Module, family: Family) -> dict[PartName, list[nn.Parameter]]:
    """Parameters that are trained, per part; parts without any are left out."""
    found: dict[PartName, list[nn.Parameter]] = {part: [] for part in PARTS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found[family.part_of(name)].append(parameter)
    return {part: parameters for part, parameters in found.items() if parameters}


def part_norms(parts: Mapping[PartName, Sequence[nn.Parameter]]) -> dict[PartName, Tensor]:
    """The norm of each part's gradient, float32 []; of the rows that are here, where it is shared
    out."""
    return {
        part: torch.nn.utils.get_total_norm(_gradients(parameters))
        for part, parameters in parts.items()
    }


def clip_gradients(
    parts: Mapping[PartName, Sequence[nn.Parameter]],
    max_norm: float,
    norms: Mapping[PartName, Tensor] | None = None,
) -> dict[PartName, Tensor]:
    """Scale all gradients so that their common norm is at most `max_norm` (0: leave them).

    Returns the norm of each part, float32 [], as it was before; `norms` where they are known.
    """
    found = dict(part_norms(parts) if norms is None else norms)
    if max_norm > 0:
        total = torch.stack([norm.float() for norm in found.values()]).norm()
        everything = [p for parameters in parts.values() for p in parameters]
        torch.nn.utils.clip_grads_with_norm_(everything, max_norm, total)
    return found


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    found = [p.grad for p in parameters if p.grad is not None]
    return [g.to_local() if hasattr(g, "to_local") else g for g in found]


def update(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Apply the gradients and forget them."""
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
