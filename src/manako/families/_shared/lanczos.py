"""Lanczos as torch 2.13 resizes bytes with it, on older ones too.

Source of the rule: torch 2.13 (BSD-3-Clause), `aten/src/ATen/native/cpu/UpSampleKernel.cpp`: the
filter of three lobes, stretched where a side shrinks; weights as 16-bit fixed-point numbers; rows
first, then columns, each rounded to bytes. Pillow's own differs in 1 to 4 % of bytes.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from manako.families._shared.pixels import Uint8, resize_torch_aa

LOBES = 3
WEIGHT_BITS = 15
MAX_PRECISION_BITS = 22
TORCH_OPERATOR = "_upsample_lanczos2d_aa"


def resize_torch_lanczos(pixels_HWC: Uint8, width: int, height: int) -> Uint8:
    """uint8 [H, W, 3] → uint8 [height, width, 3], by torch's kernel where this torch has it."""
    import torch

    if hasattr(torch.ops.aten, TORCH_OPERATOR):
        return resize_torch_aa(pixels_HWC, width, height, mode="lanczos")
    return by_arithmetic(pixels_HWC, width, height)


def by_arithmetic(pixels_HWC: Uint8, width: int, height: int) -> Uint8:
    """The same bytes without that kernel."""
    across_WHC = _along_first(pixels_HWC.swapaxes(0, 1), width)
    return _along_first(across_WHC.swapaxes(0, 1), height)


def _along_first(pixels: Uint8, length: int) -> Uint8:
    if len(pixels) == length:
        return pixels
    first, weights, bits = _weights(len(pixels), length)
    total = np.full((length, *pixels.shape[1:]), 1 << (bits - 1), dtype=np.int32)
    for step, column in enumerate(weights.T):
        places = np.minimum(first + step, len(pixels) - 1)
        total += column[:, None, None] * pixels[places]
    pixels_found: Uint8 = np.clip(total >> bits, 0, 255).astype(np.uint8)
    return pixels_found


def _weights(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """First source index [new], fixed-point weights [new, k], and their bits after the point."""
    scale = old / new
    stretch = max(scale, 1.0)
    reach = LOBES * stretch
    centres = scale * (np.arange(new) + 0.5)
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + reach + 0.5).astype(np.int64), old)
    places = first[:, None] + np.arange(2 * math.ceil(reach) + 1)
    away = (places - centres[:, None] + 0.5) / stretch
    is_reached = (places < end[:, None]) & (np.abs(away) < LOBES)
    weights = np.where(is_reached, np.sinc(away) * np.sinc(away / LOBES), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    bits = _precision(float(weights.max()))
    return first, np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32), bits


def _precision(largest: float) -> int:
    """The most bits after the point with which the largest weight fits."""
    bits = 0
    while bits < MAX_PRECISION_BITS and int(0.5 + largest * 2 ** (bits + 1)) < 2**WEIGHT_BITS:
        bits += 1
    return bits
