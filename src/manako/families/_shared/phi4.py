"""What a Phi-4-multimodal checkpoint does with pictures: a sheet of crops, and the whole of it.

Source: transformers 5.24, `models/phi4_multimodal/image_processing_phi4_multimodal.py`
(Apache-2.0), which needs torchvision. The whole view is made from the sheet after it was
normalised, by a bicubic filter without antialiasing, so pixels are float32 here.

Legend: N crops and the whole view, C channels, s side of a crop, H, W of the sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError, RecipeError
from manako.core.example import ImageInput
from manako.core.family import Family, PixelRule
from manako.families._shared.checkpoint_files import (
    change_image_settings,
    check_agreement,
    read_config,
    read_image_settings,
)
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import resize_torch_aa
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes.tiles import phi4_patches, phi4_sheet, phi4_tokens

BICUBIC = 3
"""Pillow's number for the filter, as preprocessor_config.json writes it."""
IMAGE_TOKEN_ID = 200010
"""Where config.json leaves it out, as it may."""
PUBLISHED_CROP, PUBLISHED_PATCH, PUBLISHED_CROPS = 448, 14, 36
WHITE = 255


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Side of a crop and of a patch in pixels, and how many crops a sheet may have."""

    crop: int
    patch: int
    max_crops: int

    @property
    def side(self) -> int:
        """Tokens along a crop: 2 × 2 patches are one."""
        return self.crop // self.patch // 2


@dataclass(frozen=True, kw_only=True)
class Phi4Processor(ChatProcessor):
    """Phi-4-multimodal opened on a checkpoint folder; sound is left aside."""

    settings: ImageSettings

    def cost(self, width: int, height: int) -> ImageCost:
        settings = self.settings
        (columns, rows), kept = phi4_sheet(
            width, height, crop=settings.crop, max_crops=settings.max_crops
        )
        patches = phi4_patches((columns, rows), kept, crop=settings.crop, patch=settings.patch)
        views = 1 + columns * rows
        return ImageCost(
            size=(columns * settings.crop, rows * settings.crop),
            grid=(rows, columns, patches[1], patches[0], kept[1], kept[0]),
            tokens=phi4_tokens(patches, side=settings.side),
            patches=views * (settings.crop // settings.patch) ** 2,
            rows=rows * settings.side,
            columns=columns * settings.side,
        )

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]: the picture at the sheet's upper left corner, white beside it."""
        (width, height), (kept_height, kept_width) = cost.size, cost.grid[4:]
        sheet = np.full((height, width, 3), WHITE, np.uint8)
        resized = resize_torch_aa(pixels_HWC, kept_width, kept_height, mode="bilinear")
        sheet[:kept_height, :kept_width] = resized
        return sheet

    def cut(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """float32 [N, 3, s, s], normalised: the whole view, then the crops row by row."""
        import torch
        from torch.nn import functional

        from manako.nn.batch import normalise

        side, (rows, columns) = self.settings.crop, cost.grid[:2]
        sheet = torch.from_numpy(np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)))[None]
        values = normalise(sheet, self.pixel_rule)
        views = np.empty((1 + rows * columns, 3, side, side), np.float32)
        views[0] = functional.interpolate(
            values, size=(side, side), mode="bicubic", align_corners=False
        )[0].numpy()
        crops = values.numpy().reshape(3, rows, side, columns, side)
        views[1:] = crops.transpose(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
        return views

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Self:
        """With sheets of at most `max_pixels`, where the checkpoint's may have more. Every picture
        fills its sheet, so there is nothing that `min_pixels` could mean."""
        if min_pixels is not None:
            raise RecipeError(
                f"min_pixels {min_pixels}: family {self.family} brings every picture to whole crops",
                next_step="leave min_pixels out; max_pixels sets how many crops there may be",
            )
        if max_pixels is None:
            return self
        crop = self.settings.crop
        if max_pixels < crop**2:
            raise RecipeError(f"max_pixels {max_pixels}: expected at least {crop**2} (one crop)")
        crops = min(max_pixels // crop**2, self.settings.max_crops)
        return self.with_settings(max_crops=crops)

    def save(self, folder: Path) -> None:
        """Tokenizer and template files as they came, the number of crops as it is in force."""
        super().save(folder)
        change_image_settings(folder, dynamic_hd=self.settings.max_crops)

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Pixels [B, N, 3, s, s] and which patches hold picture [B, N, s/p, s/p], filled up to the
        picture of most crops; (height, width) of each sheet."""
        most, along = max(len(image.pixels) for image in images), self.settings.side * 2
        pixels = np.zeros((len(images), most, *images[0].pixels.shape[1:]), np.float32)
        mask = np.ones((len(images), most, along, along), np.float32)
        for place, image in enumerate(images):
            pixels[place, : len(image.pixels)] = image.pixels
            mask[place, 1 : len(image.pixels)] = _held(image.grid, along)
        sizes = np.array([image.size[::-1] for image in images], dtype=np.int64)
        return {
            self.pixel_rule.key: pixels,
            "image_sizes": sizes,
            "image_attention_mask": mask,
        }


def _held(grid: Sequence[int], along: int) -> NDArray[np.float32]:
    """float32 [crops, p, p]: 1 where a patch of a crop holds picture."""
    rows, columns, held_rows, held_columns = grid[:4]
    sheet = np.zeros((rows * along, columns * along), np.float32)
    sheet[:held_rows, :held_columns] = 1
    crops = sheet.reshape(rows, along, columns, along).transpose(0, 2, 1, 3)
    return crops.reshape(-1, along, along)


def open_phi4(folder: Path, family: Family) -> Phi4Processor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing
    or disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    image_id = int((config.get("vision_config") or {}).get("image_token_id", IMAGE_TOKEN_ID))
    return Phi4Processor(
        **open_chat(folder, family, image_token_id=image_id),
        pixel_rule=_pixel_rule(folder, image_config),
        settings=_settings(folder, config, image_config),
    )


def _settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> ImageSettings:
    """Values that a file leaves out are those of the reference's class."""
    size = image_config.get("size") or {"height": PUBLISHED_CROP, "width": PUBLISHED_CROP}
    vision = config.get("vision_config") or {}
    settings = ImageSettings(
        crop=int(size["height"]),
        patch=int(image_config.get("patch_size", PUBLISHED_PATCH)),
        max_crops=int(image_config.get("dynamic_hd", PUBLISHED_CROPS)),
    )
    side = settings.crop
    check_agreement(
        folder,
        ("size", (side, int(size["width"])), (side, side)),
        ("crop_size", side, vision.get("crop_size", PUBLISHED_CROP)),
        ("image_size", side, vision.get("image_size", PUBLISHED_CROP)),
        ("patch_size", settings.patch, vision.get("patch_size", PUBLISHED_PATCH)),
    )
    if side % (2 * settings.patch):
        raise CheckpointError(
            f"{folder}: a crop of {side} pixels is no even number of patches of {settings.patch}"
        )
    return settings


def _pixel_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
    if image_config.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json asks for resample {image_config['resample']}; "
            f"this family is known with {BICUBIC} (bicubic)"
        )
    halves = (0.5, 0.5, 0.5)
    return PixelRule(
        mean=tuple(image_config.get("image_mean", halves)),
        std=tuple(image_config.get("image_std", halves)),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
        reference="float_interpolate",
        key="image_pixel_values",
    )
