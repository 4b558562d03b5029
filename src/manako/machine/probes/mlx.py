"""MLX: Apple's array library; on Linux there are builds for CPU and CUDA."""

from __future__ import annotations

import importlib
import platform
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import look_at_package, package_probe

IS_MAC = platform.system() == "Darwin"


def look() -> Finding:
    """A product of two matrices."""
    return look_at_package(
        "mlx.core",
        distribution="mlx",
        use=Words(
            ja="Mac での実行と学習（Linux では CPU で動く）",
            en="running and tuning on Macs; on Linux it computes on the CPU",
        ),
        install="pip install mlx" if IS_MAC else "pip install 'mlx[cpu]'",
        attempt=_multiply,
    )


def _multiply() -> str:
    mx: Any = importlib.import_module("mlx.core")
    product = mx.ones((8, 8)) @ mx.ones((8, 8))
    mx.eval(product)
    if float(product.sum()) != 8**3:
        raise ArithmeticError(f"8 × 8 ones multiply to {float(product.sum()):g}, not {8**3}")
    return str(mx.default_device())


PROBE = package_probe("MLX", look, place=50)
