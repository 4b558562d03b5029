"""What the families Qwen2-VL and Qwen2.5-VL do alike: pictures, positions, batch keys, opening.

Facts read from a checkpoint: patch and merge sides, picture limits, mean and std, image token,
template, end of turn. Facts of the architecture, with their source, stand here: transformers 5.24,
`models/qwen2_vl/` and `models/qwen2_5_vl/` (Apache-2.0), which share picture processor and, for
still pictures, positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError, RecipeError
from manako.core.example import Example, ImageInput, IntArray, Pack
from manako.core.family import Family, PixelRule
from manako.core.files import write_json
from manako.families._shared.checkpoint_files import (
    check_agreement,
    copy_text_files,
    read_config,
    read_image_settings,
)
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import cut_patches
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes import qwen_size

IMAGE_TOKEN_TYPE = 1
BICUBIC = 3
"""Pillow's number for the filter, as preprocessor_config.json writes it."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Patch side in pixels, merged patches per token side, and limits in pixels per picture."""

    patch: int
    merge: int
    temporal: int
    min_pixels: int
    max_pixels: int

    @property
    def factor(self) -> int:
        """Side of one token in pixels."""
        return self.patch * self.merge


def image_tokens(width: int, height: int, settings: ImageSettings) -> int:
    """Tokens of a picture: one per `factor` × `factor` pixels after resizing."""
    return _cost(width, height, settings).tokens


def _cost(width: int, height: int, settings: ImageSettings) -> ImageCost:
    new_width, new_height = qwen_size(
        width,
        height,
        factor=settings.factor,
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
    )
    rows, columns = new_height // settings.factor, new_width // settings.factor
    patches = (new_height // settings.patch, new_width // settings.patch)
    return ImageCost(
        size=(new_width, new_height),
        grid=(1, *patches),
        tokens=rows * columns,
        patches=patches[0] * patches[1],
        rows=rows,
        columns=columns,
    )


@dataclass(frozen=True, kw_only=True)
class QwenProcessor(ChatProcessor):
    """Qwen2-VL or Qwen2.5-VL opened on a checkpoint folder."""

    settings: ImageSettings

    def cost(self, width: int, height: int) -> ImageCost:
        return _cost(width, height, self.settings)

    def cut(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, C, p, p]; a still picture's second frame is made on the device."""
        return cut_patches(pixels_HWC, patch=self.settings.patch, merge=self.settings.merge)

    def positions(self, example: Example) -> IntArray:
        """int32 [3, T]: time, row, column. Text counts on all three; a picture holds its time and
        spreads over rows and columns; text after it goes on from its longer side.

        Source: `get_rope_index` of both models, transformers 5.24. Only a video's time is spaced
        otherwise in Qwen2.5-VL (`tokens_per_second`).
        """
        axes = np.empty((3, example.tokens), dtype=np.int32)
        place, position = 0, 0
        for image in example.images:
            text = image.start - place
            axes[:, place : image.start] = np.arange(position, position + text)
            position += text
            rows, columns = (side // self.settings.merge for side in image.grid[1:])
            end = image.start + image.tokens
            axes[0, image.start : end] = position
            axes[1, image.start : end] = position + np.repeat(np.arange(rows), columns)
            axes[2, image.start : end] = position + np.tile(np.arange(columns), rows)
            position += max(rows, columns)
            place = end
        axes[:, place:] = np.arange(position, position + example.tokens - place)
        return axes

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        return {
            "pixel_values": np.concatenate([image.pixels for image in images]),
            "image_grid_thw": np.array([image.grid for image in images], dtype=np.int64),
        }

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        is_image = pack.input_ids == self.image_token_id
        return {"mm_token_type_ids": (is_image * IMAGE_TOKEN_TYPE)[None].astype(np.int64)}

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Self:
        smallest = self.settings.min_pixels if min_pixels is None else min_pixels
        largest = self.settings.max_pixels if max_pixels is None else max_pixels
        if not self.settings.factor**2 <= largest or smallest > largest:
            raise RecipeError(
                f"min_pixels {smallest} and max_pixels {largest}: expected min_pixels ≤ max_pixels "
                f"and max_pixels ≥ {self.settings.factor**2} (one token)"
            )
        return self.with_settings(min_pixels=smallest, max_pixels=largest)

    def save(self, folder: Path) -> None:
        """Tokenizer and template files as they came, picture settings as they are in force."""
        copy_text_files(self.folder, folder)
        limits = {
            "shortest_edge": self.settings.min_pixels,
            "longest_edge": self.settings.max_pixels,
        }
        kept = {
            key: value
            for key, value in read_image_settings(self.folder).items()
            if key not in ("min_pixels", "max_pixels")
        }
        write_json(folder / "preprocessor_config.json", {**kept, "size": limits})


def open_qwen(folder: Path, family: Family) -> QwenProcessor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing or disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    return QwenProcessor(
        **open_chat(folder, family, image_token_id=int(config["image_token_id"])),
        pixel_rule=_pixel_rule(folder, image_config),
        settings=_image_settings(folder, config, image_config),
    )


def _image_settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> ImageSettings:
    size = image_config.get("size") or {}
    vision = config["vision_config"]
    settings = ImageSettings(
        patch=int(image_config["patch_size"]),
        merge=int(image_config["merge_size"]),
        temporal=int(image_config["temporal_patch_size"]),
        min_pixels=int(image_config.get("min_pixels") or size["shortest_edge"]),
        max_pixels=int(image_config.get("max_pixels") or size["longest_edge"]),
    )
    check_agreement(
        folder,
        ("patch_size", settings.patch, vision["patch_size"]),
        ("merge_size", settings.merge, vision["spatial_merge_size"]),
        ("temporal_patch_size", settings.temporal, vision["temporal_patch_size"]),
    )
    return settings


def _pixel_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
    if image_config.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json asks for resample {image_config['resample']}; "
            f"these families are known with {BICUBIC} (bicubic)"
        )
    return PixelRule(
        mean=tuple(image_config["image_mean"]),
        std=tuple(image_config["image_std"]),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
        temporal_copies=int(image_config["temporal_patch_size"]),
    )
