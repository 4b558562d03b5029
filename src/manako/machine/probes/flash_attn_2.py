"""FlashAttention 2: CUDA from Ampere on, and ROCm."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._flash import attend
from manako.machine.probes._package import look_at_package, package_probe


def look() -> Finding:
    """Its function on a small input, forward and backward."""
    return look_at_package(
        "flash_attn",
        distribution="flash-attn",
        use=Words(
            ja="FlashAttention 2。Manako は使わない", en="FlashAttention 2; Manako does without"
        ),
        install="pip install flash-attn --no-build-isolation",
        needs_gpu=True,
        attempt=lambda: attend("flash_attn"),
    )


PROBE = package_probe("flash-attn 2", look, place=32)
