"""bitsandbytes: four-bit weights, which QLoRA stands on."""

from __future__ import annotations

import importlib
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import layer_error, look_at_package, package_probe
from manako.machine.probes._torch import best_device

LOOSE = 0.3
"""Four bits a number: about 0.1 of relative error in an output of these sizes."""


def look() -> Finding:
    """A four-bit linear layer forward and backward."""
    return look_at_package(
        "bitsandbytes",
        use=Words(
            ja="4 ビットの重み（QLoRA）。この版の Manako は使わない",
            en="four-bit weights (QLoRA); not used by this version of Manako",
        ),
        install="pip install bitsandbytes",
        reinstall="pip install --upgrade bitsandbytes",
        attempt=_four_bits,
    )


def _four_bits() -> str:
    import torch

    bnb: Any = importlib.import_module("bitsandbytes")
    device = best_device()
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64)
    quantised = bnb.nn.Linear4bit(64, 64, compute_dtype=torch.bfloat16, quant_type="nf4")
    quantised.load_state_dict(layer.state_dict())
    quantised, layer = quantised.to(device), layer.to(device)
    x = torch.rand(8, 64, device=device, requires_grad=True)
    if not (wrong := layer_error(layer, quantised, x)) < LOOSE:
        raise ArithmeticError(f"a four-bit layer is off by {wrong:.2g} on {device.type}")
    torch.autograd.grad(quantised(x).float().sum(), x)
    return device.type


PROBE = package_probe("bitsandbytes", look, place=20)
