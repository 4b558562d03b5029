"""Stand-ins for the optimizers of bitsandbytes and torchao: state in the forms that theirs has.

Not installed where the tests run. Resume with bitsandbytes 0.50.2 and torchao 0.18.0 themselves was
tried on a CPU on 2026-11-24: bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TABLE = torch.linspace(-1, 1, 256)


class InTables(torch.optim.Optimizer):
    """As bitsandbytes: a whole number of steps, codes, scales, and a table that is shared."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    codes = torch.zeros_like(p, dtype=torch.uint8)
                    state.update(step=0, state1=codes, qmap1=TABLE, absmax1=torch.zeros(1))
                state["step"] += 1
                mean = self.read(state).lerp(p.grad, 1 - group["betas"][0])
                p.sub_(group["lr"] * mean)
                state["absmax1"].fill_(mean.abs().max())
                scaled = mean / mean.abs().max().clamp_min(1e-12)
                state["state1"].copy_(((scaled + 1) * 127.5).round().to(torch.uint8))

    def read(self, state: Any) -> Tensor:
        table: Tensor = state["qmap1"]
        return table[state["state1"].long()].mul(state["absmax1"])


class Codes(Tensor):
    """As torchao's state: a tensor made of two tensors."""

    codes: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, scale: Tensor) -> Codes:
        made = Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)
        made.codes, made.scale = codes, scale
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, inner: Any, *_: Any) -> Codes:
        return cls(inner["codes"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, *others: Any) -> Any:
        raise NotImplementedError(func)


class InTensors(torch.optim.Optimizer):
    """As torchao: the rate is a tensor that must stay, the state a tensor of tensors."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        for group in self.param_groups:
            group["lr"] = torch.tensor(group["lr"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    codes = torch.zeros_like(p, dtype=torch.int8)
                    state.update(step=torch.zeros(()), exp_avg=Codes(codes, torch.zeros(1)))
                state["step"] += 1
                kept = state["exp_avg"]
                mean = (kept.codes * kept.scale).lerp(p.grad, 1 - group["betas"][0])
                p.sub_(group["lr"] * mean)
                kept.scale.fill_(float(mean.abs().max()) / 127)
                kept.codes.copy_((mean / kept.scale.clamp_min(1e-12)).round().to(torch.int8))
