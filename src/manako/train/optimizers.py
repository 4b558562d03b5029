"""Optimizers: AdamW as torch has it, and Muon in float32.

Muon: Keller Jordan's momentum orthogonalised by Newton–Schulz iterations
(https://kellerjordan.github.io/posts/muon/), with the scale of Moonlight (arXiv 2502.16982), under
which an update has about the size of AdamW's, so rates and weight decay carry over. It differs
from torch's own in that all arithmetic is float32 (bfloat16 matrix products are very slow on
CPUs) and matrices of one shape go through the iterations together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from manako.core.errors import CheckpointError
from manako.train.adamw import RoundedAdamW
from manako.train.eight_bit import (
    LIBRARIES,
    describe_8bit,
    library_of,
    open_8bit,
    plain_state,
    restore_8bit,
)

if TYPE_CHECKING:
    from manako.core.family import Family
    from manako.core.recipe import Recipe

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Keller Jordan's quintic iteration."""
NEWTON_SCHULZ_STEPS = 5
TINY = 1e-7
ADAMW_RMS = 0.2
"""Usual root mean square of an AdamW update (arXiv 2502.16982, §2.2)."""


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; for matrices of hidden layers only.

    params: as for any torch optimizer, every tensor of two dimensions. state_dtype: of the state,
    which is `momentum`, one plain tensor per parameter. It changes by a twentieth a step, so that
    bfloat16 may round it to the nearest.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        state_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.state_dtype = state_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in _by_shape(group["params"]):
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        momentum, lr = group["momentum"], group["lr"]
        grads = [p.grad for p in parameters if p.grad is not None]
        kept = [self._momentum(p) for p in parameters]
        buffers = [buffer.float() for buffer in kept]  # the same tensors where they are float32
        torch._foreach_lerp_(buffers, grads, 1.0 - momentum)
        torch._foreach_copy_(kept, buffers)
        ahead = torch._foreach_lerp(grads, buffers, momentum)  # Nesterov's look ahead
        updates = orthogonalise(torch.stack(list(ahead)).float()).unbind()
        rows, columns = parameters[0].shape
        scale = ADAMW_RMS * max(rows, columns) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(list[Tensor](parameters), 1.0 - lr * group["weight_decay"])
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.add_(update.to(parameter.dtype), alpha=-lr * scale)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter, dtype=self.state_dtype)
        return state["momentum"]  # type: ignore[no-any-return]


def orthogonalise(matrices: Tensor) -> Tensor:
    """float32 [k, rows, columns] → the same, each matrix near U·Vᵀ of its own U·S·Vᵀ.

    Five quintic Newton–Schulz iterations leave singular values between about 0.7 and 1.2, which
    is what the method is tuned for, not exactly 1.
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + TINY)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.mT)
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if is_tall else x


def _by_shape(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    groups: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            groups[parameter.shape].append(parameter)
    return list(groups.values())


def build_optimizers(model: Any, family: Family, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Optimizers for what is trained, by the recipe; every group carries `part` and `full_rate`.

    Weight decay is for tensors of two dimensions and more, as in `transformers`.
    """
    groups = _groups(model, family, recipe)
    optimizers: list[torch.optim.Optimizer] = []
    if groups["muon"]:
        dtype = getattr(torch, recipe.optim_state_dtype)
        optimizers.append(
            Muon(groups["muon"], lr=0.0, momentum=recipe.muon_momentum, state_dtype=dtype)
        )
    if groups["adamw"]:
        optimizers.append(_build_adamw(groups["adamw"], recipe))
    return optimizers


def _build_adamw(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optim in LIBRARIES:
        return open_8bit(groups, recipe)
    betas, eps = (recipe.adam_beta1, recipe.adam_beta2), recipe.adam_epsilon
    if recipe.optim_state_dtype == "bfloat16":
        return RoundedAdamW(groups, lr=0.0, betas=betas, eps=eps)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def describe(optimizers: Sequence[torch.optim.Optimizer]) -> str:
    """Implementations in words: fused and foreach give different bits, so a run records it."""
    return " + ".join(_implementation(each) for each in optimizers)


def _implementation(optimizer: torch.optim.Optimizer) -> str:
    if isinstance(optimizer, Muon):
        is_half = optimizer.state_dtype == torch.bfloat16
        return f"Muon (float32, batched{', bfloat16 state' if is_half else ''})"
    if library_of(optimizer):
        return describe_8bit(optimizer)
    if isinstance(optimizer, RoundedAdamW):
        return "AdamW (bfloat16 state)"
    return "AdamW (fused)" if isinstance(optimizer, torch.optim.AdamW) else type(optimizer).__name__


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> dict[str, float]:
    """Set every group's rate to `factor` of its full rate; the rate of each part."""
    rates: dict[str, float] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = group["full_rate"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # torchao's, which wants to keep its tensor
            else:
                group["lr"] = rate
            rates.setdefault(group["part"], rate)
    return rates


def state_tensors(
    optimizers: Iterable[torch.optim.Optimizer], names: Mapping[Tensor, str]
) -> dict[str, Tensor]:
    """All state as plain tensors, called `parameter name` + `.` + `state name`."""
    return {
        f"{names[parameter]}.{key}": value
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in plain_state(state).items()
    }


def restore_state(
    optimizers: Iterable[torch.optim.Optimizer],
    names: Mapping[Tensor, str],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put state back, bit for bit. Raises `CheckpointError` for state of no trained parameter."""
    states: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        states[name][key] = tensor
    for optimizer in optimizers:
        library = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                found = states.pop(names[parameter], None)
                if found and library_of(_bare(optimizer)):
                    library[parameter] = found
                elif found:
                    optimizer.state[parameter] = _placed(found, parameter, group)
        if library:
            restore_8bit(_bare(optimizer), library)
    if states:
        raise CheckpointError(
            f"optimizer state for {', '.join(sorted(states)[:10])}, which is not trained"
        )


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """An optimizer without what Accelerate puts around it."""
    bare: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return bare


def _placed(
    state: Mapping[str, Tensor], parameter: nn.Parameter, group: Mapping[str, Any]
) -> dict[str, Tensor]:
    """State on its parameter's device; AdamW's step counter is there only when it is fused."""
    stays = set() if group.get("fused") else {"step"}
    return {k: v.clone() if k in stays else v.to(parameter.device) for k, v in state.items()}


def _groups(model: Any, family: Family, recipe: Recipe) -> dict[str, list[dict[str, Any]]]:
    settings = recipe.part_settings()
    matrices = _hidden_matrices(model) if recipe.optim == "muon" else set()
    found: dict[tuple[str, str, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "muon" if parameter in matrices else "adamw"
            decay = recipe.weight_decay if parameter.ndim >= 2 else 0.0
            found[kind, family.part_of(name), decay].append(parameter)
    groups: dict[str, list[dict[str, Any]]] = {"muon": [], "adamw": []}
    for (kind, part, decay), parameters in found.items():
        rate = settings[part].learning_rate  # type: ignore[index]
        if recipe.optim == "muon" and kind == "adamw":
            rate *= recipe.muon_adamw_ratio
        groups[kind].append(
            {"params": parameters, "weight_decay": decay, "part": part, "full_rate": rate}
        )
    return groups


def _hidden_matrices(model: Any) -> set[Tensor]:
    """Weights of linear layers, without those that are an embedding or the LM head."""
    ends = {
        module.weight
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
    }
    linear = {m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    return linear - ends
