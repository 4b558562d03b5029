"""Models that cap the longest side and fill whole cells, most with a mark at the end of a row."""

from __future__ import annotations

import math

from manako.families._shared.sizes._rule import Rule, refused


def pixtral(width: int, height: int, *, cell: int = 16, longest: int = 1_024) -> int:
    """One token per cell, and one at the end of each row.

    Source: `get_resize_output_image_size` and `replace_image_token`, transformers 5.24,
    models/pixtral (Apache-2.0). Raises `ImageError` where a side would become 0.
    """
    columns, rows = cells(width, height, cell=cell, longest=longest)
    return rows * (columns + 1)


def mistral3(width: int, height: int, *, cell: int = 28, longest: int = 1_540) -> int:
    """As Pixtral, with cells of 28 pixels: patches of 14, merged 2 × 2.

    Mistral Small 3.1 and later, Ministral 3. Source: as `pixtral`.
    """
    return pixtral(width, height, cell=cell, longest=longest)


def lighton(width: int, height: int, *, cell: int = 28, longest: int = 1_540) -> int:
    """As Mistral 3, without the tokens at the end of rows.

    Source: transformers 5.24, models/lighton_ocr/processing_lighton_ocr.py (Apache-2.0). Raises
    `ImageError` where a side would become 0.
    """
    columns, rows = cells(width, height, cell=cell, longest=longest)
    return rows * columns


def cells(width: int, height: int, *, cell: int, longest: int) -> tuple[int, int]:
    """(columns, rows)."""
    shrink = max(height / longest, width / longest)
    sides = (width, height)
    if shrink > 1:
        sides = (math.floor(width / shrink), math.floor(height / shrink))
    if 0 in sides:
        raise refused(width, height, f"has no pixel left on one side when {longest} long")
    return (sides[0] - 1) // cell + 1, (sides[1] - 1) // cell + 1


RULES = (
    Rule(name="pixtral", count=pixtral),
    Rule(name="mistral3", count=mistral3),
    Rule(name="lighton", count=lighton),
)
