"""Pictures as LLaVA-NeXT and LLaVA-OneVision take them: the whole, then tiles of the best sheet.

A picture is scaled into one of several sheets of square tiles and padded to it with black; the
model cuts the padding's tokens off again and puts a learned vector at each row's end. Source:
transformers 5.24, `models/llava_next/` and `models/llava_onevision/` (Apache-2.0).

Legend: H height, W width, C channels, t a tile's side, N tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError
from manako.core.example import ImageInput
from manako.core.family import PixelRule
from manako.families._shared.checkpoint_files import check_agreement
from manako.families._shared.pixels import resize_torch_aa
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes import sheets as rules

BICUBIC = 3
"""Pillow's number for the filter, as preprocessor_config.json writes it."""


@dataclass(frozen=True, kw_only=True)
class SheetSettings:
    """tile: side in pixels; side: tokens along a tile; sheets: (columns, rows) of tiles, in the
    order in which they are tried; max_tiles: a grid of clearly more tokens is shrunk, 0: never;
    several_whole: whether pictures that are not alone in their conversation are one tile each."""

    tile: int
    side: int
    sheets: tuple[tuple[int, int], ...]
    max_tiles: int = 0
    several_whole: bool = False


def sheet_cost(width: int, height: int, settings: SheetSettings) -> ImageCost:
    """Of a picture that is cut up. grid: rows and columns of tiles, height and width in pixels."""
    sheet = rules.best_sheet(settings.sheets, width, height, tile=settings.tile)
    columns, rows = rules.filled(sheet, width, height, side=settings.side)
    if settings.max_tiles:
        grid = (columns, rows)
        columns, rows = rules.shrunk(grid, side=settings.side, max_tiles=settings.max_tiles)
    return ImageCost(
        size=_fitted(width, height, sheet[0] * settings.tile, sheet[1] * settings.tile),
        grid=(sheet[1], sheet[0], height, width),
        tokens=settings.side**2 + rows * (columns + 1),
        patches=(sheet[0] * sheet[1] + 1) * settings.side**2,
        rows=rows,
        columns=columns,
    )


def whole_cost(width: int, height: int, settings: SheetSettings) -> ImageCost:
    """Of a picture that is one tile, padded to a square, with one row end; its sheet is 0 × 0."""
    return ImageCost(
        size=(settings.tile, settings.tile),
        grid=(0, 0, height, width),
        tokens=settings.side**2 + 1,
        patches=settings.side**2,
        rows=settings.side,
        columns=settings.side,
    )


def _fitted(width: int, height: int, sheet_width: int, sheet_height: int) -> tuple[int, int]:
    """Source: `get_patch_output_size`, transformers 5.24, image_processing_utils.py (Apache-2.0)."""
    by_width, by_height = sheet_width / width, sheet_height / height
    if by_width < by_height:
        return sheet_width, min(math.ceil(height * by_width), sheet_height)
    return min(math.ceil(width * by_height), sheet_width), sheet_height


@dataclass(frozen=True, kw_only=True)
class SheetProcessor(ChatProcessor):
    """A family that cuts pictures into tiles of a sheet, opened on a checkpoint folder."""

    settings: SheetSettings

    def cost(self, width: int, height: int) -> ImageCost:
        return sheet_cost(width, height, self.settings)

    def costs(self, sizes: Sequence[tuple[int, int]]) -> list[ImageCost]:
        if self.settings.several_whole and len(sizes) > 1:
            return [whole_cost(*size, self.settings) for size in sizes]
        return super().costs(sizes)

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, C, t, t]: the whole, its shape not kept, then the tiles row by row."""
        tile, (rows, columns) = self.settings.tile, cost.grid[:2]
        if not rows:
            pixels_HWC = self._squared(pixels_HWC)
        whole_HWC = resize_torch_aa(pixels_HWC, tile, tile, mode=self.pixel_rule.resample)
        whole = whole_HWC.transpose(2, 0, 1)[None]
        if not rows:
            return np.ascontiguousarray(whole)
        sheet_HWC = np.zeros((rows * tile, columns * tile, 3), dtype=np.uint8)
        _place(self.resize(pixels_HWC, cost), sheet_HWC)
        tiles = sheet_HWC.reshape(rows, tile, columns, tile, 3).transpose(0, 2, 4, 1, 3)
        return np.concatenate([whole, tiles.reshape(-1, 3, tile, tile)])

    def _squared(self, pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """In the middle of a square of the mean's colour."""
        longest = max(pixels_HWC.shape[:2])
        square_HWC = np.empty((longest, longest, 3), dtype=np.uint8)
        square_HWC[:] = [int(mean * 255) for mean in self.pixel_rule.mean]
        return _place(pixels_HWC, square_HWC)

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """`batch_num_images`: 1 for a picture in tiles; whole ones are counted by their runs, since
        the model only asks whether a picture is alone."""
        sizes = np.array([image.grid[2:] for image in images], dtype=np.int64)
        inputs = {**super().image_inputs(images), "image_sizes": sizes}
        if self.settings.several_whole:
            counts: list[int] = []
            for is_cut, run in groupby(images, key=lambda image: image.grid[0] > 0):
                pictures = len(list(run))
                counts += [1] * pictures if is_cut else [pictures]
            inputs["batch_num_images"] = np.array(counts, dtype=np.int64)
        return inputs


def _place(pixels_HWC: NDArray[np.uint8], sheet_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Into the middle; the odd pixel is at the right and below."""
    (height, width), (sheet_height, sheet_width) = pixels_HWC.shape[:2], sheet_HWC.shape[:2]
    top, left = (sheet_height - height) // 2, (sheet_width - width) // 2
    sheet_HWC[top : top + height, left : left + width] = pixels_HWC
    return sheet_HWC


def read_sheets(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any], **others: Any
) -> SheetSettings:
    """Settings of a checkpoint's files; `others` are further fields of `SheetSettings`.

    Raises `CheckpointError` where the files disagree.
    """
    vision = config["vision_config"]
    tile, patch = int(vision["image_size"]), int(vision["patch_size"])
    size = image_config["size"]
    cut = {**size, **(image_config.get("crop_size") or {})}
    pinpoints = [tuple(point) for point in image_config["image_grid_pinpoints"]]
    known = [tuple(point) for point in config.get("image_grid_pinpoints") or pinpoints]
    check_agreement(
        folder,
        ("the side of a tile", cut.get("height", cut.get("shortest_edge")), tile),
        ("the side of the whole", size.get("height", size.get("shortest_edge")), tile),
        ("image_grid_pinpoints", pinpoints, known),
    )
    if any(side % tile for point in pinpoints for side in point):
        raise CheckpointError(
            f"{folder}: image_grid_pinpoints has sides that are no multiple of a tile's {tile}",
            next_step="take preprocessor_config.json and config.json from one revision of the model",
        )
    sheets = tuple((width // tile, height // tile) for height, width in pinpoints)
    return SheetSettings(tile=tile, side=tile // patch, sheets=sheets, **others)


def bicubic_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
    """Mean, std and scale of a family that resizes by torch's bicubic filter."""
    if image_config.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json asks for resample {image_config['resample']}; "
            f"this family is known with {BICUBIC} (bicubic)"
        )
    return PixelRule(
        mean=tuple(image_config["image_mean"]),
        std=tuple(image_config["image_std"]),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
    )


def check_strategy(folder: Path, config: Mapping[str, Any], expected: str) -> None:
    """`default` drops the class token that CLIP has; `full` is for a tower that has none."""
    found = config.get("vision_feature_select_strategy", expected)
    if found != expected:
        raise CheckpointError(
            f"{folder}: config.json has vision_feature_select_strategy {found!r}; with this vision "
            f"tower the family is known with {expected!r}"
        )


def image_token_id(config: Mapping[str, Any]) -> int:
    """Of config.json, in the published spelling or in that of transformers 5."""
    return int(config["image_token_index" if "image_token_index" in config else "image_token_id"])
