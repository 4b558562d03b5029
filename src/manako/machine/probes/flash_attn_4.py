"""FlashAttention 4: Hopper and Blackwell; still in beta (late 2026)."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._flash import attend
from manako.machine.probes._package import look_at_package, package_probe


def look() -> Finding:
    """Its function on a small input, forward and backward."""
    return look_at_package(
        "flash_attn.cute",
        distribution="flash-attn-4",
        use=Words(
            ja="FlashAttention 4（Hopper・Blackwell、ベータ版）。Manako は使わない",
            en="FlashAttention 4 (Hopper, Blackwell; beta); Manako does without",
        ),
        install="pip install --pre flash-attn-4",
        needs_gpu=True,
        attempt=lambda: attend("flash_attn.cute"),
    )


PROBE = package_probe("flash-attn 4", look, place=34)
