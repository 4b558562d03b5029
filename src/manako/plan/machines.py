"""Room on a machine, from what a person says of it: `--gpu 8x80GB`, `--mac 16GB`, `--cpu 16GB`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from manako.core.errors import InputError
from manako.core.units import parse_bytes, show_bytes
from manako.plan.job import Device

GPU_SHARE = 0.9
"""The rest goes to fragments that the allocator holds and nobody uses; recalled, not measured."""
MAC_SHARES = ((36 * 10**9, 2 / 3), (10**15, 3 / 4))
"""What macOS lets the GPU take of the memory that it shares with everything else: two thirds up to
36 GB, three quarters above; recalled."""
CPU_SHARE = 0.7
"""The rest is for the system, a desktop and a browser; an assumption."""
LEAST_BYTES = 10**8
"""Below this somebody has forgotten the unit: `--gpu 24`."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Memory of a machine: `count` devices of `each_bytes`, of which a job may fill `share`."""

    device: Device
    each_bytes: int
    share: float
    count: int = 1

    @property
    def usable_bytes(self) -> int:
        """What a job may take of one device."""
        return int(self.each_bytes * self.share)

    @property
    def text(self) -> str:
        """As the option spells it: '8x80 GB'."""
        times = f"{self.count}x" if self.count > 1 else ""
        return f"{times}{show_bytes(self.each_bytes)}"


def gpu_budget(text: str) -> Budget:
    """`24GB` or `8x80GB`. Raises `InputError` for anything else."""
    found = re.fullmatch(r"\s*(?:(\d+)\s*[x×*]\s*)?(.+)", text)
    count = int(found[1]) if found and found[1] else 1
    if found is None or count < 1:
        raise InputError(f"--gpu {text!r}: expected a size such as 24GB, or 8x80GB for several")
    each = _size("--gpu", found[2])
    return Budget(device="gpu", each_bytes=each, share=GPU_SHARE, count=count)


def mac_budget(text: str) -> Budget:
    """Unified memory of a Mac with Apple silicon."""
    each = _size("--mac", text)
    share = next(share for most, share in MAC_SHARES if each <= most)
    return Budget(device="mac", each_bytes=each, share=share)


def cpu_budget(text: str) -> Budget:
    """Main memory of a machine without a GPU."""
    return Budget(device="cpu", each_bytes=_size("--cpu", text), share=CPU_SHARE)


def _size(option: str, text: str) -> int:
    try:
        size = parse_bytes(text)
    except InputError as error:
        raise InputError(f"{option}: {error.message}", next_step=error.next_step) from error
    if not LEAST_BYTES <= size <= MAC_SHARES[-1][0]:
        raise InputError(
            f"{option} {text!r} is {show_bytes(size)}; expected the memory of a machine",
            next_step=f"give the unit too: {option} 24GB",
        )
    return size
