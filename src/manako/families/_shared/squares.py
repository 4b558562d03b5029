"""Pictures as LLaVA 1.5 takes them: the shortest edge resized, the middle square, one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError
from manako.families._shared.checkpoint_files import check_agreement
from manako.families._shared.crop import resize_and_crop, shortest_edge
from manako.families._shared.processor import ChatProcessor, ImageCost


@dataclass(frozen=True, kw_only=True)
class SquareSettings:
    """edge: of the resized picture's shorter side, crop: of the square, both in pixels; side:
    patches along the square; class_token: whether the tower's own token is handed on too."""

    edge: int
    crop: int
    side: int
    class_token: bool = False

    @property
    def tokens(self) -> int:
        """Of every picture."""
        return self.side**2 + self.class_token


@dataclass(frozen=True, kw_only=True)
class SquareProcessor(ChatProcessor):
    """A family that sees the middle square of a picture, opened on a checkpoint folder."""

    settings: SquareSettings

    def cost(self, width: int, height: int) -> ImageCost:
        side = self.settings.side
        return ImageCost(
            size=(self.settings.crop, self.settings.crop),
            grid=(side, side),
            tokens=self.settings.tokens,
            patches=side**2,
            rows=side,
            columns=side,
        )

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        height, width = pixels_HWC.shape[:2]
        size = shortest_edge(width, height, self.settings.edge)
        return resize_and_crop(pixels_HWC, *size, self.settings.crop)


def read_squares(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> SquareSettings:
    """Settings of a checkpoint's files. Raises `CheckpointError` where they disagree."""
    vision = config["vision_config"]
    size, crop = image_config["size"], image_config.get("crop_size") or {}
    # The first files had one number instead of named sides.
    edge: Any = size if isinstance(size, int) else size.get("shortest_edge")
    square: Any = crop if isinstance(crop, int) else crop.get("height")
    check_agreement(folder, ("crop_size", square, vision["image_size"]))
    if not edge or edge < square:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json has size {size}; this family is known with a "
            f"shortest_edge of at least the crop's {square}"
        )
    return SquareSettings(
        edge=int(edge),
        crop=int(square),
        side=int(square) // int(vision["patch_size"]),
        class_token=config.get("vision_feature_select_strategy", "default") == "full",
    )
