"""FlashAttention 3: Hopper alone, and built from its sources."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._flash import attend
from manako.machine.probes._package import look_at_package, package_probe


def look() -> Finding:
    """Its function on a small input, forward and backward."""
    return look_at_package(
        "flash_attn_interface",
        distribution="flash-attn-3",
        use=Words(
            ja="FlashAttention 3（Hopper 専用）。Manako は使わない",
            en="FlashAttention 3 (Hopper alone); Manako does without",
        ),
        install="https://github.com/Dao-AILab/flash-attention/tree/main/hopper",
        needs_gpu=True,
        attempt=lambda: attend("flash_attn_interface"),
    )


PROBE = package_probe("flash-attn 3", look, place=33)
