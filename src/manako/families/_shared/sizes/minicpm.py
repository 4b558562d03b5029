"""MiniCPM-V."""

from __future__ import annotations

import math
from collections.abc import Iterator

from manako.families._shared.sizes._rule import Rule

PATCH = 14


def minicpm_v4_6(
    width: int, height: int, *, slice_side: int = 448, max_slices: int = 9, merge: int = 4
) -> int:
    """The whole picture near 448 × 448 pixels, then slices of that size; patches of 14, merged.

    merge: patches a side that become one token; 2 where the checkpoint merges only once. Source:
    `MiniCPMV4_6ImageProcessorPil`, transformers 5.24, models/minicpmv4_6 (Apache-2.0).
    """
    cell = PATCH * merge
    columns, rows = _grid(width, height, slice_side, max_slices)
    is_whole = columns * rows == 1
    tokens = _cells(width, height, slice_side, cell, can_grow=is_whole)
    if is_whole:
        return tokens
    piece = (_multiple(width, columns) / columns, _multiple(height, rows) / rows)
    return tokens + columns * rows * _cells(*piece, slice_side, cell, can_grow=True)


def _grid(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """(columns, rows) of slices, nearest the picture's shape; of two as near, the taller."""
    shape = math.log(width / height)
    wanted = min(math.ceil(width * height / (side * side)), most)
    if wanted <= 1:
        return 1, 1
    best, least = (1, 1), math.inf
    for columns, rows in _grids(wanted, most):
        distance = abs(shape - math.log(columns / rows))
        if distance < least or (distance == least and rows > best[1]):
            best, least = (columns, rows), distance
    return best


def _grids(wanted: int, most: int) -> Iterator[tuple[int, int]]:
    """Grids of one slice less than wanted, as many, and one more."""
    for slices in (wanted - 1, wanted, wanted + 1):
        if 1 < slices <= most:
            yield from ((slices // r, r) for r in range(1, slices + 1) if slices % r == 0)


def _cells(width: float, height: float, side: int, cell: int, *, can_grow: bool) -> int:
    if height * width > side * side or can_grow:
        ratio = width / height
        height = int(side / math.sqrt(ratio))
        width = int(height * ratio)
    return (_multiple(width, cell) // cell) * (_multiple(height, cell) // cell)


def _multiple(length: float, of: int) -> int:
    return max(round(length / of) * of, of)


RULES = (Rule(name="minicpm_v4_6", count=minicpm_v4_6),)
