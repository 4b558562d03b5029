"""Models that choose a canvas by how far the picture must be scaled, in single precision."""

from __future__ import annotations

import math

from manako.families._shared.sizes._rule import Grid, Rule, grids_by_size, single

MOLMO2_CROP, MOLMO2_PATCH, MOLMO2_MARGIN, MOLMO2_POOL = 27, 14, 8, 2
"""Patches along a crop, pixels along a patch, patches shared with neighbours, pooling."""
UPSCALING = 10e9
"""Stands for "too small", as in the reference."""


def llama4(
    width: int, height: int, *, tile: int = 336, max_tiles: int = 16, tile_tokens: int = 144
) -> int:
    """Tiles of the smallest canvas that shrinks the picture least, and the whole where several.

    Source: `get_best_fit` and `Llama4Processor`, transformers 5.24, models/llama4 (Apache-2.0).
    """
    scales = {
        grid: min(single(grid[0] * tile / width), single(grid[1] * tile / height))
        for grid in grids_by_size(1, max_tiles)
    }
    enough = [scale for scale in scales.values() if scale >= 1]
    scale = min(enough) if enough else max(scales.values())
    tiles = min(g[0] * g[1] for g, found in scales.items() if found == scale)
    return (tiles + (tiles > 1)) * tile_tokens


def molmo2(width: int, height: int, *, max_crops: int = 8, low_columns: int = 1) -> int:
    """A small copy, then overlapping crops of 378 pixels pooled 2 × 2; each row has an end.

    low_columns: whether the small copy's rows have ends too. Source: `select_tiling`,
    `compute_crop_geometry` and `Molmo2Processor`, transformers 5.24, models/molmo2 (Apache-2.0).
    """
    window = MOLMO2_CROP - MOLMO2_MARGIN
    columns, rows = _molmo2_tiling(width, height, max_crops, window)
    high = [math.ceil((n * window + MOLMO2_MARGIN) / MOLMO2_POOL) for n in (columns, rows)]
    low = math.ceil(MOLMO2_CROP / MOLMO2_POOL)
    return low * (low + low_columns) + high[1] * (high[0] + 1)


def _molmo2_tiling(width: int, height: int, max_crops: int, window: int) -> Grid:
    margin, step = MOLMO2_MARGIN * MOLMO2_PATCH, window * MOLMO2_PATCH
    grids = sorted(grids_by_size(1, max_crops), key=lambda g: (g[0] * g[1], g[1]))
    scales = [
        min(_quotient(g[0] * step, width - margin), _quotient(g[1] * step, height - margin))
        for g in grids
    ]
    if all(scale < 1 for scale in scales):
        return grids[scales.index(max(scales))]
    usable = [UPSCALING if scale < 1 else scale for scale in scales]
    return grids[usable.index(min(usable))]


def _quotient(pixels: int, of: int) -> float:
    """In single precision; infinite where nothing but the margin is there."""
    return single(pixels / of) if of else math.inf


RULES = (
    Rule(name="llama4", count=llama4),
    Rule(name="molmo2", count=molmo2, flags=frozenset({"low_columns"})),
)
