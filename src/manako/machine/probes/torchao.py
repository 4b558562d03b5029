"""torchao: quantised weights by PyTorch's own makers."""

from __future__ import annotations

import importlib
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import layer_error, look_at_package, package_probe
from manako.machine.probes._torch import best_device

LOOSE = 0.05


def look() -> Finding:
    """A linear layer with eight-bit weights."""
    return look_at_package(
        "torchao",
        use=Words(
            ja="8・4 ビットの重み。この版の Manako は使わない",
            en="eight- and four-bit weights; not used by this version of Manako",
        ),
        install="pip install torchao",
        reinstall="pip install --upgrade torchao",
        attempt=_eight_bits,
    )


def _eight_bits() -> str:
    import copy

    import torch

    quantization: Any = importlib.import_module("torchao.quantization")
    device = best_device()
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64)).to(device)
    quantised = copy.deepcopy(layer)
    quantization.quantize_(quantised, quantization.Int8WeightOnlyConfig())
    x = torch.rand(8, 64, device=device)
    if not (wrong := layer_error(layer, quantised, x)) < LOOSE:
        raise ArithmeticError(f"an eight-bit layer is off by {wrong:.2g} on {device.type}")
    return device.type


PROBE = package_probe("torchao", look, place=21)
