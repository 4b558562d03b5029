"""Pixels as the reference backends make them, in uint8.

`torch_aa`: torch's antialiased uint8 kernel, which transformers' torchvision processors call: bit
for bit the same without torchvision. The detour over floats differs in 13-23 % of bytes: never.
`pil`: Pillow's own, for families whose filter torch has only from 2.13 on (Lanczos).

Legend: H height, W width, C channels, p patch side, m merge side, N patches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
STRIP_TOKENS = 8
"""Rows of tokens that `cut_patches` takes at once."""


def resize_torch_aa(pixels_HWC: Uint8, width: int, height: int, *, mode: str = "bicubic") -> Uint8:
    """uint8 [H, W, 3] → uint8 [height, width, 3] by torch's antialiased kernel."""
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    import torch
    from torch.nn import functional

    # With the batch axis first, torch sees channels last: same bytes, in half the time.
    picture = torch.from_numpy(_whole_pixels(pixels_HWC))[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(
        picture, size=(height, width), mode=mode, antialias=True, align_corners=False
    )
    return resized.squeeze(0).permute(1, 2, 0).numpy()[:, :, :3]


def _whole_pixels(pixels_HWC: Uint8) -> Uint8:
    """Contiguous [H, W, 3], or the [H, W, 4] that it is a view of: torch's kernel works on four
    channels and would put three into four first."""
    base = pixels_HWC.base
    if (
        isinstance(base, np.ndarray)
        and base.shape == (*pixels_HWC.shape[:2], 4)
        and base.flags.c_contiguous
        and base.ctypes.data == pixels_HWC.ctypes.data
        and base.strides == pixels_HWC.strides
    ):
        return base
    return np.ascontiguousarray(pixels_HWC)


def resize_pillow(pixels_HWC: Uint8, width: int, height: int, *, resample: int) -> Uint8:
    """uint8 [H, W, 3] → uint8 [height, width, 3] by Pillow's filter of that number."""
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    from PIL import Image

    filter_ = Image.Resampling(resample)
    return np.asarray(Image.fromarray(pixels_HWC).resize((width, height), filter_))


def cut_patches(pixels_HWC: Uint8, *, patch: int, merge: int) -> NDArray[Any]:
    """uint8 [H, W, C] → [N, C, p, p], the m×m patches of one token standing together.

    Order: token rows, token columns, then rows and columns of patches inside the token, as in
    `patchify` of transformers 5.23, models/qwen2_vl/image_processing_qwen2_vl.py (Apache-2.0).
    """
    height, width, channels = pixels_HWC.shape
    side = patch * merge
    rows, columns = height // side, width // side
    # A patch's row moves as one item of `patch` bytes, several times as quick as byte by byte.
    cut = np.empty((rows, columns, merge, merge, channels, patch), f"V{patch}")
    # Strips, so that the planes stay in the processor's cache and take no fresh memory each.
    planes_CHW = np.empty((channels, STRIP_TOKENS * side, width), np.uint8)
    for row in range(0, rows, STRIP_TOKENS):
        strip_HWC = pixels_HWC[row * side : (row + STRIP_TOKENS) * side]
        planes = planes_CHW[:, : len(strip_HWC)]
        planes[...] = strip_HWC.transpose(2, 0, 1)
        blocks = planes.view(cut.dtype).reshape(channels, -1, merge, patch, columns, merge)
        cut[row : row + STRIP_TOKENS] = blocks.transpose(1, 4, 2, 5, 0, 3)
    return cut.view(np.uint8).reshape(-1, channels, patch, patch)
