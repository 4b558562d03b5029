"""Models that cut a picture into square tiles of a grid near its shape, and add the whole."""

from __future__ import annotations

import math

from manako.families._shared.sizes._rule import (
    Grid,
    Rule,
    closest_grid,
    grids_by_set,
    grids_by_size,
    refused,
)

LFM2_PATCH, LFM2_CELL = 16, 32
LFM2_TOLERANCE = 2.0
PHI4_CROP, PHI4_PATCH, PHI4_LEAST_SIDE = 448, 14, 10


def internvl_tiles(
    width: int,
    height: int,
    *,
    tile: int = 448,
    min_tiles: int = 1,
    max_tiles: int = 12,
    tile_tokens: int = 256,
) -> int:
    """Tiles of the grid nearest the picture's shape, and the whole where there are several.

    A small picture of an odd shape has many tiles too. InternVL 3 and 3.5: the defaults. Aya
    Vision: tile 364, 169 tokens. llm-jp-4-vl: tile 512. Source: `get_number_of_image_patches`,
    transformers 5.24, models/got_ocr2/image_processing_pil_got_ocr2.py (Apache-2.0).
    """
    if max_tiles == 1:
        return tile_tokens
    columns, rows = closest_grid(grids_by_size(min_tiles, max_tiles), width, height, tile=tile)
    tiles = columns * rows
    return (tiles + (tiles > 1)) * tile_tokens


def nvila_tiles(
    width: int,
    height: int,
    *,
    tile: int = 448,
    max_tiles: int = 12,
    tile_tokens: int = 256,
    pictures: int = 1,
) -> int:
    """Tiles as InternVL, each followed by two line ends; with other pictures, one tile and one.

    pictures: in the whole conversation. Source: the tiling that NVILA-Lite publishes; Heron's own
    settings were never written down.
    """
    if pictures > 1:
        return tile_tokens + 1
    return internvl_tiles(
        width, height, tile=tile, max_tiles=max_tiles, tile_tokens=tile_tokens + 2
    )


def lfm2_vl(
    width: int,
    height: int,
    *,
    tile: int = 512,
    min_tiles: int = 2,
    max_tiles: int = 10,
    min_tokens: int = 64,
    max_tokens: int = 256,
) -> int:
    """Cells of 32 × 32 pixels; a picture above twice the most is also cut into tiles.

    Source: `Lfm2VlImageProcessor` and `Lfm2VlProcessor`, transformers 5.24, models/lfm2_vl
    (Apache-2.0).
    """
    whole = _lfm2_whole(width, height, min_tokens=min_tokens, max_tokens=max_tokens)
    sides = (max(LFM2_PATCH, round(side / LFM2_CELL) * LFM2_CELL) for side in (width, height))
    is_large = math.prod(sides) > max_tokens * LFM2_CELL**2 * LFM2_TOLERANCE
    if not is_large or min_tiles == max_tiles == 1:
        return whole
    columns, rows = closest_grid(grids_by_set(min_tiles, max_tiles), width, height, tile=tile)
    if columns * rows == 1:
        return whole
    tile_side = math.ceil(tile // LFM2_PATCH / 2)
    return columns * rows * tile_side**2 + whole


def _lfm2_whole(width: int, height: int, *, min_tokens: int, max_tokens: int) -> int:
    rows, columns = (max(1, round(side / LFM2_CELL)) for side in (height, width))
    if rows * columns > max_tokens:
        shrink = math.sqrt((height * width) / (max_tokens * LFM2_CELL**2))
        rows = max(1, math.floor(height / shrink / LFM2_CELL))
        columns = max(1, math.floor(width / shrink / LFM2_CELL))
    elif rows * columns < min_tokens:
        grow = math.sqrt(min_tokens * LFM2_CELL**2 / (height * width))
        rows = math.ceil(height * grow / LFM2_CELL)
        columns = math.ceil(width * grow / LFM2_CELL)
    return rows * columns


def phi4_crops(width: int, height: int, *, max_crops: int = 36) -> int:
    """The whole picture, then the cells of 28 pixels of a sheet of crops that hold picture.

    Source: `dynamic_preprocess` and `_preprocess`, transformers 5.24,
    models/phi4_multimodal/image_processing_phi4_multimodal.py (Apache-2.0). Raises `ImageError`
    for a picture of which less than 10 pixels would remain on one side.
    """
    grid, kept = phi4_sheet(width, height, crop=PHI4_CROP, max_crops=max_crops)
    patches = phi4_patches(grid, kept, crop=PHI4_CROP, patch=PHI4_PATCH)
    return phi4_tokens(patches, side=PHI4_CROP // PHI4_PATCH // 2)


def phi4_sheet(width: int, height: int, *, crop: int, max_crops: int) -> tuple[Grid, Grid]:
    """(columns, rows) of crops, and (width, height) in pixels that the picture takes of them."""
    columns, rows = math.ceil(width / crop), math.ceil(height / crop)
    if columns * rows > max_crops:
        grids = grids_by_set(1, max_crops)
        columns, rows = closest_grid(grids, width, height, tile=crop)
    sheet_width, sheet_height = columns * crop, rows * crop
    by_width, by_height = sheet_width / width, sheet_height / height
    if by_width < by_height:
        kept = (sheet_width, int(height * by_width))
    else:
        kept = (int(width * by_height), sheet_height)
    if min(kept) < PHI4_LEAST_SIDE:
        why = f"has less than {PHI4_LEAST_SIDE} pixels on one side of its sheet of crops"
        raise refused(width, height, why)
    return (columns, rows), kept


def phi4_patches(grid: Grid, kept: Grid, *, crop: int, patch: int) -> Grid:
    """(columns, rows) of patches of a sheet that hold picture."""
    sheet = [side * crop for side in grid]
    columns, rows = (
        whole // patch - (whole - part) // patch for whole, part in zip(sheet, kept, strict=True)
    )
    return columns, rows


def phi4_tokens(patches: Grid, *, side: int) -> int:
    """A token for every 2 × 2 patches, row ends, the whole picture of `side` × `side` tokens with
    its own row ends, and a mark between the two."""
    columns, rows = (-(-along // 2) for along in patches)
    return rows * (columns + 1) + 1 + side * (side + 1)


RULES = (
    Rule(name="internvl_tiles", count=internvl_tiles),
    Rule(name="nvila_tiles", count=nvila_tiles),
    Rule(name="lfm2_vl", count=lfm2_vl),
    Rule(name="phi4_crops", count=phi4_crops),
)
