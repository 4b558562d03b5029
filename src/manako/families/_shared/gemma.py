"""Gemma 3's pictures: every one squeezed to a square, a constant number of tokens, pan-and-scan.

Facts of the architecture, with their source: transformers 5.24, `models/gemma3/` (Apache-2.0);
paper arXiv 2503.19786. Read from a checkpoint: side, tokens of a picture, crops, mean and std,
image token, template.

Pan-and-scan is off where preprocessor_config.json leaves it null, as published. `Gemma3Processor`
of transformers leaves it off even where the file turns it on, unless asked in the call; its
picture processor alone, and Manako, do what the file says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError
from manako.core.example import Pack
from manako.core.family import Family, PixelRule
from manako.core.files import read_json
from manako.families._shared.checkpoint_files import (
    check_agreement,
    read_config,
    read_image_settings,
)
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import resize_torch_aa
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes.fixed import fixed

START, SOFT, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"
ONE_PICTURE = f"\n\n{START}{SOFT}{END}\n\n"
BEFORE_WHOLE = "Here is the original image "
BEFORE_CROPS = " and here are some crops to help you see better "
"""What `Gemma3Processor` writes around a picture, and around the crops of one."""
IMAGE_TOKEN_TYPE = 1
BILINEAR = 2
"""Pillow's number for the filter, as preprocessor_config.json writes it."""


@dataclass(frozen=True, kw_only=True)
class SquareSettings:
    """side: pixels of each view. tokens: of each view. patch: pixels.

    Pan-and-scan: a picture whose longer side is at least `min_ratio` times the shorter is seen
    once more in up to `max_crops` crops along it, none narrower than `min_crop` pixels. gaps:
    text tokens from the whole picture to its first crop, and from crop to crop.
    """

    side: int
    tokens: int
    patch: int
    pan_and_scan: bool = False
    min_crop: int = 256
    max_crops: int = 4
    min_ratio: float = 1.2
    gaps: tuple[int, int] = (0, 0)

    @property
    def patches(self) -> int:
        return (self.side // self.patch) ** 2


def crop_count(width: int, height: int, settings: SquareSettings) -> int:
    """Crops along the longer side; 0 where the picture is seen as a whole only.

    Source: `pan_and_scan` of transformers 5.24, models/gemma3/image_processing_pil_gemma3.py.
    """
    longer, shorter = max(width, height), min(width, height)
    if not settings.pan_and_scan or longer / shorter < settings.min_ratio:
        return 0
    count = min(longer // settings.min_crop, math.floor(longer / shorter + 0.5))
    count = min(settings.max_crops, max(2, count))
    narrowest = min(math.ceil(longer / count), shorter)
    return 0 if narrowest < settings.min_crop else count


def tokens_of_picture(width: int, height: int, settings: SquareSettings) -> int:
    """Vectors of the whole picture and of its crops, and the text between them."""
    whole = fixed(width, height, tokens=settings.tokens)
    crops = crop_count(width, height, settings)
    if not crops:
        return whole
    first, others = settings.gaps
    return whole * (1 + crops) + first + others * (crops - 1)


@dataclass(frozen=True, kw_only=True)
class Gemma3Processor(ChatProcessor):
    """Gemma 3 opened on a checkpoint folder."""

    settings: SquareSettings

    def cost(self, width: int, height: int) -> ImageCost:
        """`grid`: views; crops stand beside each other, or below each other in a tall picture."""
        settings = self.settings
        crops = crop_count(width, height, settings)
        rows = math.isqrt(settings.tokens)
        return ImageCost(
            size=(settings.side, settings.side),
            grid=(1, 1 + crops),
            tokens=settings.tokens * (1 + crops),
            patches=settings.patches * (1 + crops),
            rows=rows,
            columns=rows,
        )

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, 3, side, side]: the whole picture, then its crops."""
        views = [pixels_HWC, *_crops(pixels_HWC, cost.grid[1] - 1)]
        return np.stack(
            [
                resize_torch_aa(view, *cost.size, mode="bilinear").transpose(2, 0, 1)
                for view in views
            ]
        )

    def image_text(self, cost: ImageCost) -> str:
        crops = cost.grid[1] - 1
        if not crops:
            return ONE_PICTURE
        return BEFORE_WHOLE + ONE_PICTURE + BEFORE_CROPS + " ".join([ONE_PICTURE] * crops)

    def image_runs(self, cost: ImageCost) -> list[list[int]]:
        assert self.image_token_id is not None
        return [[self.image_token_id] * self.settings.tokens] * cost.grid[1]

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        """Without token_type_ids the model silently lets a picture's tokens see one way only."""
        is_image = pack.input_ids == self.image_token_id
        return {"token_type_ids": (is_image * IMAGE_TOKEN_TYPE)[None].astype(np.int64)}

    def attention_inputs(self, pack: Pack) -> dict[str, Any]:
        """Segments, and each run of image tokens as a block whose tokens see each other."""
        is_image = pack.input_ids == self.image_token_id
        edges = np.flatnonzero(np.diff(np.concatenate([[False], is_image, [False]]))).tolist()
        blocks = tuple(zip(edges[::2], edges[1::2], strict=True))
        return {**super().attention_inputs(pack), "image_blocks": blocks}


def _crops(pixels_HWC: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """`count` equal crops along the longer side; the last takes what is left."""
    if not count:
        return []
    axis = 1 if pixels_HWC.shape[1] >= pixels_HWC.shape[0] else 0
    length = pixels_HWC.shape[axis]
    step = math.ceil(length / count)
    edges = [min(step * place, length) for place in range(count + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    return [pixels_HWC[:, part] if axis else pixels_HWC[part] for part in parts]


def open_gemma3(folder: Path, family: Family) -> Gemma3Processor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing or disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    refuse_both_ways(folder, config.get("text_config") or {})
    opened = open_chat(
        folder, family, image_token_id=int(config["image_token_index"]), image_mark=START
    )
    settings = _settings(folder, config, image_config)
    if settings.pan_and_scan:
        settings = _with_gaps(opened["tokenizer"].file, settings)
    return Gemma3Processor(
        **opened, pixel_rule=_pixel_rule(folder, image_config), settings=settings
    )


def refuse_both_ways(folder: Path, text_config: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for a text model that looks both ways: an encoder, which has the
    architecture of Gemma 3 and generates nothing."""
    if text_config.get("use_bidirectional_attention"):
        raise CheckpointError(
            f"{folder}: config.json has use_bidirectional_attention, as text encoders do",
            next_step="choose a checkpoint that answers: gemma-3-…-it",
        )


def _settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> SquareSettings:
    vision = config["vision_config"]
    size = image_config["size"]
    tokens = int(config.get("mm_tokens_per_image") or 256)
    check_agreement(
        folder,
        ("size", (size["height"], size["width"]), (vision["image_size"], vision["image_size"])),
        *(
            ("image_seq_length", named, tokens)
            for named in _tokens_elsewhere(folder, image_config)
            if named is not None
        ),
    )
    return SquareSettings(
        side=int(vision["image_size"]),
        tokens=tokens,
        patch=int(vision["patch_size"]),
        pan_and_scan=bool(image_config.get("do_pan_and_scan")),
        min_crop=int(image_config.get("pan_and_scan_min_crop_size") or 256),
        max_crops=int(image_config.get("pan_and_scan_max_num_crops") or 4),
        min_ratio=float(image_config.get("pan_and_scan_min_ratio_to_activate") or 1.2),
    )


def _tokens_elsewhere(folder: Path, image_config: Mapping[str, Any]) -> list[Any]:
    """What the processor's files say of a picture's tokens; both may leave it out."""
    file = folder / "processor_config.json"
    processor_config = read_json(file) if file.is_file() else {}
    return [found.get("image_seq_length") for found in (image_config, processor_config)]


def _with_gaps(tokenizer_file: Path, settings: SquareSettings) -> SquareSettings:
    """The text between the views of a picture, counted in tokens of this checkpoint."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))

    def count(between: str) -> int:
        text = f"{END}\n\n{between}\n\n{START}"
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return replace(settings, gaps=(count(BEFORE_CROPS), count(" ")))


def _pixel_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
    if image_config.get("resample", BILINEAR) != BILINEAR:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json asks for resample {image_config['resample']}; "
            f"this family is known with {BILINEAR} (bilinear)"
        )
    return PixelRule(
        mean=tuple(image_config["image_mean"]),
        std=tuple(image_config["image_std"]),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
        resample="bilinear",
    )
