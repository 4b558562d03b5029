"""Liger: fused training kernels, written in Triton."""

from __future__ import annotations

import importlib
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import look_at_package, package_probe
from manako.machine.probes._torch import best_device


def look() -> Finding:
    """Its RMSNorm forward and backward."""
    return look_at_package(
        "liger_kernel",
        distribution="liger-kernel",
        use=Words(
            ja="融合カーネル。この版の Manako は使わない",
            en="fused kernels; not used by this version of Manako",
        ),
        install="pip install liger-kernel",
        needs_gpu=True,
        attempt=_norm,
    )


def _norm() -> str:
    import torch

    layers: Any = importlib.import_module("liger_kernel.transformers")
    device = best_device()
    norm = layers.LigerRMSNorm(64).to(device)
    x = torch.rand(4, 64, device=device, requires_grad=True)
    torch.autograd.grad(norm(x).sum(), x)
    return device.type


PROBE = package_probe("Liger", look, place=42)
