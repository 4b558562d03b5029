"""Intel GPUs through XPU."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import TORCH_LIMIT_SECONDS, Finding, Probe
from manako.machine.probes._torch import has_intel, look_at_backend


def look() -> Finding:
    """Each GPU multiplies two matrices."""
    return look_at_backend(
        "xpu",
        build="xpu",
        is_present=has_intel(),
        ja="Intel の GPU（XPU）",
        en="Intel GPU (XPU)",
        tool="xpu-smi",
    )


PROBE = Probe(
    group="machine",
    title=Words(ja="XPU", en="XPU"),
    look=look,
    place=62,
    limit_seconds=TORCH_LIMIT_SECONDS,
)
