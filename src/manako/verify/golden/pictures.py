"""Pictures by arithmetic: the same bytes on every machine, with every frequency in them; and what
is kept of pixels that are no bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 7
STRIDE = 2_654_435_761
"""Prime, so that places spread over an array of any size."""


def pattern(width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: noise (the worst case of a filter) over a slow gradient."""
    x = np.arange(width, dtype=np.uint64)[None, :, None]
    y = np.arange(height, dtype=np.uint64)[:, None, None]
    channel = np.arange(3, dtype=np.uint64)[None, None, :]
    noise = (x * 2654435761 + y * 40503 * 65537 + channel * 97 + x * y * 31) >> np.uint64(7)
    gradient = (x * 128 // max(width, 1)) + (y * 64 // max(height, 1))
    return ((noise % 128 + gradient) % 256).astype(np.uint8)


def moving_pattern(width: int, height: int, frames: int) -> list[NDArray[np.uint8]]:
    """Frames of a film: the pattern moves on by a column and grows lighter."""
    wide = pattern(width + frames, height)
    levels = [np.uint8(9 * number % 128) for number in range(frames)]
    return [wide[:, number : number + width] + level for number, level in enumerate(levels)]


def values_of(pixels: NDArray[Any], samples: int) -> dict[str, list[float]]:
    """Of float pixels [..., N, C, H, W]: `samples` values, half of them from the first of the N,
    and the mean of all and of their squares."""
    flat = pixels.astype(np.float64).ravel()
    first = math.prod(pixels.shape[-3:])
    steps = np.arange(1, samples // 2 + 1, dtype=np.int64) * STRIDE
    kept = flat[np.concatenate([steps % first, steps % flat.size])]
    return {
        "values": [round(float(value), DIGITS) for value in kept],
        "means": [float(flat.mean()), float(np.square(flat).mean())],
    }
