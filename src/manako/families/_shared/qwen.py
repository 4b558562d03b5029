"""What the families Qwen2-VL, Qwen2.5-VL and Qwen3-VL do alike: pictures, positions, batch keys,
opening.

Facts read from a checkpoint: patch and merge sides, picture limits, mean and std, image token,
template, end of turn. Facts of the architecture, with their source, stand here: transformers 5.24,
`models/qwen2_vl/`, `models/qwen2_5_vl/` and `models/qwen3_vl/` (Apache-2.0), which share picture
processor and, for still pictures, positions. Videos: `qwen_video.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError, RecipeError
from manako.core.example import Example, ImageInput, IntArray, Pack
from manako.core.family import Family, PixelRule
from manako.core.files import read_json, write_json
from manako.families._shared.checkpoint_files import (
    check_agreement,
    copy_text_files,
    read_config,
    read_image_settings,
)
from manako.families._shared.media import VIDEO_FILE
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import cut_patches
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.qwen_video import (
    TimeRule,
    cut_video,
    grid_texts,
    read_limits,
    seconds_per_grid,
    time_steps,
    video_cost,
)
from manako.families._shared.sizes import qwen_size

IMAGE_TOKEN_TYPE = 1
VIDEO_TOKEN_TYPE = 2
TOKENS_PER_SECOND = 4
"""Where Qwen2.5-VL's config.json names none: its config class in transformers 5.24."""
BICUBIC = 3
"""Pillow's number for the filter, as preprocessor_config.json writes it."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Patch side in pixels, merged patches per token side, and limits in pixels per picture.

    temporal: frames under one patch. video_min_pixels, video_max_pixels: limits of a video (0:
    those of pictures, for each of its frames).
    """

    patch: int
    merge: int
    temporal: int
    min_pixels: int
    max_pixels: int
    video_min_pixels: int = 0
    video_max_pixels: int = 0

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
    """A Qwen family opened on a checkpoint folder.

    time: how a video's time is told; tokens_per_second: steps of the time axis, where it is told by
    seconds. vision_marks: the tokens around each grid of frames, where it is told by texts.
    """

    settings: ImageSettings
    time: TimeRule = "grids"
    tokens_per_second: float | None = None
    vision_marks: tuple[str, str] = ("", "")

    def cost(self, width: int, height: int) -> ImageCost:
        return _cost(width, height, self.settings)

    def cut(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, C, p, p]; a still picture's second frame is made on the device."""
        return cut_patches(pixels_HWC, patch=self.settings.patch, merge=self.settings.merge)

    def positions(self, example: Example) -> IntArray:
        """int32 [3, T]: time, row, column. Text counts on all three; a picture holds its time and
        spreads over rows and columns; a video's grids step on in time; text after either goes on
        from its longer side.

        Source: `get_rope_index` of the three models, transformers 5.24.
        """
        axes = np.empty((3, example.tokens), dtype=np.int32)
        place, position = 0, 0
        for start, times, rows, columns in self._grids(example):
            text = start - place
            axes[:, place:start] = np.arange(position, position + text)
            position += text
            place = start + len(times) * rows * columns
            span = position + np.indices((len(times), rows, columns)).reshape(3, -1)
            span[0] = position + np.repeat(times, rows * columns)
            axes[:, start:place] = span
            position += max(rows, columns)
        axes[:, place:] = np.arange(position, position + example.tokens - place)
        return axes

    def _grids(self, example: Example) -> Iterator[tuple[int, IntArray, int, int]]:
        """Start, time steps, rows and columns of what has positions of its own: a picture, a video,
        or one grid of frames of a video whose time is told by texts."""
        for image in example.images:
            grids, *patches = image.grid
            rows, columns = (side // self.settings.merge for side in patches)
            if self.time == "texts" and image.is_video:
                ids = example.input_ids[image.start : image.start + image.tokens]
                places = np.flatnonzero(ids == self.video_token_id)[:: rows * columns]
                for place in places.tolist():
                    yield image.start + place, np.zeros(1, dtype=np.int32), rows, columns
            else:
                rate = self.tokens_per_second
                steps = time_steps(image.times, grids, self.settings.temporal, rate)
                yield image.start, steps, rows, columns

    def video_cost(self, sizes: Sequence[tuple[int, int]], times: Sequence[float]) -> ImageCost:
        return video_cost(sizes, times, self.settings, self.time)

    def prepare_video(
        self, frames_HWC: Sequence[NDArray[np.uint8]], cost: ImageCost
    ) -> NDArray[Any]:
        return cut_video(frames_HWC, cost, self.settings, self.pixel_rule.resample)

    def video_text(self, cost: ImageCost) -> str | None:
        if self.time != "texts":
            return None
        begin, end = self.vision_marks
        texts = grid_texts(cost.times, self.settings.temporal)
        return "".join(f"{text}{begin}{self.maker.video_mark}{end}" for text in texts)

    def video_runs(self, cost: ImageCost) -> list[list[int]]:
        if self.time != "texts":
            return super().video_runs(cost)
        assert self.video_token_id is not None
        return [[self.video_token_id] * (cost.rows * cost.columns)] * cost.grid[0]

    def video_inputs(self, videos: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        inputs: dict[str, NDArray[Any]] = {
            "pixel_values_videos": np.concatenate([video.pixels for video in videos]),
            "video_grid_thw": np.array([video.grid for video in videos], dtype=np.int64),
        }
        if self.time == "seconds":
            seconds = [seconds_per_grid(video.times, self.settings.temporal) for video in videos]
            inputs["second_per_grid_ts"] = np.array(seconds, dtype=np.float32)
        return inputs

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        return {
            "pixel_values": np.concatenate([image.pixels for image in images]),
            "image_grid_thw": np.array([image.grid for image in images], dtype=np.int64),
        }

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        types = np.zeros(pack.tokens, dtype=np.int64)
        types[pack.input_ids == self.image_token_id] = IMAGE_TOKEN_TYPE
        types[pack.input_ids == self.video_token_id] = VIDEO_TOKEN_TYPE
        return {"mm_token_type_ids": types[None]}

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
        if (self.folder / VIDEO_FILE).is_file():
            write_json(folder / VIDEO_FILE, read_json(self.folder / VIDEO_FILE))


def open_qwen(folder: Path, family: Family, *, time: TimeRule) -> QwenProcessor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing or disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    opened = open_chat(
        folder,
        family,
        image_token_id=int(config["image_token_id"]),
        video_token_id=int(config["video_token_id"]),
    )
    to_token = opened["tokenizer"].tokenizer.id_to_token
    ends = [to_token(int(config[f"vision_{end}_token_id"])) for end in ("start", "end")]
    rate = float(config["vision_config"].get("tokens_per_second", TOKENS_PER_SECOND))
    return QwenProcessor(
        **opened,
        pixel_rule=_pixel_rule(folder, image_config),
        settings=read_settings(folder, config, image_config),
        time=time,
        tokens_per_second=rate if time == "seconds" else None,
        vision_marks=(ends[0], ends[1]),
    )


def read_settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any]
) -> ImageSettings:
    """Sizes and limits of both files, which must agree on those that they share."""
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
    return replace(settings, **read_limits(folder, image_config))


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
