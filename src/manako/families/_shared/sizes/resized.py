"""Models that keep a picture's shape and resize it to a grid of cells, one token each."""

from __future__ import annotations

import math

from manako.families._shared.sizes._rule import Rule, refused

MAX_ASPECT_RATIO = 200
GLM_FRAMES = 2
GEMMA_CELL = 48
"""Pixels: a patch of 16, pooled 3 × 3."""
KIMI_PATCH, KIMI_CELL = 14, 28


def qwen_size(
    width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """(width, height) in pixels to which Qwen2-VL resizes a picture.

    Sides become multiples of `factor`; the area is brought into [min_pixels, max_pixels].
    Source: `smart_resize`, transformers 5.23, models/qwen2_vl/image_processing_qwen2_vl.py
    (Apache-2.0). Raises `ImageError` for an aspect ratio above 200, as the reference does.
    """
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise refused(width, height, f"has an aspect ratio above {MAX_ASPECT_RATIO}")
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


def qwen(
    width: int,
    height: int,
    *,
    factor: int = 28,
    min_pixels: int = 3_136,
    max_pixels: int = 12_845_056,
) -> int:
    """One token per `factor` × `factor` pixels, the area held between two bounds.

    Source: `qwen_size`. Qwen2-VL and Qwen2.5-VL: the defaults. Qwen3-VL and Qwen3.5: factor 32,
    65,536 to 16,777,216 pixels. The bounds are those of the checkpoint's preprocessor file.
    """
    size = qwen_size(width, height, factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)
    return (size[0] // factor) * (size[1] // factor)


def sarashina(
    width: int,
    height: int,
    *,
    factor: int = 28,
    min_pixels: int = 3_136,
    max_pixels: int = 1_016_064,
) -> int:
    """As Qwen2-VL, up to 1,296 tokens.

    Source: the published counts of sarashina2.2-vision-3b (1190 × 665 → 1,008; 1008 × 1008 →
    1,296). sarashina2.2-ocr: `max_pixels` 2,458,624.
    """
    return qwen(width, height, factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)


def glm4v(
    width: int,
    height: int,
    *,
    factor: int = 28,
    min_pixels: int = 12_544,
    max_pixels: int = 9_633_792,
) -> int:
    """As Qwen2-VL, but a picture counts as two frames against the bounds.

    A side below `factor` first scales the whole picture up. Source: `smart_resize`, transformers
    5.24, models/glm4v/image_processing_pil_glm4v.py (Apache-2.0); glm46v is the same. Raises
    `ImageError` for an aspect ratio above 200.
    """
    tall, wide = height, width
    if tall < factor or wide < factor:
        scale = max(factor / tall, factor / wide)
        tall, wide = int(tall * scale), int(wide * scale)
    if min(tall, wide) < 1 or max(tall, wide) / min(tall, wide) > MAX_ASPECT_RATIO:
        raise refused(width, height, f"has an aspect ratio above {MAX_ASPECT_RATIO}")
    rows, columns = round(tall / factor), round(wide / factor)
    pixels = GLM_FRAMES * rows * columns * factor**2
    if pixels > max_pixels:
        shrink = math.sqrt((GLM_FRAMES * tall * wide) / max_pixels)
        rows = max(1, math.floor(tall / shrink / factor))
        columns = max(1, math.floor(wide / shrink / factor))
    elif pixels < min_pixels:
        grow = math.sqrt(min_pixels / (GLM_FRAMES * tall * wide))
        rows, columns = math.ceil(tall * grow / factor), math.ceil(wide * grow / factor)
    return rows * columns


def gemma4(width: int, height: int, *, budget: int = 280) -> int:
    """As many cells of 48 × 48 pixels as fit the budget in the picture's shape.

    budget: 70, 140, 280, 560 or 1,120. Source: `get_aspect_ratio_preserving_size`, transformers
    5.24, models/gemma4/image_processing_pil_gemma4.py (Apache-2.0); gemma4_unified is the same.
    """
    scale = math.sqrt(budget * GEMMA_CELL**2 / (height * width))
    rows = math.floor(scale * height / GEMMA_CELL)
    columns = math.floor(scale * width / GEMMA_CELL)
    if rows == 0:
        rows, columns = 1, min(width // height, budget)
    elif columns == 0:
        rows, columns = min(height // width, budget), 1
    return rows * columns


def kimi_k25(
    width: int, height: int, *, max_patches: int = 16_384, max_side_patches: int = 512
) -> int:
    """One token per 28 × 28 pixels; shrunk where a side or the whole has too many patches of 14.

    Source: `navit_resize`, transformers 5.24, models/kimi_k25/image_processing_kimi_k25.py
    (Apache-2.0).
    """
    longest = max_side_patches * KIMI_PATCH
    patches = max(1, height // KIMI_PATCH) * max(1, width // KIMI_PATCH)
    scale = min(1.0, math.sqrt(max_patches / patches), longest / height, longest / width)
    sides = (min(max(1, int(side * scale)), longest) for side in (height, width))
    rows, columns = (-(-side // KIMI_CELL) for side in sides)
    return rows * columns


RULES = (
    Rule(name="qwen", count=qwen),
    Rule(name="sarashina", count=sarashina),
    Rule(name="glm4v", count=glm4v),
    Rule(name="gemma4", count=gemma4),
    Rule(name="kimi_k25", count=kimi_k25),
)
