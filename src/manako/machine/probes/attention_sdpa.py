"""PyTorch's scaled-dot-product attention, dense, forward and backward, by each of its kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from manako.core.words import Words
from manako.machine.finding import Finding, does_not, works
from manako.machine.probes._torch import best_device, build_of_torch, no_torch, torch_probe

if TYPE_CHECKING:
    import torch

KERNELS = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}
LOOSE = 0.05


def look() -> Finding:
    """Dense must work; which faster kernels do as well is told."""
    if build_of_torch() is None:
        return no_torch()
    device = best_device()
    tried = {name: _try(device, kernel) for name, kernel in KERNELS.items()}
    good = [name for name, why in tried.items() if not why]
    facts: dict[str, Any] = {
        "device": device.type,
        "kernels": good,
        "refused": {n: w for n, w in tried.items() if w},
    }
    if why := _try(device, ""):
        return does_not(f"{device.type}: {why}", f"{device.type}: {why}", **facts)
    words = f"{device.type}: {', '.join(good)}"
    return works(words, words, **facts)


def _try(device: torch.device, kernel: str) -> str:
    """What is wrong with one kernel; with none named, with PyTorch's own choice."""
    import contextlib

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    chosen = sdpa_kernel(getattr(SDPBackend, kernel)) if kernel else contextlib.nullcontext()
    try:
        with chosen:
            found = list(_attend(device, torch.float32 if device.type == "cpu" else torch.bfloat16))
    except (RuntimeError, NotImplementedError) as error:
        return str(error).split("\n", maxsplit=1)[0][:160]
    wanted = list(_by_hand())
    wrong = max(
        float((a.float().cpu() - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)
    )
    return "" if wrong < LOOSE else f"error {wrong:.3g}"


def _inputs() -> list[torch.Tensor]:
    import torch

    made = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, 64, 32, generator=made) for _ in range(3)]


def _attend(device: torch.device, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """The output, and the gradient of the queries."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (x.to(device, dtype).requires_grad_() for x in _inputs())
    out = scaled_dot_product_attention(q, k, v, is_causal=True)
    yield from (out.detach(), *torch.autograd.grad(out.float().square().sum(), q))


def _by_hand() -> Iterator[torch.Tensor]:
    """The same on the CPU in float32, written out."""
    import torch

    q, k, v = (x.requires_grad_() for x in _inputs())
    later = torch.ones(64, 64, dtype=torch.bool).triu(1)
    weights = (q @ k.mT / 32**0.5).masked_fill(later, -torch.inf).softmax(-1)
    out = weights @ v
    yield from (out.detach(), *torch.autograd.grad(out.square().sum(), q))


PROBE = torch_probe(Words(ja="アテンション（SDPA）", en="attention (SDPA)"), look, place=30)
