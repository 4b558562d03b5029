"""AdamW whose moments are kept in bfloat16: half the optimizer's memory.

The step itself is float32, as in Loshchilov & Hutter (arXiv 1711.05101); only what is kept until the
next one is rounded. The second moment changes by a thousandth a step (`adam_beta2` 0.999), less than
the half step of bfloat16 (a 512th): rounded to the nearest it would never fall again. So moments are
rounded up or down by chance, right in the mean (Gupta et al., arXiv 1502.02551). The chance is a
function of the step's number and of the place in the weight: a run that goes on, and every rank,
draws the same, also where a rank has only some rows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

PIECE = 1 << 22
"""Numbers of a weight that are updated at once: what is float32 for a moment stays small."""
MOST_CHANCE = (1 << 16) - 1
"""The bits that float32 has and bfloat16 has not, all set."""


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW with bfloat16 moments. State: `step`, `exp_avg`, `exp_avg_sq`, as torch's own has."""

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        chances = _Chances(self._parameters())
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group, chances)
        return loss

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _update(self, parameter: nn.Parameter, group: Mapping[str, Any], chances: _Chances) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.bfloat16)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.bfloat16)
        state["step"] += 1
        number = int(state["step"])
        tensors: tuple[Any, ...] = (
            parameter,
            parameter.grad,
            state["exp_avg"],
            state["exp_avg_sq"],
        )
        here = [_rows_here(tensor) for tensor in tensors]
        first = _first_row(parameter)
        for begin, end in _pieces(first, first + len(here[0]), _rows_at_once(parameter)):
            weight, grad, mean, square = (rows[begin - first : end - first] for rows in here)
            skipped = begin % _rows_at_once(parameter) * weight[0].numel()
            chance = chances.of(number, weight, skipped)
            _update_piece(weight, grad, mean, square, group, number, chance)


def _rows_at_once(weight: Tensor) -> int:
    """How many rows of a weight are updated at once."""
    rows = len(weight) if weight.ndim else 1
    return max(1, PIECE * rows // max(1, weight.numel()))


def _rows_here(tensor: Any) -> Tensor:
    """The rows that this rank has, of a weight that ranks share; a single number is one row."""
    here: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return here if here.ndim else here.view(1)


def _first_row(weight: Tensor) -> int:
    """Which row of the weight is this rank's first: FSDP2 shares rows out as `torch.chunk` does."""
    if not isinstance(weight, DTensor):
        return 0
    mesh = weight.device_mesh
    return min(len(weight), -(-len(weight) // mesh.size()) * mesh.get_local_rank())


def _pieces(first: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Rows `first` to `end`, cut at every multiple of `most`."""
    while first < end:
        cut = min(end, (first // most + 1) * most)
        yield first, cut
        first = cut


def _update_piece(
    weight: Tensor,
    grad: Tensor,
    kept_mean: Tensor,
    kept_square: Tensor,
    group: Mapping[str, Any],
    number: int,
    chance: Tensor,
) -> None:
    (beta1, beta2), lr = group["betas"], group["lr"]
    mean = kept_mean.float().lerp_(grad, 1 - beta1)
    square = kept_square.float().mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    root = square.sqrt().div_((1 - beta2**number) ** 0.5).add_(group["eps"])
    weight.mul_(1 - lr * group["weight_decay"])
    weight.addcdiv_(mean, root, value=-lr / (1 - beta1**number))
    kept_mean.copy_(rounded(mean, chance))
    kept_square.copy_(rounded(square, MOST_CHANCE - chance))


def rounded(values: Tensor, chance: Tensor) -> Tensor:
    """float32 → float32 that bfloat16 holds exactly, away from 0 or towards it, right in the mean.

    chance: int32 of the same shape, evenly from 0 to `MOST_CHANCE`. Overwrites `values`.
    """
    bits = values.view(torch.int32)
    bits.add_(chance).bitwise_and_(~MOST_CHANCE)
    return bits.view(torch.float32)


class _Chances:
    """Random whole numbers of one step. Every piece of every weight uses the same ones: what must
    differ is what one number meets from step to step."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._most = max(
            max(PIECE, p.numel() // max(1, len(p))) if p.ndim else 1 for p in parameters
        )
        self._most = min(self._most, max(p.numel() for p in parameters))
        self._drawn: dict[tuple[int, torch.device], Tensor] = {}

    def of(self, number: int, piece: Tensor, skipped: int = 0) -> Tensor:
        """int32 in the piece's shape; for the step of one number always the same. skipped: numbers
        of the piece, as one process has it, that come before these."""
        key = (number, piece.device)
        if key not in self._drawn:
            generator = torch.Generator(piece.device).manual_seed(number)
            self._drawn[key] = torch.randint(
                MOST_CHANCE + 1,
                (self._most,),
                generator=generator,
                device=piece.device,
                dtype=torch.int32,
            )
        return self._drawn[key][skipped : skipped + piece.numel()].view(piece.shape)
