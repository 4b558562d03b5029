"""Pictures by arithmetic: the same bytes on every machine, with every frequency in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pattern(width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: noise (the worst case of a filter) over a slow gradient."""
    x = np.arange(width, dtype=np.uint64)[None, :, None]
    y = np.arange(height, dtype=np.uint64)[:, None, None]
    channel = np.arange(3, dtype=np.uint64)[None, None, :]
    noise = (x * 2654435761 + y * 40503 * 65537 + channel * 97 + x * y * 31) >> np.uint64(7)
    gradient = (x * 128 // max(width, 1)) + (y * 64 // max(height, 1))
    return ((noise % 128 + gradient) % 256).astype(np.uint8)
