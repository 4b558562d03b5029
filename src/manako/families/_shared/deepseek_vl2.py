"""DeepSeek-VL2's pictures, prompt and files: the whole on a tile, then the tiles of the best sheet.

Both are the picture scaled by Pillow into a box and padded with grey in the middle. Each row of
tokens ends with a learned vector, and one more stands between the whole and the sheet; their places
all hold the image token. Source: the authors' public code (deepseek-ai/DeepSeek-VL2, MIT), its
processor and its conversation format `deepseek`.

Legend: H height, W width, t a tile's side, N tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.errors import CheckpointError
from manako.core.example import ImageInput, Pack
from manako.core.family import Family, PixelRule
from manako.core.files import read_json
from manako.core.known_facts import check_facts
from manako.families._shared.checkpoint_files import (
    check_agreement,
    open_tokenizer,
    read_config,
    read_eos_token,
)
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import resize_pillow
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.sizes.sheets import best_sheet, contained

IMAGE = "<image>"
USER, ASSISTANT = "<|User|>", "<|Assistant|>"
GROUNDING = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>")
"""A phrase, the places of what it names, and what asks for them: a content may hold these."""
ANSWER_HEAD = f"{ASSISTANT}:"
MOST_TILED = 2
"""Pictures of a conversation up to which each is cut up."""
BICUBIC = 3
"""Pillow's number of the filter that `ImageOps.pad` takes where none is named."""
HALVES = (0.5, 0.5, 0.5)
FILES = ("processor_config.json", "preprocessor_config.json")
"""Picture settings: the published name, and that of transformers."""

CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- set turn = namespace(text='') -%}"
    "{%- if message.content is string -%}{%- set turn.text = message.content -%}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'text' -%}{%- set turn.text = turn.text + part.text -%}"
    "{%- elif part.type == 'image' and message.role == 'user' -%}"
    "{%- set turn.text = turn.text + '<image>' -%}"
    "{%- if not loop.last and not (loop.nextitem.text | default('')).startswith('\\n') -%}"
    "{%- set turn.text = turn.text + '\\n' -%}{%- endif -%}"
    "{%- else -%}"
    "{{- raise_exception('a ' + message.role + ' turn takes no ' + part.type) -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- set text = turn.text | trim -%}"
    "{%- if message.role == 'user' -%}"
    "{{- '<|User|>:' -}}{%- if text -%}{{- ' ' + text + '\\n\\n' -}}{%- endif -%}"
    "{%- if add_generation_prompt or not loop.last -%}{{- '<|Assistant|>:' -}}{%- endif -%}"
    "{%- elif message.role == 'assistant' -%}{{- text + eos_token -}}"
    "{%- elif message.role == 'system' and loop.first -%}{{- text -}}"
    "{%- else -%}"
    "{{- raise_exception('a ' + message.role + ' turn cannot stand here') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""For the published checkpoints, which have none. In the authors' format the caller writes `<image>`
and the line break after it; here a break follows each picture that is not the last thing in its
turn, unless the text after it begins with one. The head of an answer ends with a colon and no
blank."""


@dataclass(frozen=True, kw_only=True)
class TileSettings:
    """tile, patch: sides in pixels; side: tokens along a tile; sheets: (columns, rows) of tiles, in
    the order in which they are tried; fill: the grey level of padding."""

    tile: int
    patch: int
    side: int
    sheets: tuple[tuple[int, int], ...]
    fill: int = 127


def tile_cost(width: int, height: int, settings: TileSettings, *, is_cut: bool = True) -> ImageCost:
    """grid: columns and rows of tiles; size: that of the sheet. is_cut: whether there are few
    enough pictures. Raises `ImageError` for a picture that is nothing in a tile."""
    contained(width, height, (settings.tile, settings.tile))
    sheet = best_sheet(settings.sheets, width, height, tile=settings.tile) if is_cut else (1, 1)
    columns, rows = sheet[0] * settings.side, sheet[1] * settings.side
    whole = settings.side * (settings.side + 1)
    return ImageCost(
        size=(sheet[0] * settings.tile, sheet[1] * settings.tile),
        grid=sheet,
        tokens=whole + 1 + rows * (columns + 1),
        patches=(1 + sheet[0] * sheet[1]) * (settings.tile // settings.patch) ** 2,
        rows=rows,
        columns=columns,
    )


@dataclass(frozen=True, kw_only=True)
class TileProcessor(ChatProcessor):
    """DeepSeek-VL2 opened on a checkpoint folder."""

    settings: TileSettings

    def cost(self, width: int, height: int) -> ImageCost:
        return tile_cost(width, height, self.settings)

    def costs(self, sizes: Sequence[tuple[int, int]]) -> list[ImageCost]:
        is_cut = len(sizes) <= MOST_TILED
        return [tile_cost(*size, self.settings, is_cut=is_cut) for size in sizes]

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """The sheet, grey where the picture does not reach."""
        return _padded(pixels_HWC, cost.size, self.settings.fill)

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, 3, t, t]: the whole, then the tiles of the sheet row by row."""
        tile, (columns, rows) = self.settings.tile, cost.grid
        whole_HWC = _padded(pixels_HWC, (tile, tile), self.settings.fill)
        cut = self.resize(pixels_HWC, cost).reshape(rows, tile, columns, tile, 3)
        tiles = cut.transpose(0, 2, 4, 1, 3).reshape(-1, 3, tile, tile)
        return np.concatenate([whole_HWC.transpose(2, 0, 1)[None], tiles])

    def image_inputs(self, images: Sequence[ImageInput]) -> dict[str, NDArray[Any]]:
        sheets = np.array([image.grid for image in images], dtype=np.int64)
        return {**super().image_inputs(images), "images_spatial_crop": sheets}

    def token_inputs(self, pack: Pack) -> dict[str, NDArray[Any]]:
        """The places of the pictures' vectors."""
        return {"images_seq_mask": (pack.input_ids == self.image_token_id)[None]}


def _padded(pixels_HWC: NDArray[np.uint8], box: tuple[int, int], fill: int) -> NDArray[np.uint8]:
    """Scaled into a box of (width, height) and set in its middle; a half is rounded to even.

    Source: `ImageOps.pad`, Pillow 13 (MIT-CMU).
    """
    height, width = pixels_HWC.shape[:2]
    inner = contained(width, height, box)
    scaled_HWC = resize_pillow(pixels_HWC, *inner, resample=BICUBIC)
    if inner == box:
        return scaled_HWC
    left, top = round((box[0] - inner[0]) * 0.5), round((box[1] - inner[1]) * 0.5)
    box_HWC = np.full((box[1], box[0], 3), fill, dtype=np.uint8)
    box_HWC[top : top + inner[1], left : left + inner[0]] = scaled_HWC
    return box_HWC


def open_deepseek_vl2(folder: Path, family: Family) -> TileProcessor:
    """Open a checkpoint folder. Raises `CheckpointError` where its files are missing or disagree."""
    config = read_config(folder)
    pictures, file = _read_pictures(folder)
    _check_config(folder, config)
    _check_pictures(folder, pictures, file)
    rule = PixelRule(mean=HALVES, std=HALVES, reference="pil")
    return TileProcessor(
        **open_chat(
            folder,
            family,
            image_token_id=_image_token_id(folder),
            template=CHAT_TEMPLATE,
            end_token=read_eos_token(folder),
            breaks=(ANSWER_HEAD,),
            spoken=GROUNDING,
        ),
        pixel_rule=rule,
        settings=_settings(folder, config, pictures, file, fill=int(rule.mean[0] * 255)),
    )


def why_not(config: Mapping[str, Any]) -> str:
    """Tells DeepSeek-VL2 from DeepSeek-OCR and OCR 2, which have the same model_type."""
    vision = config.get("vision_config")
    tower = vision.get("model_name") if isinstance(vision, Mapping) else None
    if tower is None:
        return "it names no vision tower (vision_config.model_name)"
    if tower != TOWER:
        of = f", that of {OTHERS[tower]}" if tower in OTHERS else ""
        return f"its vision tower is {tower}{of}; expected {TOWER}"
    kind = (config.get("projector_config") or {}).get("projector_type", PROJECTOR)
    if kind != PROJECTOR:
        of = ", that of DeepSeek-OCR" if kind == "linear" else ""
        return f"its projector is {kind}{of}; expected {PROJECTOR}"
    return ""


TOWER = "siglip_so400m_patch14_384"
OTHERS = {"deeplip_b_l": "DeepSeek-OCR", "deepencoderv2": "DeepSeek-OCR 2"}
PROJECTOR = "downsample_mlp_gelu"


def _read_pictures(folder: Path) -> tuple[dict[str, Any], str]:
    """Picture settings, and the file that has them."""
    for name in FILES:
        if (folder / name).is_file():
            found = read_json(folder / name)
            if not isinstance(found, dict):
                raise CheckpointError(f"{folder / name} holds no JSON object")
            return found, name
    raise CheckpointError(
        f"{folder} has neither {FILES[0]} nor {FILES[1]}",
        next_step="copy the processor files of the model into the folder",
    )


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where vectors are laid out in a way that no published size has."""
    check_agreement(
        folder,
        ("tile_tag", config.get("tile_tag"), "2D"),
        ("global_view_pos", config.get("global_view_pos", "head"), "head"),
        files=("config.json", "the authors' code for the published sizes"),
    )


def _check_pictures(folder: Path, pictures: Mapping[str, Any], file: str) -> None:
    """Raise `CheckpointError` where pixels or prompt are made in a way that no published size has."""
    check_facts(
        f"{folder}: {file}",
        ("image_mean", tuple(pictures.get("image_mean", HALVES)), HALVES),
        ("image_std", tuple(pictures.get("image_std", HALVES)), HALVES),
        ("normalize", pictures.get("normalize", True), True),
        ("image_token", pictures.get("image_token", IMAGE), IMAGE),
        ("sft_format", pictures.get("sft_format", "deepseek"), "deepseek"),
    )


def _image_token_id(folder: Path) -> int:
    """Of the tokenizer. Raises `CheckpointError` where it lacks a token that the prompt needs."""
    tokenizer = open_tokenizer(folder)
    added = {token.content for token in tokenizer.added().values()}
    if missing := [token for token in (IMAGE, USER, ASSISTANT, *GROUNDING) if token not in added]:
        raise CheckpointError(
            f"{folder}: tokenizer.json has no control token {', '.join(missing)}",
            next_step="take tokenizer.json from the model's own repository; the authors' code adds "
            "such tokens itself where they are missing: save its tokenizer once",
        )
    found = tokenizer.id_of(IMAGE)
    assert found is not None
    return found


def _settings(
    folder: Path, config: Mapping[str, Any], pictures: Mapping[str, Any], file: str, *, fill: int
) -> TileSettings:
    """Sizes of a checkpoint's files. Raises `CheckpointError` where they disagree."""
    vision, projector = config["vision_config"], config.get("projector_config") or {}
    tile, patch = int(vision.get("image_size", 384)), int(vision.get("patch_size", 14))
    ratio = int(projector.get("downsample_ratio", 2))
    known = [tuple(size) for size in config.get("candidate_resolutions") or ((tile, tile),)]
    found = [tuple(size) for size in pictures.get("candidate_resolutions", known)]
    check_agreement(
        folder,
        ("candidate_resolutions", found, known),
        ("the side of a tile", found[0][0], tile),
        ("patch_size", pictures.get("patch_size", patch), patch),
        ("downsample_ratio", pictures.get("downsample_ratio", ratio), ratio),
        files=(file, "config.json"),
    )
    if any(side % tile for size in known for side in size):
        raise CheckpointError(
            f"{folder}: candidate_resolutions has sides that are no multiple of a tile's {tile}",
            next_step="take config.json from the model's own repository",
        )
    return TileSettings(
        tile=tile,
        patch=patch,
        side=-(-(tile // patch) // ratio),
        sheets=tuple((width // tile, height // tile) for width, height in known),
        fill=fill,
    )
