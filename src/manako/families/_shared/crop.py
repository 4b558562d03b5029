"""The middle of a resized picture, as CLIP's processor takes it: shortest edge, then a crop.

Of a picture 1 × 4000 the reference makes one of 336 × 1,344,000 pixels and throws nearly all of it
away. Here only the crop is computed, by the same arithmetic, so the bytes are the same.

Legend: H height, W width, C channels, n pixels of the crop along an axis, k taps of the filter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from manako.families._shared.pixels import resize_torch_aa

Uint8 = NDArray[np.uint8]

WHOLE_UP_TO = 4
"""Times the crop that a resized side may have to be made whole: torch's kernel is quicker then."""
MOST_BITS, LIMIT = 22, 2**15 - 0.5
"""Of a weight as an integer: torch takes as many bits as the largest allows in 16."""
CHUNK = 2**16
"""Output places whose weights are looked at at once."""


def shortest_edge(width: int, height: int, edge: int) -> tuple[int, int]:
    """(width, height) after the shorter side becomes `edge`; the longer is rounded down.

    Source: `get_resize_output_image_size`, transformers 5.24, image_transforms.py (Apache-2.0).
    """
    short, long = min(width, height), max(width, height)
    longer = int(edge * long / short)
    return (edge, longer) if width <= height else (longer, edge)


def resize_and_crop(pixels_HWC: Uint8, width: int, height: int, crop: int) -> Uint8:
    """uint8 [H, W, 3] → uint8 [crop, crop, 3]: the middle of the picture at width × height.

    torch resizes along the width first and rounds to bytes between, so each axis may be cut on its
    own. The odd pixel is left over at the right and below.
    """
    top, left = (height - crop) // 2, (width - crop) // 2
    if max(width, height) <= WHOLE_UP_TO * crop:
        return resize_torch_aa(pixels_HWC, width, height)[top : top + crop, left : left + crop]
    if width > height:
        columns_WHC = _part(pixels_HWC.transpose(1, 0, 2), width, left, left + crop)
        cut = np.ascontiguousarray(columns_WHC.transpose(1, 0, 2))
        return resize_torch_aa(cut, crop, height)[top : top + crop]
    rows_HWC = resize_torch_aa(pixels_HWC, width, len(pixels_HWC))
    return _part(rows_HWC, height, top, top + crop)[:, left : left + crop]


def _part(pixels: Uint8, size: int, start: int, stop: int) -> Uint8:
    """uint8 [L, ...] resized to [size, ...] along its first axis, of which [start:stop]."""
    chunks = range(0, size, CHUNK)
    largest = max(_weights(len(pixels), size, at, at + CHUNK)[1].max() for at in chunks)
    bits = next(
        b for b in range(MOST_BITS) if b == MOST_BITS - 1 or largest * 2 ** (b + 1) >= LIMIT
    )
    first, weights_nk = _weights(len(pixels), size, start, stop)
    scaled_nk = weights_nk * 2**bits
    taps_nk = np.trunc(scaled_nk + np.where(scaled_nk < 0, -0.5, 0.5)).astype(np.int64)
    places_nk = np.minimum(first[:, None] + np.arange(taps_nk.shape[1]), len(pixels) - 1)
    sums = np.einsum("nk,nk...->n...", taps_nk, pixels[places_nk].astype(np.int64))
    resized: Uint8 = np.clip((sums + (1 << (bits - 1))) >> bits, 0, 255).astype(np.uint8)
    return resized


def _weights(
    length: int, size: int, start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First input place and weights [n, k] of output places start to stop.

    Source: `_compute_index_ranges_int16_weights`, torch 2.13, aten/src/ATen/native/cpu/
    UpSampleKernel.cpp (BSD-3-Clause): bicubic with antialiasing, a = −0.5, as Pillow has it.
    """
    scale = length / size
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    centres = scale * (np.arange(start, min(stop, size)) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centres + support + 0.5).astype(np.int64), length) - first
    taps = np.arange(math.ceil(support) * 2 + 1)
    weights_nk = _cubic((taps + first[:, None] - centres[:, None] + 0.5) / stretch)
    weights_nk[taps >= count[:, None]] = 0.0
    return first, weights_nk / weights_nk.sum(axis=1, keepdims=True)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
