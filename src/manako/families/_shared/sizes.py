"""How many tokens a picture costs, as integer functions of its size; one function per rule."""

from __future__ import annotations

import math

from manako.core.errors import ImageError

MAX_ASPECT_RATIO = 200


def qwen_size(
    width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """(width, height) in pixels to which Qwen2-VL resizes a picture.

    Sides become multiples of `factor`; the area is brought into [min_pixels, max_pixels].
    Source: `smart_resize`, transformers 5.23, models/qwen2_vl/image_processing_qwen2_vl.py
    (Apache-2.0). Raises `ImageError` for an aspect ratio above 200, as the reference does.
    """
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageError(
            f"a picture of {width} × {height} pixels has an aspect ratio above "
            f"{MAX_ASPECT_RATIO}, which this model cannot take",
            next_step="cut the picture into pieces",
        )
    rows, columns = round(height / factor), round(width / factor)
    if rows * columns * factor**2 > max_pixels:
        shrink = math.sqrt((height * width) / max_pixels)
        rows = max(1, math.floor(height / shrink / factor))
        columns = max(1, math.floor(width / shrink / factor))
    elif rows * columns * factor**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * grow / factor)
        columns = math.ceil(width * grow / factor)
    return columns * factor, rows * factor
