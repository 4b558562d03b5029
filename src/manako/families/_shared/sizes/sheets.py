"""Models that fit a picture into the best of several sheets of tiles, and cut the padding off."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

from manako.families._shared.sizes._rule import Grid, Rule, grids_by_size, refused

ONEVISION_TOLERANCE = 1.1


def llava_next(
    width: int, height: int, *, tile: int = 336, side: int = 24, grids: int = 12_21_22_31_13
) -> int:
    """The whole picture, then the part of a sheet of tiles that it fills, rows with ends.

    side: tokens along a tile. grids: two digits a sheet, its rows and its columns, in the order
    in which they are tried (LLaVA 1.6: 1 × 2, 2 × 1, 2 × 2, 3 × 1, 1 × 3).
    Source: `LlavaNextProcessor`, transformers 5.24, models/llava_next (Apache-2.0).
    """
    sheet = best_sheet(_from_digits(grids), width, height, tile=tile)
    columns, rows = filled(sheet, width, height, side=side)
    return side**2 + rows * (columns + 1)


def llava_onevision(
    width: int,
    height: int,
    *,
    tile: int = 384,
    side: int = 27,
    max_side: int = 6,
    max_tiles: int = 9,
    pictures: int = 1,
) -> int:
    """As LLaVA-NeXT over all sheets up to 6 × 6; one that holds more than 9 tiles is shrunk.

    pictures: in the whole conversation; where there are several, each is one tile. Source:
    `LlavaOnevisionProcessor`, transformers 5.24, models/llava_onevision (Apache-2.0).
    """
    if pictures > 1:
        return side**2 + 1
    sides = range(1, max_side + 1)
    sheets = [(columns, rows) for rows in sides for columns in sides]
    grid = filled(best_sheet(sheets, width, height, tile=tile), width, height, side=side)
    columns, rows = shrunk(grid, side=side, max_tiles=max_tiles)
    return side**2 + rows * (columns + 1)


def deepseek_vl2(
    width: int,
    height: int,
    *,
    tile: int = 384,
    side: int = 14,
    max_tiles: int = 9,
    pictures: int = 1,
) -> int:
    """The whole picture, a mark, and a sheet of up to 9 tiles, padding and all; rows with ends.

    pictures: in the whole conversation; from three on, each is one tile. Source: the processor in
    the authors' public code (deepseek-ai/DeepSeek-VL2, MIT).
    """
    contained(width, height, (tile, tile))
    sheets = sorted(grids_by_size(1, max_tiles), key=lambda g: (g[0] * g[1], min(g), g[0]))
    best = best_sheet(sheets, width, height, tile=tile)
    columns, rows = best if pictures <= 2 else (1, 1)
    return side * (side + 1) + 1 + rows * side * (columns * side + 1)


def best_sheet(sheets: Iterable[Grid], width: int, height: int, *, tile: int) -> Grid:
    """The sheet that keeps most of the picture's pixels; of equal ones, the smallest, then first.

    Source: `select_best_resolution`, transformers 5.24, image_processing_utils.py (Apache-2.0).
    """
    best, most, least_waste = (1, 1), 0, math.inf
    for columns, rows in sheets:
        sheet_width, sheet_height = columns * tile, rows * tile
        scale = min(sheet_width / width, sheet_height / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        waste = sheet_width * sheet_height - kept
        if kept > most or (kept == most and waste < least_waste):
            best, most, least_waste = (columns, rows), kept, waste
    return best


def contained(width: int, height: int, box: Grid) -> Grid:
    """(width, height) in pixels of a picture scaled into a box.

    Source: `ImageOps.contain`, Pillow 13 (MIT-CMU). Raises `ImageError` where a side rounds to
    nothing: Pillow 12.0 refuses that too, and 13 leaves a tile that shows nothing.
    """
    by_width, by_height = round(height / width * box[0]), round(width / height * box[1])
    if width / height == box[0] / box[1]:
        return box
    found = (box[0], by_width) if width / height > box[0] / box[1] else (by_height, box[1])
    if not min(found):
        raise refused(width, height, f"is {found[0]} × {found[1]} pixels in a tile")
    return found


def filled(sheet: Grid, width: int, height: int, *, side: int) -> Grid:
    """(columns, rows) of tokens that stay when a sheet's padding is cut off."""
    columns, rows = sheet[0] * side, sheet[1] * side
    if width / height > columns / rows:
        filled = int(round(height * (columns / width), 7))
        rows -= (rows - filled) // 2 * 2
    else:
        filled = int(round(width * (rows / height), 7))
        columns -= (columns - filled) // 2 * 2
    return columns, rows


def shrunk(grid: Grid, *, side: int, max_tiles: int) -> Grid:
    """(columns, rows) of tokens after a grid of clearly more than `max_tiles` tiles is shrunk."""
    columns, rows = grid
    shrink = math.sqrt(rows * columns / (max_tiles * side**2))
    if shrink > ONEVISION_TOLERANCE:
        return int(columns // shrink), int(rows // shrink)
    return grid


@cache
def _from_digits(grids: int) -> tuple[Grid, ...]:
    digits = [int(digit) for digit in str(grids)]
    return tuple(zip(digits[1::2], digits[::2], strict=False))


RULES = (
    Rule(name="llava_next", count=llava_next),
    Rule(name="llava_onevision", count=llava_onevision),
    Rule(name="deepseek_vl2", count=deepseek_vl2),
)
