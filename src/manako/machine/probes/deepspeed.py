"""DeepSpeed: weights and optimizer state spread over several GPUs."""

from __future__ import annotations

from manako.core.words import Words
from manako.machine.finding import Finding
from manako.machine.probes._package import look_at_package, package_probe


def look() -> Finding:
    """Imported; it starts processes of its own, so no more than that is tried."""
    return look_at_package(
        "deepspeed",
        use=Words(
            ja="複数の GPU での学習。この版の Manako は使わない",
            en="training on several GPUs; not used by this version of Manako",
        ),
        install="pip install deepspeed",
        reinstall="pip install --upgrade deepspeed",
        needs_gpu=True,
    )


PROBE = package_probe("DeepSpeed", look, place=40)
