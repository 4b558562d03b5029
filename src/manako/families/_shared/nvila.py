"""NVILA-Lite's pictures, prompt and files: tiles of the grid nearest a picture's shape, each with a
line break.

One picture alone is cut up, the whole comes last, and a further line break of the text follows each
tile; of several pictures each is one tile. Source: the authors' public code (NVlabs/VILA, Apache-2.0,
`llava/remote_code` and `scripts/NVILA-Lite`), and the cards of turing-motors/Heron-NVILA-Lite.

Legend: H height, W width, t a tile's side, N tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manako.core.conversation import Conversation, Image, Text
from manako.core.errors import CheckpointError
from manako.core.family import Family, PixelRule
from manako.families._shared.checkpoint_files import (
    check_agreement,
    copy_image_files,
    copy_text_files,
    open_tokenizer,
    read_image_settings,
    read_template,
)
from manako.families._shared.layout import LayoutMaker
from manako.families._shared.opening import open_chat
from manako.families._shared.pixels import resize_pillow
from manako.families._shared.processor import ChatProcessor, ImageCost
from manako.families._shared.render import Renderer
from manako.families._shared.sizes._rule import closest_grid, grids_by_size
from manako.families._shared.template import ChatTemplate

IMAGE, END_OF_TURN = "<image>", "<|im_end|>"
PROJECTOR, TOWER, LANGUAGE = "mlp_downsample_2x2_fix", "siglip_vision_model", ("qwen2", "llama")
BICUBIC = 3
"""Pillow's number for the filter, as preprocessor_config.json writes it."""
DYNAMIC = "dynamic"
MIN_TILES, MAX_TILES = 1, 12
"""Of NVILA-Lite, where config.json does not say."""
ASSUMED = (
    "assumed layout: a flat Heron (-hf) was never seen by Manako's makers; names are those of NVIDIA's "
    "NVILA-Lite-hf"
)
WHOLE = (0, 0)
"""Grid of a picture that is one of several."""


@dataclass(frozen=True, kw_only=True)
class NvilaSettings:
    """tile, patch: sides in pixels; side: tokens along a tile; newline_id: the line break that
    stands behind each tile; min_tiles, max_tiles: of a grid, the whole not counted."""

    tile: int
    patch: int
    side: int
    newline_id: int
    min_tiles: int = MIN_TILES
    max_tiles: int = MAX_TILES


def tile_cost(width: int, height: int, settings: NvilaSettings) -> ImageCost:
    """Of a picture that is alone. grid: columns and rows of tiles. tokens: from the first tile's
    first vector to the last tile's line break; the text's own break behind it belongs to the text.
    """
    grids = grids_by_size(settings.min_tiles, settings.max_tiles)
    columns, rows = closest_grid(grids, width, height, tile=settings.tile)
    tiles = _tiles((columns, rows))
    return ImageCost(
        size=(columns * settings.tile, rows * settings.tile),
        grid=(columns, rows),
        tokens=tiles * (settings.side**2 + 2) - 1,
        patches=tiles * (settings.tile // settings.patch) ** 2,
        rows=rows * settings.side,
        columns=columns * settings.side,
    )


def whole_cost(settings: NvilaSettings) -> ImageCost:
    """Of each of several pictures."""
    return ImageCost(
        size=(settings.tile, settings.tile),
        grid=WHOLE,
        tokens=settings.side**2 + 1,
        patches=(settings.tile // settings.patch) ** 2,
        rows=settings.side,
        columns=settings.side,
    )


def _tiles(grid: Sequence[int]) -> int:
    cut = grid[0] * grid[1]
    return cut + 1 if cut > 1 else 1


@dataclass(frozen=True, kw_only=True)
class NvilaProcessor(ChatProcessor):
    """A checkpoint folder of NVILA-Lite.

    text_folder, image_folder: where it keeps the tokenizer, and picture settings; names inside it.
    """

    settings: NvilaSettings
    text_folder: str = ""
    image_folder: str = ""
    template_file: str = ""

    def cost(self, width: int, height: int) -> ImageCost:
        return tile_cost(width, height, self.settings)

    def costs(self, sizes: Sequence[tuple[int, int]]) -> list[ImageCost]:
        if len(sizes) > 1:
            return [whole_cost(self.settings) for _ in sizes]
        return super().costs(sizes)

    def image_text(self, cost: ImageCost) -> str | None:
        return None if cost.grid == WHOLE else f"{IMAGE}\n" * _tiles(cost.grid)

    def join_texts(self, conversation: Conversation, costs: Sequence[ImageCost]) -> tuple[str, ...]:
        """A picture at the end of its turn has no line break behind its last tile: the authors'
        code cuts blanks off a turn when tiles are written already."""
        texts = super().join_texts(conversation, costs)
        if len(texts) != 1 or not _ends_a_turn(conversation):
            return texts
        return (texts[0].removesuffix("\n"),)

    def image_runs(self, cost: ImageCost) -> list[list[int]]:
        """For each tile, its vectors' places and a line break."""
        assert self.image_token_id is not None
        run = [self.image_token_id] * self.settings.side**2 + [self.settings.newline_id]
        return [run] * _tiles(cost.grid)

    def resize(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[np.uint8]:
        """The grid of tiles; the picture's shape is not kept exactly."""
        return resize_pillow(pixels_HWC, *cost.size, resample=BICUBIC)

    def prepare(self, pixels_HWC: NDArray[np.uint8], cost: ImageCost) -> NDArray[Any]:
        """uint8 [N, 3, t, t]: tiles row by row, then the whole where there are several."""
        tile = self.settings.tile
        sheet_HWC = self.resize(pixels_HWC, cost)
        rows, columns = (side // tile for side in sheet_HWC.shape[:2])
        cut = sheet_HWC.reshape(rows, tile, columns, tile, 3).transpose(0, 2, 4, 1, 3)
        tiles = cut.reshape(-1, 3, tile, tile)
        if len(tiles) == 1:
            return np.ascontiguousarray(tiles)
        whole_HWC = resize_pillow(pixels_HWC, tile, tile, resample=BICUBIC)
        return np.concatenate([tiles, whole_HWC.transpose(2, 0, 1)[None]])

    @property
    def notes(self) -> tuple[str, ...]:
        return () if self.text_folder else (ASSUMED,)

    def save(self, folder: Path) -> None:
        for name in (self.text_folder, self.image_folder):
            (folder / name).mkdir(parents=True, exist_ok=True)
        copy_text_files(self.folder / self.text_folder, folder / self.text_folder)
        copy_image_files(self.folder / self.image_folder, folder / self.image_folder)
        if self.template_file:
            text = (self.folder / self.template_file).read_text(encoding="utf-8")
            (folder / self.template_file).write_text(text, encoding="utf-8")


def _ends_a_turn(conversation: Conversation) -> bool:
    """Whether nothing but blanks follows the only picture in its turn."""
    contents = next(m.content for m in conversation.messages if _has_image(m.content))
    place = next(i for i, part in enumerate(contents) if isinstance(part, Image))
    return all(isinstance(p, Text) and not p.text.strip() for p in contents[place + 1 :])


def _has_image(contents: Sequence[Any]) -> bool:
    return any(isinstance(part, Image) for part in contents)


def why_not(config: Mapping[str, Any]) -> str:
    """Tells NVILA-Lite as Heron has it from other NVILA: the first thing that is different."""
    if config.get("s2") or config.get("dynamic_s2") or config.get("image_aspect_ratio") in S2:
        return "it is an NVILA that looks at pictures in several scales (S2), which Heron does not"
    found = [
        ("image_aspect_ratio", config.get("image_aspect_ratio") or DYNAMIC, (DYNAMIC,)),
        ("mm_vision_select_feature", config.get("mm_vision_select_feature", ALL), (ALL,)),
        ("the projector", _projector(config), (PROJECTOR,)),
        ("the vision tower", _kind(config, "vision_config", "vision_tower_cfg", TOWER), (TOWER,)),
        ("the language model", _kind(config, "text_config", "llm_cfg", LANGUAGE[0]), LANGUAGE),
    ]
    for what, value, expected in found:
        if value not in expected:
            of = OTHER_PROJECTORS.get(str(value), "")
            return f"{what} is {value!r}{of}, expected {' or '.join(expected)}"
    return ""


S2 = ("s2", "dynamic_s2")
ALL = "cls_patch"
OTHER_PROJECTORS = {
    "mlp_downsample_3x3_fix": " (that of NVIDIA's own NVILA-Lite, which joins 3 × 3 patches)",
    "mlp_downsample": " (the same weights, and tokens in another order)",
}


def _projector(config: Mapping[str, Any]) -> Any:
    own = config.get("mm_projector_cfg")
    named = own.get("mm_projector_type") if isinstance(own, Mapping) else None
    return named or config.get("mm_projector_type") or PROJECTOR


def _kind(config: Mapping[str, Any], own: str, published: str, otherwise: str) -> Any:
    found = config.get(own) or config.get(published)
    return found.get("model_type", otherwise) if isinstance(found, Mapping) else otherwise


def open_nvila(folder: Path, family: Family) -> NvilaProcessor:
    """Open a checkpoint folder of either layout. Raises `CheckpointError` where its files are
    missing or disagree, or are those of another NVILA."""
    config = family.read_config(folder)
    if reason := why_not(config):
        raise CheckpointError(
            f"{folder} is no NVILA-Lite as Heron has it: {reason}",
            next_step="choose one of turing-motors/Heron-NVILA-Lite-1B, -2B, -15B and -33B",
        )
    text_folder, image_folder = _folders(folder, config, family)
    opened, named = _open_text(text_folder, config, folder, family)
    pictures = read_image_settings(image_folder)
    return NvilaProcessor(
        **{**opened, "folder": folder},
        pixel_rule=_pixel_rule(image_folder, pictures),
        settings=_settings(folder, config, pictures, opened["tokenizer"]),
        text_folder=_inside(text_folder, folder),
        image_folder=_inside(image_folder, folder),
        template_file=_inside(named, folder) if named else "",
    )


def _inside(path: Path, folder: Path) -> str:
    found = path.relative_to(folder).as_posix()
    return "" if found == "." else found


def _folders(folder: Path, config: Mapping[str, Any], family: Family) -> tuple[Path, Path]:
    """Of the tokenizer and of picture settings."""
    if family.has_part_folders(folder):
        return folder / family.part_folders[0], folder / family.part_folders[1]
    if not any(isinstance(config.get(name), Mapping) for name in ("text_config", "llm_cfg")):
        raise CheckpointError(
            f"{folder} has none of the folders "
            f"{', '.join(f'{name}/' for name in family.part_folders)}, and its config.json describes "
            f"no language model either{_code_of(folder)}",
            next_step="copy the three folders of the model beside its config.json",
        )
    return folder, folder


def _code_of(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.py"))
    return f" (found: {', '.join(names)}: code, which is never run)" if names else ""


def _open_text(
    text_folder: Path, config: Mapping[str, Any], folder: Path, family: Family
) -> tuple[dict[str, Any], Path | None]:
    """Fields of `ChatProcessor`, and the file of the template where config.json names one."""
    tokenizer = open_tokenizer(text_folder)
    token_id = tokenizer.id_of(IMAGE)
    if token_id is None:
        raise CheckpointError(
            f"{text_folder}/tokenizer.json has no token {IMAGE}",
            next_step="take all tokenizer files from the model's own repository",
        )
    named = config.get("image_token_id")
    check_agreement(
        folder,
        (f"the id of {IMAGE}", token_id, token_id if named is None else named),
        files=("tokenizer.json", "config.json"),
    )
    template, file = _template(text_folder, config, folder)
    opened = open_chat(
        text_folder,
        family,
        image_token_id=token_id,
        template=template.source,
        end_token=END_OF_TURN if tokenizer.id_of(END_OF_TURN) is not None else None,
    )
    maker = LayoutMaker(
        Renderer(template, image_text=IMAGE, trims=True),
        opened["tokenizer"],
        image_mark=IMAGE,
        end_ids=opened["end_ids"],
    )
    return {**opened, "maker": maker}, file


def _template(
    text_folder: Path, config: Mapping[str, Any], folder: Path
) -> tuple[ChatTemplate, Path | None]:
    """That of the tokenizer, or the file that config.json names (`chat_template`), of which the
    authors' code drops indents and line ends."""
    name = config.get("chat_template")
    if not isinstance(name, str) or not name:
        return read_template(text_folder), None
    file = folder / f"{name}.jinja"
    if Path(name).name != name or not file.is_file():
        raise CheckpointError(
            f"{folder}: config.json names the chat template {name!r}, and there is no {name}.jinja",
            next_step=f"copy {name}.jinja beside config.json (the authors' code keeps it in "
            "chat_templates/)",
        )
    source = file.read_text(encoding="utf-8").replace("    ", "").replace("\n", "")
    special = read_template(text_folder, otherwise=source).special
    return ChatTemplate(source, bos=special["bos_token"], eos=special["eos_token"]), file


def _pixel_rule(folder: Path, pictures: Mapping[str, Any]) -> PixelRule:
    check_agreement(
        folder,
        ("resample", pictures.get("resample", BICUBIC), BICUBIC),
        ("do_convert_rgb", pictures.get("do_convert_rgb") is False, False),
        files=("preprocessor_config.json", "the authors' code"),
    )
    return PixelRule(
        mean=tuple(pictures["image_mean"]),
        std=tuple(pictures["image_std"]),
        scale=float(pictures.get("rescale_factor", 1 / 255)),
        reference="pil",
    )


def _settings(
    folder: Path, config: Mapping[str, Any], pictures: Mapping[str, Any], tokenizer: Any
) -> NvilaSettings:
    """Sizes of a checkpoint's files. Raises `CheckpointError` where they disagree."""
    vision = config.get("vision_config") or config.get("vision_tower_cfg") or {}
    text = config.get("text_config") or config.get("llm_cfg") or {}
    tile, patch = int(vision["image_size"]), int(vision["patch_size"])
    size = pictures.get("size") or {}
    check_agreement(
        folder,
        ("the side of a tile", (size.get("height"), size.get("width")), (tile, tile)),
        (
            "hidden_size",
            text.get("hidden_size"),
            config.get("hidden_size", text.get("hidden_size")),
        ),
        (
            "mm_hidden_size",
            vision.get("hidden_size"),
            config.get("mm_hidden_size", vision.get("hidden_size")),
        ),
        files=("the files of its parts", "config.json"),
    )
    least, most = (
        int(config.get(name, otherwise))
        for name, otherwise in (("min_tiles", MIN_TILES), ("max_tiles", MAX_TILES))
    )
    if not 1 <= least <= most:
        raise CheckpointError(f"{folder}: config.json has min_tiles {least} and max_tiles {most}")
    return NvilaSettings(
        tile=tile,
        patch=patch,
        side=-(-(tile // patch) // 2),
        newline_id=_newline_id(folder, tokenizer),
        min_tiles=least,
        max_tiles=most,
    )


def _newline_id(folder: Path, tokenizer: Any) -> int:
    ids, _ = tokenizer.encode("\n", at="inside")
    if len(ids) != 1:
        raise CheckpointError(
            f"{folder}: a line break is {len(ids)} tokens; behind a tile stands one",
            next_step="take all tokenizer files from the model's own repository",
        )
    return int(ids[0])
