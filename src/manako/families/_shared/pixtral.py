"""What a Pixtral checkpoint does with pictures: whole patches, row ends, and one padded batch.

Source: transformers 5.24, `models/pixtral/image_processing_pixtral.py` and
`processing_pixtral.py` (Apache-2.0); the latter cannot be imported without torchvision.
"""

from __future__ import annotations

import math
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
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes.rows import cells

BICUBIC = 3
"""Pillow's number for the filter, as preprocessor_config.json writes it."""
IMAGE_TOKEN, BREAK_TOKEN, END_TOKEN = "[IMG]", "[IMG_BREAK]", "[IMG_END]"


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Patch side, and the longest side to which a larger picture is brought; in pixels."""

    patch: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class PixtralProcessor(ChatProcessor):
    """Pixtral opened on a checkpoint folder.

    break_id ends each row of patches but the last, which end_id ends.
    """

    settings: ImageSettings
    break_id: int
    end_id: int

    def cost(self, width: int, height: int) -> ImageCost:
        patch = self.settings.patch
        columns, rows = cells(width, height, cell=patch, longest=self.settings.longest)
        return ImageCost(
            size=(columns * patch, rows * patch),
            grid=(rows, columns),
            tokens=rows * (columns + 1),
            patches=rows * columns,
            rows=rows,
            columns=columns,
        )

    def image_ids(self, cost: ImageCost) -> list[int]:
        row = [*super().image_ids(cost)[: cost.columns], self.break_id]
        return [*(row * cost.rows)[:-1], self.end_id]

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Self:
        """With the longest side whose square has at most `max_pixels`, in whole patches, where that
        is below the checkpoint's. A small picture is only filled up to whole patches, so there is
        nothing that `min_pixels` could mean."""
        if min_pixels is not None:
            raise RecipeError(
                f"min_pixels {min_pixels}: family {self.family} enlarges no picture",
                next_step="leave min_pixels out; max_pixels sets the longest side",
            )
        if max_pixels is None:
            return self
        patch = self.settings.patch
        longest = math.isqrt(max(0, max_pixels)) // patch * patch
        if not longest:
            raise RecipeError(f"max_pixels {max_pixels}: expected at least {patch**2} (one token)")
        return self.with_settings(longest=min(longest, self.settings.longest))

    def save(self, folder: Path) -> None:
        """Tokenizer and template files as they came, the longest side as it is in force."""
        super().save(folder)
        change_image_settings(folder, size={"longest_edge": self.settings.longest})

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """uint8 [N, 3, H, W], H and W the largest of the pack, and each picture's own (height,
        width). The tower drops the patches that are padding before anything reads them."""
        heights, widths = ([image.size[axis] for image in images] for axis in (1, 0))
        pixels = np.zeros((len(images), 3, max(heights), max(widths)), np.uint8)
        for entry, image in zip(pixels, images, strict=True):
            entry[:, : image.size[1], : image.size[0]] = image.pixels[0]
        sizes = np.array([heights, widths], dtype=np.int64).T
        return {self.pixel_rule.key: pixels, "image_sizes": np.ascontiguousarray(sizes)}


def open_pixtral(folder: Path, family: Family) -> PixtralProcessor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing
    or disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    chat = open_chat(folder, family, image_token_id=_image_token_id(folder, config))
    break_id, end_id = (_id_of(folder, chat, token) for token in (BREAK_TOKEN, END_TOKEN))
    return PixtralProcessor(
        **chat,
        pixel_rule=_pixel_rule(folder, image_config),
        settings=_settings(folder, config, image_config),
        break_id=break_id,
        end_id=end_id,
    )


def _image_token_id(folder: Path, config: Mapping[str, Any]) -> int:
    """`image_token_index` in the published file, `image_token_id` in one saved since."""
    found = config.get("image_token_id", config.get("image_token_index"))
    if found is None:
        raise CheckpointError(f"{folder}: config.json names no image token (image_token_index)")
    return int(found)


def _id_of(folder: Path, chat: Mapping[str, Any], token: str) -> int:
    token_id = chat["tokenizer"].id_of(token)
    if token_id is None:
        raise CheckpointError(
            f"{folder}: tokenizer.json lacks {token}, which stands at the end of rows of patches",
            next_step="take tokenizer.json from the model's own repository",
        )
    return int(token_id)


def _settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> ImageSettings:
    patch = image_config["patch_size"]
    sides = (patch["height"], patch["width"]) if isinstance(patch, Mapping) else (patch, patch)
    side = int(config["vision_config"].get("patch_size", sides[0]))
    check_agreement(folder, ("patch_size", sides, (side, side)))
    longest = image_config["size"].get("longest_edge")
    if longest is None:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json has size {image_config['size']}; this family is "
            "known with longest_edge"
        )
    return ImageSettings(patch=side, longest=int(longest))


def _pixel_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
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
