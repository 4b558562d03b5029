"""Memory of this process, or of its accelerator, in bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STATM = Path("/proc/self/statm")


def memory_bytes(device: torch.device) -> int | None:
    """In use now: allocated tensors on CUDA, the resident set of the process on a CPU; None where
    the system does not tell."""
    import torch

    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    if STATM.is_file():
        return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def peak_memory_bytes(device: torch.device) -> int | None:
    """The largest so far, in the sense of `memory_bytes`."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or os.name != "posix":
        return None
    import resource

    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
