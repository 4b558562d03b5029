"""mlx-vlm: vision-language models on MLX."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import look_at_package, package_probe
from manako.machine.probes.mlx import IS_MAC


def look() -> Finding:
    """Imported; running a model needs a model."""
    return look_at_package(
        "mlx_vlm",
        distribution="mlx-vlm",
        use=Words(ja="Mac で VLM を動かす・学習する", en="runs and tunes VLMs on Macs"),
        install="pip install mlx-vlm" if IS_MAC else "pip install 'mlx[cpu]' mlx-vlm",
        reinstall="pip install --upgrade mlx-vlm",
    )


PROBE = package_probe("mlx-vlm", look, place=51)
