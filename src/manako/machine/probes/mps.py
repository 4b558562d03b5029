"""Apple silicon through MPS; its memory is the Mac's, and PyTorch says how much of it one may use."""

from __future__ import annotations

import platform
from typing import Any

from manako.core.units import show_bytes
from manako.core.words import Words
from manako.machine.finding import (
    TORCH_LIMIT_SECONDS,
    Finding,
    Probe,
    does_not,
    not_here,
    works,
)
from manako.machine.probes._torch import REPLACE, build_of_torch, multiply_error, no_torch


def look() -> Finding:
    """The GPU multiplies two matrices."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return not_here("Apple シリコンの Mac ではない", "this is no Mac with Apple silicon")
    if build_of_torch() is None:
        return no_torch()
    import torch

    if not torch.backends.mps.is_available():
        built = torch.backends.mps.is_built()
        return does_not(
            "PyTorch から MPS が使えない（macOS 14 以降が要る）"
            if built
            else "この PyTorch は MPS 用ではない",
            "PyTorch cannot use MPS (macOS 14 or later?)"
            if built
            else "this PyTorch is not built for MPS",
            mends="" if built else REPLACE,
        )
    wrong = multiply_error(torch.device("mps"))
    room = int(torch.mps.recommended_max_memory())
    name = f"Apple GPU, macOS {platform.mac_ver()[0]}"
    facts: dict[str, Any] = {
        "devices": [{"name": name, "memory_bytes": room}],
        "torch": torch.__version__,
    }
    if wrong > 1e-2:
        return does_not(
            f"行列積が合わない（誤差 {wrong:.3g}）",
            f"multiplies wrongly (error {wrong:.3g})",
            **facts,
        )
    return works(
        f"{name}、使ってよいメモリー {show_bytes(room)}",
        f"{name}, {show_bytes(room)} of memory to use",
        **facts,
    )


PROBE = Probe(
    group="machine",
    title=Words(ja="MPS", en="MPS"),
    look=look,
    place=63,
    limit_seconds=TORCH_LIMIT_SECONDS,
)
