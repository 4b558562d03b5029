"""Triton: compiles kernels for GPUs; `torch.compile` uses it there."""

from __future__ import annotations

import importlib
from typing import Any

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import look_at_package, package_probe


def look() -> Finding:
    """Its driver is loaded, which builds a small library with the C compiler."""
    return look_at_package(
        "triton",
        use=Words(
            ja="GPU のカーネル（PyTorch の GPU 版に付いてくる）",
            en="kernels for GPUs; comes with PyTorch's GPU builds",
        ),
        install="pip install triton",
        needs_gpu=True,
        attempt=_target,
    )


def _target() -> str:
    driver: Any = importlib.import_module("triton.runtime").driver
    target = driver.active.get_current_target()
    return f"{target.backend} {target.arch}"


PROBE = package_probe("Triton", look, place=41)
