"""AMD GPUs through ROCm, which PyTorch calls cuda."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import TORCH_LIMIT_SECONDS, Finding, Probe
from manako.machine.probes._torch import has_amd, look_at_backend


def look() -> Finding:
    """Each GPU multiplies two matrices."""
    return look_at_backend(
        "cuda",
        build="hip",
        is_present=has_amd(),
        ja="AMD の GPU（ROCm）",
        en="AMD GPU (ROCm)",
        tool="rocm-smi",
    )


PROBE = Probe(
    group="machine",
    title=Words(ja="ROCm", en="ROCm"),
    look=look,
    place=61,
    limit_seconds=TORCH_LIMIT_SECONDS,
)
