"""What GPUs multiply at best, by the name that CUDA tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from manako.catalogue.facts import FOLDER, Figure, read_table

Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Peak:
    """10^12 operations per second of dense products, by dtype. devices: full names."""

    key: str
    devices: tuple[str, ...]
    bfloat16: Figure[float]
    float32: Figure[float]


@cache
def peaks() -> Mapping[str, Peak]:
    """All that are known, by key."""
    return read_table(Peak, FOLDER / "peaks.toml")


def peak_tflops(device_name: str, dtype: Dtype) -> Figure[float] | None:
    """The peak of a CUDA device of exactly this name; None where nobody knows it."""
    found = next((peak for peak in peaks().values() if device_name in peak.devices), None)
    if found is None:
        return None
    return found.bfloat16 if dtype == "bfloat16" else found.float32
