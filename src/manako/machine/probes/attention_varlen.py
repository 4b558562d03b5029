"""PyTorch's attention over sequences of different lengths, `torch.nn.attention.varlen`."""

from __future__ import annotations

import importlib
import importlib.util

from manako.core.words import Words
from manako.machine.finding import Finding, does_not, not_here, works
from manako.machine.probes._torch import best_device, build_of_torch, no_torch, torch_probe


def look() -> Finding:
    """Two sequences, forward and backward."""
    if build_of_torch() is None:
        return no_torch()
    import torch

    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return not_here("この PyTorch にはない", "this PyTorch does not have it")
    attend = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    device = best_device()
    ends = torch.tensor([0, 16, 40], dtype=torch.int32, device=device)
    q, k, v = (
        torch.randn(40, 2, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
        for _ in range(3)
    )
    try:
        torch.autograd.grad(attend(q, k, v, ends, ends, 24, 24).float().sum(), q)
    except (RuntimeError, NotImplementedError) as error:
        why = str(error).split("\n", maxsplit=1)[0][:120]
        return does_not(
            f"{device.type} 用のカーネルがない（Manako は使わない）",
            f"no kernel for {device.type} (Manako does without)",
            device=device.type,
            error=why,
        )
    return works(
        f"{device.type}: 順伝播・逆伝播", f"{device.type}: forward and backward", device=device.type
    )


PROBE = torch_probe(Words(ja="アテンション（varlen）", en="attention (varlen)"), look, place=33)
