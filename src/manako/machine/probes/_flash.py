"""One small call that all versions of FlashAttention understand."""

from __future__ import annotations

import importlib
from typing import Any

from manako.machine.probes._torch import best_device


def attend(module: str) -> str:
    """`flash_attn_func` forward and backward in bfloat16; the device it ran on."""
    import torch

    function: Any = importlib.import_module(module).flash_attn_func
    device = best_device()
    q, k, v = (
        torch.randn(1, 64, 2, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
        for _ in range(3)
    )
    found = function(q, k, v, causal=True)
    out = found[0] if isinstance(found, tuple) else found  # from version 3 on with the logsumexp
    torch.autograd.grad(out.float().sum(), q)
    return device.type
