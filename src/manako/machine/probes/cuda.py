"""NVIDIA GPUs through CUDA."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import TORCH_LIMIT_SECONDS, Finding, Probe
from manako.machine.probes._torch import has_nvidia, look_at_backend


def look() -> Finding:
    """Each GPU multiplies two matrices."""
    return look_at_backend(
        "cuda",
        build="cuda",
        is_present=has_nvidia(),
        ja="NVIDIA の GPU ",
        en="NVIDIA GPU",
        tool="nvidia-smi",
    )


PROBE = Probe(
    group="machine",
    title=Words(ja="CUDA", en="CUDA"),
    look=look,
    place=60,
    limit_seconds=TORCH_LIMIT_SECONDS,
)
