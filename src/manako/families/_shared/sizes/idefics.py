"""Idefics and SmolVLM."""

from __future__ import annotations

import math

from manako.families._shared.sizes._rule import Grid, Rule, refused

IDEFICS2_TOKENS, IDEFICS2_PIECES = 64, 5
IDEFICS3_LONGEST = 4_096


def idefics2(width: int, height: int, *, split: int = 1) -> int:
    """64 for every picture; split in four and kept whole too, 320.

    Source: transformers 5.24, models/idefics2 (Apache-2.0). Raises `ImageError` for a picture
    one pixel high that is to be split, on which the reference divides by zero.
    """
    if split and height == 1:
        raise refused(width, height, "cannot be split across a height of one pixel")
    return IDEFICS2_TOKENS * (IDEFICS2_PIECES if split else 1)


def idefics3(
    width: int,
    height: int,
    *,
    tile: int = 364,
    tile_tokens: int = 169,
    longest: int = 1_456,
    split: int = 1,
) -> int:
    """The longest side becomes `longest`; tiles that cover it, and the whole where several.

    Idefics3: the defaults. SmolVLM: tile 384, 81 tokens, longest 1,536. SmolVLM2: 512, 64, 2,048.
    Source: `_preprocess`, transformers 5.24, models/idefics3/image_processing_pil_idefics3.py
    (Apache-2.0); smolvlm is the same.
    """
    _, (columns, rows) = idefics3_tiles(width, height, tile=tile, longest=longest, split=split)
    tiles = columns * rows
    return (tiles + (tiles > 1)) * tile_tokens


def idefics3_tiles(
    width: int, height: int, *, tile: int, longest: int, split: int = 1
) -> tuple[tuple[int, int], Grid]:
    """(width, height) in pixels after the first resize, and (columns, rows) of tiles, onto which
    that is resized again. Raises `ImageError` where a side of it would be nothing."""
    size = _below(*longest_side(width, height, longest), IDEFICS3_LONGEST)
    columns, rows = _tiles(*size, tile) if split else (1, 1)
    if not columns * rows:
        raise refused(width, height, f"is too narrow for tiles of {tile} pixels")
    return size, (columns, rows)


def longest_side(width: int, height: int, longest: int) -> tuple[int, int]:
    """The other side keeps the shape and becomes even."""
    ratio = width / height
    if width >= height:
        other = int(longest / ratio)
        return longest, max(1, other + other % 2)
    other = int(longest * ratio)
    return max(1, other + other % 2), longest


def _below(width: int, height: int, most: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height and width > most:
        return most, max(1, int(most / ratio))
    if height > width and height > most:
        return max(1, int(most * ratio)), most
    return width, height


def _tiles(width: int, height: int, tile: int) -> Grid:
    """(columns, rows): the longer side is filled up first, and the other follows it."""
    ratio = width / height
    if width >= height:
        columns = math.ceil(width / tile)
        return columns, math.ceil(int(columns * tile / ratio) / tile)
    rows = math.ceil(height / tile)
    return math.ceil(int(rows * tile * ratio) / tile), rows


RULES = (
    Rule(name="idefics2", count=idefics2, flags=frozenset({"split"})),
    Rule(name="idefics3", count=idefics3, flags=frozenset({"split"})),
)
