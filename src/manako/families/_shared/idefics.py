"""What Idefics3, SmolVLM and SmolVLM2 do alike: tiles of a picture, their marks, opening.

The longest side is brought to a multiple of the tile, the picture is cut into tiles, and the whole,
shrunk to one tile, comes last; a picture of one tile is only that. Between the tiles stand marks of
text, which the model reads and never writes.

Facts read from a checkpoint: tile, longest side, vectors of a tile, filter, mean and std, template.
Facts of the architecture, with their source, stand here: transformers 5.24, `models/idefics3/` and
`models/smolvlm/` (Apache-2.0), whose picture processors are the same code. Videos, which SmolVLM2
takes: `smolvlm_video.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from manako.core.conversation import Message, Text
from manako.core.errors import CheckpointError, RecipeError
from manako.core.example import ImageInput
from manako.core.family import Family, PixelRule
from manako.core.files import read_json
from manako.families._shared.checkpoint_files import (
    change_image_settings,
    check_agreement,
    read_config,
    read_image_settings,
)
from manako.families._shared.layout import LayoutMaker
from manako.families._shared.media import VIDEO_FILE, frame_size, read_video_settings
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import resize_pillow
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes.idefics import IDEFICS3_LONGEST, idefics3_tiles
from manako.families._shared.smolvlm_video import (
    VIDEO_MARK,
    cut_frames,
    video_longest,
    video_text,
)

AROUND = "<fake_token_around_image>"
IMAGE = "<image>"
WHOLE = "<global-img>"
ONE_TILE = f"{AROUND}{WHOLE}{IMAGE}{AROUND}"
"""How the whole is written, and a frame of a video."""
END_OF_TURN = "<end_of_utterance>"
LANCZOS = 1
"""Pillow's number for the filter, as preprocessor_config.json writes it."""
STEPS = ("do_resize", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb")
"""Steps of the picture processor that every published checkpoint has on."""


@dataclass(frozen=True, kw_only=True)
class TileSettings:
    """How a picture is cut.

    tile, longest: pixels, of a tile's side and of the longest side after resizing. patch: side of
    a patch in pixels. tile_tokens: vectors of a tile. split: whether there are tiles, or the whole
    alone. marks: tokens of text before the tile of each row and column, none before the first;
    whole_mark: before the whole. video_longest: as longest, of a video's frames (0: the same).
    """

    tile: int
    longest: int
    patch: int
    tile_tokens: int
    split: bool
    marks: tuple[tuple[int, ...], ...] = ()
    whole_mark: int = 0
    video_longest: int = 0


def tokens_of_picture(width: int, height: int, settings: TileSettings) -> int:
    """Vectors of all tiles and the whole, and the marks between them."""
    _, (columns, rows) = _tiles(width, height, settings)
    vectors = _cost(width, height, settings).tokens
    if columns * rows == 1:
        return vectors
    return vectors + settings.whole_mark + sum(sum(row[:columns]) for row in settings.marks[:rows])


def _tiles(width: int, height: int, settings: TileSettings) -> Any:
    return idefics3_tiles(
        width, height, tile=settings.tile, longest=settings.longest, split=settings.split
    )


def _cost(width: int, height: int, settings: TileSettings) -> ImageCost:
    _, (columns, rows) = _tiles(width, height, settings)
    tiles = columns * rows
    entries = tiles + (tiles > 1)
    side = math.isqrt(settings.tile_tokens)
    return ImageCost(
        size=(columns * settings.tile, rows * settings.tile),
        grid=(rows, columns),
        tokens=entries * settings.tile_tokens,
        patches=entries * (settings.tile // settings.patch) ** 2,
        rows=rows * side,
        columns=columns * side,
    )


@dataclass(frozen=True, kw_only=True)
class TiledProcessor(ChatProcessor):
    """Idefics3, SmolVLM or SmolVLM2 opened on a checkpoint folder.

    All tiles have one size, so the model needs no mask of real pixels, and none is sent.
    """

    settings: TileSettings

    def cost(self, width: int, height: int) -> ImageCost:
        return _cost(width, height, self.settings)

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """The longest side first, then both to whole tiles: twice through the filter."""
        height, width = pixels_HWC.shape[:2]
        first, _ = _tiles(width, height, self.settings)
        return self._filtered(self._filtered(pixels_HWC, *first), *cost.size)

    def cut(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, 3, t, t]: tiles row by row, then the whole."""
        side, (rows, columns) = self.settings.tile, cost.grid
        if rows * columns == 1:
            return super().cut(pixels_HWC, cost)
        grid = pixels_HWC.reshape(rows, side, columns, side, 3).transpose(0, 2, 4, 1, 3)
        whole = self._filtered(pixels_HWC, side, side).transpose(2, 0, 1)
        return np.concatenate([grid.reshape(-1, 3, side, side), whole[None]])

    def image_text(self, cost: ImageCost) -> str:
        """Marks and image tokens as `replace_image_token` of both processors writes them."""
        rows, columns = cost.grid
        if rows * columns == 1:
            return ONE_TILE
        lines = [
            "".join(f"{_mark(row, column)}{IMAGE}" for column in range(columns)) + "\n"
            for row in range(rows)
        ]
        return "".join(lines) + "\n" + ONE_TILE

    def image_runs(self, cost: ImageCost) -> list[list[int]]:
        """One run for each tile and the whole."""
        assert self.image_token_id is not None
        run = [self.image_token_id] * self.settings.tile_tokens
        return [run] * (cost.tokens // self.settings.tile_tokens)

    def image_inputs(self, images: Any) -> dict[str, NDArray[Any]]:
        """`pixel_values` uint8 [1, N, 3, t, t]: the model wants a row's pictures on an axis."""
        return {"pixel_values": np.concatenate([image.pixels for image in images])[None]}

    def media_inputs(self, media: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        """Tiles and frames in one array: the model fills the image tokens of both in order."""
        return self.image_inputs(media)

    def video_cost(self, sizes: Sequence[tuple[int, int]], times: Sequence[float]) -> ImageCost:
        frame_size(sizes)  # refuses frames that differ
        settings, frames = self.settings, len(sizes)
        side = math.isqrt(settings.tile_tokens)
        return ImageCost(
            size=(settings.tile, settings.tile),
            grid=(frames, 1, 1),
            tokens=frames * settings.tile_tokens,
            patches=frames * (settings.tile // settings.patch) ** 2,
            rows=side,
            columns=side,
            times=tuple(times),
        )

    def prepare_video(
        self, frames_HWC: Sequence[NDArray[np.uint8]], cost: ImageCost
    ) -> NDArray[Any]:
        longest = self.settings.video_longest or self.settings.longest
        return cut_frames(frames_HWC, tile=self.settings.tile, longest=longest)

    def video_text(self, cost: ImageCost) -> str:
        return video_text(cost.times, ONE_TILE)

    def video_runs(self, cost: ImageCost) -> list[list[int]]:
        """One run for each frame."""
        return self.image_runs(cost)

    def parse(self, token_ids: Any) -> Message:
        """Without the blank between `Assistant:` and the words, which the template writes and the
        model therefore too."""
        return Message("assistant", (Text(super().parse(token_ids).text.removeprefix(" ")),))

    def with_pixel_limits(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Self:
        """With the longest side whose square has at most `max_pixels`, in whole tiles; it is what
        every picture is brought to, so there is nothing that `min_pixels` could mean."""
        if min_pixels is not None:
            raise RecipeError(
                f"min_pixels {min_pixels}: family {self.family} brings every picture to the same "
                "longest side, larger ones and smaller ones",
                next_step="leave min_pixels out; max_pixels sets that side",
            )
        if max_pixels is None:
            return self
        tile = self.settings.tile
        longest = tile * (min(math.isqrt(max(0, max_pixels)), IDEFICS3_LONGEST) // tile)
        if not longest:
            raise RecipeError(f"max_pixels {max_pixels}: expected at least {tile**2} (one tile)")
        return self.with_settings(longest=longest, marks=_marks(self.maker, tile, longest))

    def save(self, folder: Path) -> None:
        """Tokenizer and template files as they came, the longest side as it is in force."""
        super().save(folder)
        change_image_settings(folder, size={"longest_edge": self.settings.longest})

    def _filtered(
        self, pixels_HWC: NDArray[np.uint8], width: int, height: int
    ) -> NDArray[np.uint8]:
        return resize_pillow(pixels_HWC, width, height, resample=LANCZOS)


def _mark(row: int, column: int) -> str:
    return f"{AROUND}<row_{row + 1}_col_{column + 1}>"


def open_tiled(folder: Path, family: Family) -> TiledProcessor:
    """Open a checkpoint folder of `family`. Raises `CheckpointError` where its files are missing or
    disagree."""
    config = read_config(folder)
    image_config = read_image_settings(folder)
    image_token_id = int(config["image_token_id"])
    chat = open_chat(
        folder,
        family,
        image_token_id=image_token_id,
        end_token=END_OF_TURN,
        # A video's frames take the places of image tokens; its mark is text.
        video_token_id=image_token_id if family.takes_videos else None,
        video_mark=VIDEO_MARK if family.takes_videos else None,
    )
    return TiledProcessor(
        **chat,
        pixel_rule=_pixel_rule(folder, image_config),
        settings=_settings(folder, config, image_config, chat["maker"]),
    )


def _settings(
    folder: Path, config: Mapping[str, Any], image_config: Mapping[str, Any], maker: LayoutMaker
) -> TileSettings:
    vision = config["vision_config"]
    tile, longest = (int(image_config[name]["longest_edge"]) for name in ("max_image_size", "size"))
    vectors = (tile // int(vision["patch_size"])) ** 2 // int(config["scale_factor"]) ** 2
    videos = read_video_settings(folder)
    check_steps(folder, videos, VIDEO_FILE)
    check_agreement(
        folder,
        ("max_image_size", tile, vision["image_size"]),
        ("image_seq_len", image_seq_len(folder, vectors), vectors),
    )
    return TileSettings(
        tile=tile,
        longest=longest,
        patch=int(vision["patch_size"]),
        tile_tokens=vectors,
        split=bool(image_config.get("do_image_splitting", True)),
        marks=_marks(maker, tile, longest),
        whole_mark=maker.literal_tokens(f"\n\n{AROUND}{WHOLE}"),
        video_longest=video_longest(folder, videos, image_config),
    )


def _marks(maker: LayoutMaker, tile: int, longest: int) -> tuple[tuple[int, ...], ...]:
    """`TileSettings.marks` of all tiles that there can be."""
    most = range(math.ceil(min(longest, IDEFICS3_LONGEST) / tile))
    return tuple(tuple(_mark_tokens(maker, row, column) for column in most) for row in most)


def _mark_tokens(maker: LayoutMaker, row: int, column: int) -> int:
    if row == column == 0:
        return 0
    return maker.literal_tokens(("" if column else "\n") + _mark(row, column))


def image_seq_len(folder: Path, otherwise: int) -> int:
    """Vectors of a tile or piece, as processor_config.json says, where it does."""
    file = folder / "processor_config.json"
    return int(read_json(file).get("image_seq_len", otherwise)) if file.is_file() else otherwise


def _pixel_rule(folder: Path, image_config: Mapping[str, Any]) -> PixelRule:
    """Lanczos by Pillow: torch has that filter from 2.13 on and only on a CPU, and
    transformers falls back to bicubic below. The torchvision processor (torch 2.13, torchvision
    0.28) differs from this in 1 to 4 % of bytes by at most 12, on noise; mostly by 1 or 2."""
    if image_config.get("resample", LANCZOS) != LANCZOS:
        raise CheckpointError(
            f"{folder}: preprocessor_config.json asks for resample {image_config['resample']}; "
            f"these families are known with {LANCZOS} (Lanczos)"
        )
    check_steps(folder, image_config)
    return PixelRule(
        mean=tuple(image_config["image_mean"]),
        std=tuple(image_config["image_std"]),
        scale=float(image_config.get("rescale_factor", 1 / 255)),
        reference="pil",
        resample="lanczos",
    )


def check_steps(
    folder: Path, settings: Mapping[str, Any], file: str = "preprocessor_config.json"
) -> None:
    """Raise `CheckpointError` where a step is off that every published checkpoint has on."""
    if off := [name for name in STEPS if not settings.get(name, True)]:
        raise CheckpointError(
            f"{folder}: {file} switches off {', '.join(off)}, without which this family is not known"
        )
