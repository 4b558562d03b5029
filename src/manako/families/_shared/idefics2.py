"""How Idefics2 takes pictures: native shapes, in one padded batch with a mask of real pixels.

Source: transformers 5.24, `models/idefics2/` (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import CheckpointError
from manako.core.example import ImageInput
from manako.core.family import Family, PixelRule
from manako.families._shared.checkpoint_files import (
    check_agreement,
    read_config,
    read_image_settings,
)
from manako.families._shared.idefics import AROUND, END_OF_TURN, IMAGE, check_steps, image_seq_len
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import resize_torch_aa
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes._rule import refused

BILINEAR = 2
"""Pillow's number for the filter, as preprocessor_config.json writes it."""
Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""


@dataclass(frozen=True, kw_only=True)
class PieceSettings:
    """shortest, longest: limits of a side in pixels. patch: its side in pixels. vectors: of each
    piece. split: whether a picture is also cut in four, the whole being the fifth piece."""

    shortest: int
    longest: int
    patch: int
    vectors: int
    split: bool

    @property
    def pieces(self) -> int:
        return 5 if self.split else 1


def tokens_of_picture(settings: PieceSettings) -> int:
    """Vectors of all pieces, and the mark between each two of them."""
    return settings.pieces * (settings.vectors + 1) - 1


def piece_boxes(width: int, height: int, *, split: bool) -> list[Box]:
    """The quarters row by row, then the whole; the whole alone without `split`."""
    whole = (0, 0, width, height)
    if not split:
        return [whole]
    columns, rows = ((0, side // 2, side) for side in (width, height))
    quarters = [(a, b, c, d) for b, d in pairwise(rows) for a, c in pairwise(columns)]
    return [*quarters, whole]


def piece_size(width: int, height: int, settings: PieceSettings) -> tuple[int, int]:
    """(width, height) after resizing: the longer side at most `longest`, both at least `shortest`,
    which widens the narrowest. Source: `get_resize_output_image_size`."""
    ratio = width / height
    if width >= height and width > settings.longest:
        width, height = settings.longest, int(settings.longest / ratio)
    elif height > width and height > settings.longest:
        width, height = int(settings.longest * ratio), settings.longest
    return max(width, settings.shortest), max(height, settings.shortest)


@dataclass(frozen=True, kw_only=True)
class PieceProcessor(ChatProcessor):
    """Idefics2 opened on a checkpoint folder."""

    settings: PieceSettings

    def cost(self, width: int, height: int) -> ImageCost:
        """A perceiver's vectors have no place in the picture, so the grid to draw is 1 × 1. The
        tower works on whole frames, padding included: a pack of larger pictures makes them larger.
        """
        if self.settings.split and min(width, height) == 1:
            raise refused(width, height, "cannot be cut in four")
        sizes = self._sizes(width, height)
        frame = [side // self.settings.patch for side in _frame(sizes)]
        return ImageCost(
            size=sizes[-1],
            grid=tuple(side for size in sizes for side in size),
            tokens=self.settings.pieces * self.settings.vectors,
            patches=len(sizes) * math.prod(frame),
            rows=1,
            columns=1,
        )

    def _sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        boxes = piece_boxes(width, height, split=self.settings.split)
        return [piece_size(c - a, d - b, self.settings) for a, b, c, d in boxes]

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, 3, H, W]: pieces at the upper left of the largest piece's frame; `grid` says
        how much of it each fills."""
        height, width = pixels_HWC.shape[:2]
        boxes = piece_boxes(width, height, split=self.settings.split)
        sizes = _pairs(cost.grid)
        framed = np.zeros((len(sizes), 3, *_frame(sizes)), np.uint8)
        for place, ((a, b, c, d), (w, h)) in enumerate(zip(boxes, sizes, strict=True)):
            piece = resize_torch_aa(pixels_HWC[b:d, a:c], w, h, mode=self.pixel_rule.resample)
            framed[place, :, :h, :w] = piece.transpose(2, 0, 1)
        return framed

    def image_text(self, cost: ImageCost) -> str:
        """Neighbours share the mark between them."""
        return AROUND + f"{IMAGE}{AROUND}" * self.settings.pieces

    def join_texts(self, conversation: Conversation, costs: Sequence[ImageCost]) -> tuple[str, ...]:
        """Pictures side by side share it too, as `Idefics2Processor.__call__` has it."""
        texts: list[str] = []
        waiting = list(costs)
        for message in conversation.messages:
            after_picture = False
            for part in message.content:
                is_picture = isinstance(part, Image)
                if is_picture:
                    text = self.image_text(waiting.pop(0))
                    texts.append(text.removeprefix(AROUND) if after_picture else text)
                after_picture = is_picture
        return tuple(texts)

    def image_runs(self, cost: ImageCost) -> list[list[int]]:
        """One run for each piece."""
        assert self.image_token_id is not None
        return [[self.image_token_id] * self.settings.vectors] * self.settings.pieces

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """`pixel_values` uint8 [1, N, 3, H, W] and `pixel_attention_mask` bool [1, N, H, W], which
        is True where a piece is. Patches that are not full are padding to the model, so what the
        frame is filled with does not matter."""
        sizes = [size for image in images for size in _pairs(image.grid)]
        pixels = np.zeros((len(sizes), 3, *_frame(sizes)), np.uint8)
        is_real = np.zeros((len(sizes), *_frame(sizes)), np.bool_)
        place = 0
        for image in images:
            count, _, height, width = image.pixels.shape
            pixels[place : place + count, :, :height, :width] = image.pixels
            place += count
        for mask, (width, height) in zip(is_real, sizes, strict=True):
            mask[:height, :width] = True
        return {"pixel_values": pixels[None], "pixel_attention_mask": is_real[None]}

    def parse(self, token_ids: Sequence[int]) -> Message:
        """Without the blank between `Assistant:` and the words, which the template writes and the
        model therefore too."""
        return Message("assistant", (Text(super().parse(token_ids).text.removeprefix(" ")),))


def _pairs(grid: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(grid[::2], grid[1::2], strict=True))


def _frame(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) that holds all (width, height)."""
    return max(height for _, height in sizes), max(width for width, _ in sizes)


def open_pieces(folder: Path, family: Family) -> PieceProcessor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    return PieceProcessor(
        **open_chat(
            folder, family, image_token_id=int(config["image_token_id"]), end_token=END_OF_TURN
        ),
        pixel_rule=_pixel_rule(folder, image_config),
        settings=_settings(folder, config, image_config),
    )


def _settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> PieceSettings:
    vectors = int(config["perceiver_config"]["resampler_n_latents"])
    check_agreement(folder, ("image_seq_len", image_seq_len(folder, vectors), vectors))
    size = image_config["size"]
    return PieceSettings(
        shortest=int(size["shortest_edge"]),
        longest=int(size["longest_edge"]),
        patch=int(config["vision_config"]["patch_size"]),
        vectors=vectors,
        split=bool(image_config.get("do_image_splitting", False)),
    )


def _pixel_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
    if image_config.get("resample", BILINEAR) != BILINEAR:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json asks for resample {image_config['resample']}; "
            f"this family is known with {BILINEAR} (bilinear)"
        )
    check_steps(folder, image_config)
    return PixelRule(
        mean=tuple(image_config["image_mean"]),
        std=tuple(image_config["image_std"]),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
        resample="bilinear",
    )
