"""The token counts of the installed transformers, reached without torchvision.

Where a class needs torchvision only to be imported, the functions that decide sizes are taken out
of its file and run alone.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import logging
import math
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

Size = tuple[int, int]
"""(width, height) in pixels."""


@cache
def taken_out(file: str, *names: str, owner: str = "") -> SimpleNamespace:
    """Functions of a file of transformers' models by name; `owner`: methods of that class."""
    spec = importlib.util.find_spec("transformers")
    assert spec
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "models" / file
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    if owner:
        body = next(n.body for n in body if isinstance(n, ast.ClassDef) and n.name == owner)
    found = [n for n in body if isinstance(n, ast.FunctionDef) and n.name in names]
    for function in found:
        function.decorator_list = []
    assert len(found) == len(names), f"{path}: {names}"
    code = compile(ast.Module(found, []), str(path), "exec", annotations.compiler_flag, True)
    values: dict[str, Any] = {
        "math": math,
        "torch": torch,
        "np": np,
        "itertools": itertools,
        "defaultdict": defaultdict,
        "logger": logging.getLogger(__name__),
    }
    exec(code, values)  # noqa: S102 - the installed library's own functions
    return SimpleNamespace(**{name: values[name] for name in names}, values=values)


def blank(size: Size) -> np.ndarray[Any, Any]:
    """A picture [3, height, width] that takes no memory."""
    return np.broadcast_to(np.zeros((), np.uint8), (3, size[1], size[0]))


def qwen(size: Size, **settings: int) -> int:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    rows, columns = smart_resize(size[1], size[0], **settings)
    return int(rows * columns // settings["factor"] ** 2)


def glm4v(size: Size, *, model: str, factor: int, min_pixels: int, max_pixels: int) -> int:
    if model == "glm4v":
        from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize
    else:
        from transformers.models.glm46v.image_processing_pil_glm46v import smart_resize
    rows, columns = smart_resize(
        2, size[1], size[0], factor=factor, min_pixels=min_pixels, max_pixels=max_pixels
    )
    return int(rows * columns // factor**2)


def gemma4(size: Size, *, budget: int, file: str) -> int:
    function = taken_out(file, "get_aspect_ratio_preserving_size")
    rows, columns = function.get_aspect_ratio_preserving_size(
        size[1], size[0], patch_size=16, max_patches=budget * 9, pooling_kernel_size=3
    )
    return int(rows * columns // 48**2)


def kimi_k25(size: Size) -> int:
    function = taken_out("kimi_k25/image_processing_kimi_k25.py", "navit_resize")
    _, (rows, columns) = function.navit_resize(size[1], size[0], 14, 2, 16_384, 512)
    return int(rows * columns // 28**2)


def pixtral(size: Size, *, cell: int, longest: int, has_breaks: bool = True) -> int:
    from transformers.models.pixtral.image_processing_pil_pixtral import (
        get_resize_output_image_size,
    )

    height, width = get_resize_output_image_size(blank(size), longest, cell)
    if 0 in (height, width):
        raise ValueError("height and width must be > 0")  # what resizing to it raises
    return int(height // cell * (width // cell + has_breaks))


def llava_next(size: Size) -> int:
    from transformers.models.llava_next.image_processing_pil_llava_next import (
        LlavaNextImageProcessorPil,
    )
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

    processor = object.__new__(LlavaNextProcessor)
    processor.image_processor = LlavaNextImageProcessorPil
    processor.patch_size, processor.num_additional_image_tokens = 14, 1
    return int(processor._get_number_of_features(size[1], size[0], 336, 336)) - 1


def llava_onevision(size: Size) -> int:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )
    from transformers.models.llava_onevision.processing_llava_onevision import (
        LlavaOnevisionProcessor,
    )

    processor = object.__new__(LlavaOnevisionProcessor)
    processor.image_processor = LlavaOnevisionImageProcessorPil
    processor.num_image_tokens, processor.vision_aspect_ratio = 729, "anyres_max_9"
    return int(processor._get_number_of_features(size[1], size[0], 384, 384))


def deepseek_vl2(size: Size) -> int:
    """The published candidates in their order, chosen by transformers' rule of the same family."""
    from PIL import Image, ImageOps
    from transformers.image_processing_utils import select_best_resolution

    if not min(ImageOps.contain(Image.new("1", size), (384, 384)).size):
        raise ValueError("height and width must be > 0")  # as Pillow 12.0 says itself
    sides = (
        11,
        12,
        21,
        13,
        31,
        14,
        41,
        22,
        15,
        51,
        16,
        61,
        23,
        32,
        17,
        71,
        18,
        81,
        24,
        42,
        19,
        91,
        33,
    )
    candidates = [(n % 10 * 384, n // 10 * 384) for n in sides]
    height, width = select_best_resolution(size[::-1], candidates)
    rows, columns = height // 384, width // 384
    return int(14 * 15 + 1 + rows * 14 * (columns * 14 + 1))


def internvl(size: Size, *, tile: int, max_tiles: int = 12) -> int:
    """Tiles."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
        GotOcr2ImageProcessorPil,
    )

    settings = {
        "crop_to_patches": True,
        "max_patches": max_tiles,
        "patch_size": {"height": tile, "width": tile},
    }
    self = SimpleNamespace(min_patches=1, max_patches=12, size=None, crop_to_patches=True)
    return int(
        GotOcr2ImageProcessorPil.get_number_of_image_patches(self, size[1], size[0], settings)
    )


def lfm2_vl(size: Size) -> int:
    file = "lfm2_vl/image_processing_lfm2_vl.py"
    names = ("_target_ratios", "_get_grid_layout", "smart_resize", "_is_image_too_large")
    methods = taken_out(file, *names, owner="Lfm2VlImageProcessor")
    methods.values |= vars(taken_out(file, "round_by_factor", "find_closest_aspect_ratio"))
    self = SimpleNamespace(
        _target_ratios=lambda least, most: methods._target_ratios(0, least, most)
    )
    width, height = methods.smart_resize(self, size[1], size[0], 2, 64, 256, 16)
    whole = math.ceil(width // 16 / 2) * math.ceil(height // 16 / 2)
    if not methods._is_image_too_large(self, size[1], size[0], 256, 16, 2, 2.0):
        return whole
    columns, rows, *_ = methods._get_grid_layout(self, size[1], size[0], 2, 10, 512)
    return int(columns * rows * 256 + whole)


def phi4(size: Size) -> int:
    file = "phi4_multimodal/image_processing_phi4_multimodal.py"
    names = ("dynamic_preprocess", "find_closest_aspect_ratio")
    methods = taken_out(file, *names, owner="Phi4MultimodalImageProcessor")
    unchanged = SimpleNamespace(resize=lambda image, *_: image, pad=lambda image, *_, **__: image)
    methods.values["tvF"] = unchanged
    self = SimpleNamespace(
        find_closest_aspect_ratio=lambda *v: methods.find_closest_aspect_ratio(0, *v)
    )
    picture = SimpleNamespace(shape=(3, size[1], size[0]), device="cpu")
    _, mask = methods.dynamic_preprocess(self, picture, 448, 14, 32)
    kept = mask[0::2, 0::2]  # 32 is even, so crops keep their own even cells
    return int(256 + 1 + kept.sum().item() + kept[:, 0].sum().item() + 16)


def idefics2(size: Size, *, split: bool) -> int:
    from transformers.models.idefics2.image_processing_pil_idefics2 import (
        Idefics2ImageProcessorPil,
    )

    processor = Idefics2ImageProcessorPil(do_image_splitting=split)
    return 64 * int(processor([blank(size)], return_tensors="np")["pixel_values"].shape[1])


def idefics3(size: Size, *, tile: int, longest: int, model: str) -> int:
    """Tiles; every step of the real processor, on pictures that have a shape alone."""
    from transformers.image_processing_backends import PilBackend
    from transformers.image_utils import SizeDict

    if model == "idefics3":
        from transformers.models.idefics3.image_processing_pil_idefics3 import (
            Idefics3ImageProcessorPil as Processor,
        )
    else:
        from transformers.models.smolvlm.image_processing_pil_smolvlm import (
            SmolVLMImageProcessorPil as Processor,
        )

    def shape_alone(_: Any, image: Any, size: Any, **__: Any) -> np.ndarray[Any, Any]:
        return blank((size.width, size.height))

    real, PilBackend.resize = PilBackend.resize, shape_alone
    try:
        processor = Processor()
        picture = processor.resize(blank(size), SizeDict(longest_edge=longest))
        picture = processor.resize_for_vision_encoder(picture, tile)
        frames, _, _ = processor.split_images(picture, {"longest_edge": tile})
    finally:
        PilBackend.resize = real
    return len(frames)


def llama4(size: Size) -> int:
    file = "llama4/image_processing_llama4.py"
    functions = taken_out(file, "get_factors", "find_supported_resolutions", "get_best_fit")
    grids = functions.find_supported_resolutions(16, SimpleNamespace(height=336, width=336))
    height, width = functions.get_best_fit(size[::-1], torch.tensor(grids))
    tiles = int(height // 336 * (width // 336))
    return 144 * (tiles + (tiles > 1))


def molmo2(size: Size) -> int:
    file = "molmo2/image_processing_molmo2.py"
    functions = taken_out(file, "select_tiling", "compute_crop_geometry")
    methods = taken_out(file, "get_image_grid_and_crops", owner="Molmo2ImageProcessor")
    methods.values["compute_crop_geometry"] = functions.compute_crop_geometry
    self = SimpleNamespace(
        max_crops=8,
        overlap_margins=[4, 4],
        patch_size=14,
        pooling_size=[2, 2],
        size={"height": 378, "width": 378},
    )
    grid, _ = methods.get_image_grid_and_crops(self, size[1], size[0])
    strings = taken_out(
        "molmo2/processing_molmo2.py", "replace_image_token", owner="Molmo2Processor"
    )
    self = SimpleNamespace(
        image_use_col_tokens=True, use_single_crop_col_tokens=None, use_single_crop_start_token=True
    )
    text = strings.replace_image_token(self, {"image_grids": [grid]}, 0)
    return int(text.count("<im_patch>") + text.count("<im_col>"))


def minicpm_v4_6(size: Size) -> int:
    from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import (
        MiniCPMV4_6ImageProcessorPil,
    )

    processor = object.__new__(MiniCPMV4_6ImageProcessorPil)
    grid = processor.get_sliced_grid(size[::-1], 9, 448)
    height, width = processor.find_best_resize(size[::-1], 448, 14, "16x", grid is None)
    tokens = height // 14 * (width // 14) // 16
    if grid is not None:
        height, width = processor.get_refine_size(size[::-1], grid, 448, 14, "16x", True)
        piece = height // grid[0] // 14 * (width // grid[1] // 14) // 16
        tokens += grid[0] * grid[1] * piece
    return int(tokens)
